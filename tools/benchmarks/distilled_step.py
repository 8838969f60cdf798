"""What distillation costs per training step, beside the student's step and the teacher's forward.

The blood-cell student of configs/distill learns from its teacher by a recipe, as in training. A
distilled step and the sum of its parts (a plain step, and the teacher's forward pass without
gradients, as far as the recipe looks at it) take turns. crosskd also sends the student's maps
through the teacher's head, forward and back: that is timed as well, and counted as a part in
`ratio_with_crossed_head`.

    python tools/benchmarks/distilled_step.py --recipes pkd cwd crosskd --rounds 20 --threads 1

takes about two minutes on one core and prints a JSON line for each recipe; times are the process's
own CPU time. With --profile, what a distilled step spends its time on is printed, too.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core.compute import Compute  # noqa: E402
from razorlite.distill import CrossHead, DistilledStep, Distiller, Tap, by_recipe  # noqa: E402
from razorlite.distill.shortened import Shortened  # noqa: E402
from razorlite.engine.optim import build_optimizer  # noqa: E402
from razorlite.engine.steps import Step, StepFunction, plain_step  # noqa: E402
from razorlite.engine.update import Update  # noqa: E402
from razorlite.structures import Batch, Target  # noqa: E402

STUDENT, TEACHER = (
    ROOT / f"configs/distill/fcos_bccd_{name}.yaml" for name in ("student", "teacher")
)
SHAPE = (168, 224)
SIDES = ("distilled", "parts", "crossed")


def batch_of(size: int) -> Batch:
    """Return noise with ten boxes an image."""
    height, width = SHAPE
    corners = torch.rand(size, 10, 2) * torch.tensor([width - 60.0, height - 60.0])
    boxes = torch.cat([corners, corners + 20 + 40 * torch.rand(size, 10, 2)], 2)
    targets = [Target(own, torch.randint(3, (10,))) for own in boxes]
    images = torch.randn(size, 3, height, width).contiguous(memory_format=torch.channels_last)
    return Batch(images, targets)


def forward_of(distiller: Distiller) -> Shortened:
    """Return the teacher, run as far as the terms look at it, with nothing recorded."""
    teacher = distiller.teacher
    assert teacher is not None
    names = {name for term in distiller.parts for name in term.teacher_taps}
    found = (module for n in names for module in Tap.parse(n).find(teacher).values())
    return Shortened(teacher, found)


class Turns:
    """A student and its recipe: a distilled step and its parts, in turns.

    Args:
        recipe: name of the recipe.
        compute: precision and layout of both models.
        size: images in a batch.
    """

    def __init__(self, recipe: str, compute: Compute, size: int) -> None:
        torch.manual_seed(0)
        self.student, teacher = (
            compute.place(recipes.build_model(path)) for path in (STUDENT, TEACHER)
        )
        distiller = by_recipe(recipe, self.student, teacher, shape=SHAPE)
        self.batch, self.compute = batch_of(size), compute
        self.step, self.forward = DistilledStep(distiller=distiller), forward_of(distiller)
        self.student.train()
        optimizer = build_optimizer(
            lambda groups: torch.optim.AdamW(groups, lr=1e-4),
            self.student,
            extra=dict(self.step.named_parameters()),
        )
        self.update = Update(optimizer=optimizer, compute=compute)

    def distilled(self) -> float:
        """Return the milliseconds of a distilled step."""
        return timed(lambda: self._move(self.step))

    def parts(self) -> float:
        """Return the milliseconds of a plain step and of the teacher."""
        return timed(lambda: (self._move(plain_step), self._look()))

    def crossed(self) -> float:
        """Return the milliseconds of the student's maps in the teacher's head; 0 for no such."""
        terms = [term for term in self.step.distiller.parts if isinstance(term, CrossHead)]
        if not terms:
            return 0.0
        with torch.no_grad(), self.compute.autocast():
            maps = self.student.neck(self.student.backbone(self.batch.inputs))
        ours = [terms[0].connector(level.detach()).detach().requires_grad_() for level in maps]
        return timed(lambda: self._cross(tuple(ours)))

    def _cross(self, maps: tuple[torch.Tensor, ...]) -> None:
        with self.compute.autocast():
            found = self.step.distiller.teacher.bbox_head(maps)
        sum(level.float().sum() for kind in found for level in kind).backward()

    def _move(self, step: Step | StepFunction) -> None:
        metrics, _ = self.update.gradients(step, self.student, iter([self.batch]))
        self.update.prepare(metrics, stop=False)
        self.update.apply()

    def _look(self) -> None:
        with torch.no_grad(), self.compute.autocast():
            self.forward(self.batch.inputs)


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds of CPU time that some work takes."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


Round = dict[str, float]


def summary(rounds: list[Round]) -> dict[str, object]:
    """Return medians of the times, and median and quartiles of the paired ratio."""
    ratios = [one["distilled"] / one["parts"] for one in rounds]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    result: dict[str, object] = {
        "rounds": len(rounds),
        "ratio_median": round(median, 4),
        "ratio_quartiles": [round(lower, 4), round(upper, 4)],
    }
    if rounds[0]["crossed"]:
        whole = [one["distilled"] / (one["parts"] + one["crossed"]) for one in rounds]
        result["ratio_with_crossed_head"] = round(statistics.median(whole), 4)
    sides = (side for side in SIDES if rounds[0][side])
    return result | {
        f"{side}_ms": round(statistics.median(one[side] for one in rounds), 1) for side in sides
    }


def measured(turns: Turns, count: int) -> list[Round]:
    """Return rounds of milliseconds by side; the side that begins changes."""
    rounds = []
    for number in range(-2, count):
        order = SIDES[:: 1 if number % 2 else -1]
        times = {side: getattr(turns, side)() for side in order}
        rounds += [times] if number >= 0 else []
    return rounds


def profiled(turns: Turns) -> str:
    """Return a table of what a distilled step spends its CPU time on."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        turns.distilled()
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["pkd", "cwd", "crosskd"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--amp", choices=["auto", "bf16", "fp16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    compute = Compute.of(torch.device("cpu"), args.amp)
    for recipe in args.recipes:
        turns = Turns(recipe, compute, args.batch_size)
        found = summary(measured(turns, args.rounds))
        print(json.dumps({"recipe": recipe, **found, "threads": args.threads}), flush=True)
        if args.profile:
            print(profiled(turns))


if __name__ == "__main__":
    main()
