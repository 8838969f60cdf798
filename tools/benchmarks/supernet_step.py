"""What a supernet costs per training step, beside the same subnet as a plain model.

One single-path step of the SPOS ShuffleNetV2 supernet (forward, backward, optimiser) and the same
step of the exported subnet take turns, on ten paths; the ratio is taken per round.

    python tools/benchmarks/supernet_step.py --rounds 100

takes about five minutes on two cores and prints one JSON line. MMRazor 1.0 on such a
machine: ratio 1.013 (quartiles 0.985-1.058, 179 rounds), optimiser step 11.6 ms after 5.8 ms.
"""

import argparse
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
from razorlite.engine.optim import build_optimizer  # noqa: E402
from razorlite.engine.steps import plain_step  # noqa: E402
from razorlite.engine.update import Update  # noqa: E402
from razorlite.space import SearchSpace, SinglePathStep  # noqa: E402
from razorlite.structures import Batch  # noqa: E402

CONFIG = ROOT / "configs/spos/shufflenetv2_spos_imagenet.yaml"
PATHS = 10


class Side:
    """A model with its optimiser, ready to be timed."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model.train()
        optimizer = build_optimizer(
            lambda groups: torch.optim.SGD(groups, lr=1e-3, momentum=0.9, weight_decay=4e-5), model
        )
        self.update = Update(optimizer=optimizer, compute=Compute(torch.device("cpu")))

    def step(self, step, batch: Batch) -> tuple[float, float]:
        """Take one training step; return milliseconds in all and in exchange and optimiser."""
        start = time.perf_counter()
        metrics, _ = self.update.gradients(step, self.model, iter([batch]))
        middle = time.perf_counter()
        self.update.prepare(metrics, stop=False)
        self.update.apply()
        end = time.perf_counter()
        return 1000 * (end - start), 1000 * (end - middle)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    space = SearchSpace(recipes.build_model(CONFIG))
    path_step = SinglePathStep(space, seed=0)
    supernet = Side(space.model)
    labels = torch.randint(1000, (args.batch_size,))
    batch = Batch(torch.randn(args.batch_size, 3, args.side, args.side), labels)
    rounds, plains = [], {}
    for number in range(-PATHS, args.rounds):  # first each path once untimed: momentum buffers
        path_step.begin(number % PATHS)
        if number < 0:
            plains[number % PATHS] = Side(space.export(path_step.path))
        plain = plains[number % PATHS]
        sides = [(supernet, path_step), (plain, plain_step)]
        order = sides if (number // PATHS + number) % 2 else sides[::-1]
        times = {side is supernet: side.step(step, batch) for side, step in order}
        if number >= 0:
            rounds.append((*times[True], *times[False]))
    print(json.dumps({**summary(rounds), "threads": args.threads}))


def summary(rounds: list[tuple[float, float, float, float]]) -> dict[str, object]:
    """Return medians and quartiles of the times and of the paired ratio."""
    ratios = [whole / plain for whole, _, plain, _ in rounds]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    middles = [round(statistics.median(column), 3) for column in zip(*rounds, strict=True)]
    return {
        "rounds": len(rounds),
        "ratio_median": round(median, 4),
        "ratio_quartiles": [round(lower, 4), round(upper, 4)],
        "supernet_step_ms": middles[0],
        "supernet_optimizer_ms": middles[1],
        "plain_step_ms": middles[2],
        "plain_optimizer_ms": middles[3],
    }


if __name__ == "__main__":
    main()
