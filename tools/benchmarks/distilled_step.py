"""What distillation costs per training step, beside the student's step and the teacher's forward.

The blood-cell detector learns from one of its own kind by the pairs of fcos_spos_bccd_distill, and
by a term that reads the student's assignment. A distilled step and the sum of its parts (a plain
step, the teacher's forward pass in evaluation mode without gradients) take turns.

    python tools/benchmarks/distilled_step.py --rounds 40

takes about a minute on two cores and prints one JSON line; times are the process's own CPU time.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core.compute import Compute  # noqa: E402
from razorlite.distill import (  # noqa: E402
    PKD,
    DistilledStep,
    Distiller,
    DistillPair,
    Scene,
    SigmoidKL,
    Term,
)
from razorlite.engine.optim import build_optimizer  # noqa: E402
from razorlite.engine.steps import Step, plain_step  # noqa: E402
from razorlite.engine.update import Update  # noqa: E402
from razorlite.structures import Batch, Target  # noqa: E402

CONFIG = ROOT / "configs/fcos/fcos_shufflenetv2_bccd.yaml"


class AssignedCentres(Term):
    """Centre-ness logits where the student's head has assigned objects."""

    student_taps = ("bbox_head", "bbox_head.assign()")
    teacher_taps = ("bbox_head",)

    def forward(self, scene: Scene) -> torch.Tensor:
        """Return the mean squared difference."""
        found = scene.student.assignment()
        ours, theirs = (
            torch.cat([m.flatten(1) for m in side.raw()[2]], 1)[found.image, found.row]
            for side in (scene.student, scene.teacher)
        )
        return torch.nn.functional.mse_loss(ours.float(), theirs.float())


def distilled(teacher: torch.nn.Module) -> DistilledStep:
    """Return a step with a teacher."""
    logits = DistillPair(student="bbox_head.conv_cls", loss=lambda: SigmoidKL(quality=1), join=True)
    pairs = [DistillPair(student="neck", loss=PKD), logits]
    return DistilledStep(distiller=Distiller(teacher=teacher, pairs=pairs, terms=[AssignedCentres]))


def batch_of(size: int, height: int, width: int) -> Batch:
    """Return noise with ten boxes an image."""
    corners = torch.rand(size, 10, 2) * torch.tensor([width - 60.0, height - 60.0])
    boxes = torch.cat([corners, corners + 20 + 40 * torch.rand(size, 10, 2)], 2)
    targets = [Target(own, torch.randint(3, (10,))) for own in boxes]
    images = torch.randn(size, 3, height, width).contiguous(memory_format=torch.channels_last)
    return Batch(images, targets)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = recipes.build_model(CONFIG).to(memory_format=torch.channels_last).train()
    teacher, batch = copy.deepcopy(model).eval(), batch_of(args.batch_size, 240, 320)
    optimizer = build_optimizer(lambda groups: torch.optim.AdamW(groups, lr=1e-4), model)
    update = Update(optimizer=optimizer, compute=Compute(torch.device("cpu")))
    step = distilled(copy.deepcopy(teacher))

    def timed(own: Step, look: bool) -> float:
        start = time.process_time()
        metrics, _ = update.gradients(own, model, iter([batch]))
        update.prepare(metrics, stop=False)
        update.apply()
        if look:
            with torch.no_grad():
                teacher(batch.inputs)
        return 1000 * (time.process_time() - start)

    rounds = []
    for number in range(-2, args.rounds):
        sides = [(step, False), (plain_step, True)][:: 1 if number % 2 else -1]
        times = {look: timed(own, look) for own, look in sides}
        rounds += [(times[False], times[True])] if number >= 0 else []
    print(json.dumps({**summary(rounds), "threads": args.threads}))


def summary(rounds: list[tuple[float, float]]) -> dict[str, object]:
    """Return medians of the times, and median and quartiles of the paired ratio."""
    lower, median, upper = statistics.quantiles([one / other for one, other in rounds], n=4)
    whole, parts = (round(statistics.median(column), 1) for column in zip(*rounds, strict=True))
    return {
        "rounds": len(rounds),
        "ratio_median": round(median, 4),
        "ratio_quartiles": [round(lower, 4), round(upper, 4)],
        "distilled_step_ms": whole,
        "parts_ms": parts,
    }


if __name__ == "__main__":
    main()
