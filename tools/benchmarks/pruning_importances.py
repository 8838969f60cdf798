"""Print the table of docs/pruning.md that compares importances: one shot, without fine-tuning.

A trained detector is cut to shares of its MACs by each importance, with random channels as the
control. Statistics of batch norms are those of the whole detector, or calibrated on training
batches: both losses of these batches are printed, and AP on the validation images is that of the
better of the two. A row is NAME[:SCALE][@ALLOCATION].

    python tools/benchmarks/pruning_importances.py CONFIG CHECKPOINT --macs 75% 50%
"""

import argparse
import re
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import prune  # noqa: E402
from razorlite.cost.count import evaluating  # noqa: E402
from razorlite.engine.launch import session  # noqa: E402
from razorlite.prune import Budget, Channels, Importance, Pruner, Trial  # noqa: E402
from razorlite.prune.allocation import Strategy  # noqa: E402
from razorlite.prune.trial import last_loss  # noqa: E402
from razorlite.recipes.building import build, channels_of, load_trained  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.recipes.pruning_scores import gathered, trial_of  # noqa: E402
from razorlite.recipes.splits import Splits  # noqa: E402
from razorlite.space import recalibrate  # noqa: E402

_SEEDS = 3
_NAMES = ("L1", "L2", "BNScale", "FPGM", "Taylor", "Hessian", "GroupFisher")
_OTHERS = ("L1:lamp", "L1@local", "L1@uniform", "Taylor:mean", "GroupFisher@uniform")
_ROW = re.compile(r"(?P<name>\w+)(:(?P<scale>\w+))?(@(?P<allocation>\w+))?")
COLUMNS = ("importance", "MACs", "loss as cut", "loss calibrated", "AP on val")


class Comparison:
    """One trained detector, cut again and again."""

    def __init__(self, splits: Splits, channels: Channels, batches: int) -> None:
        self.splits, self.channels = splits, channels
        self.trial: Trial = trial_of(splits, batches)

    def row(self, importance: Importance, macs: str, allocation: Strategy) -> list[float]:
        """Return the share of MACs, both losses and AP of what an importance keeps."""
        budget = Budget(macs=macs)
        pruner = Pruner(budget=budget, importance=importance, allocation=allocation)
        subnet = gathered(pruner, self.channels, self.splits).plan(self.channels)
        slim = self.channels.cut(subnet)
        losses = [self._loss_as_cut(slim), self.trial.loss(slim)]
        if losses[1] < losses[0]:
            with self.splits.compute.autocast():
                recalibrate(slim, [batch.inputs for batch in self.trial.batches])
        found = self.splits.evaluate(slim, self.splits.val, "val")
        return [subnet.cost["macs"] / self.channels.cost.whole["macs"], *losses, found["AP"]]

    @torch.no_grad()
    def _loss_as_cut(self, slim: Any) -> float:
        self.trial.place(slim)
        with self.trial.context(), evaluating(slim):
            return mean(float(last_loss(slim, batch)) for batch in self.trial.batches)


def line(name: str, rows: list[list[float]]) -> str:
    """Return means, and the range of several seeds."""
    share, *rest = zip(*rows, strict=True)
    digits = (2, 2, 3)
    cells = [shown(values, places) for values, places in zip(rest, digits, strict=True)]
    return f"| {name} | {mean(share):.1%} | {' | '.join(cells)} |"


def shown(values: tuple[float, ...], places: int) -> str:
    """Return the mean of values, and their range if there are several."""
    spread = f" ({min(values):.{places}f} to {max(values):.{places}f})" if len(values) > 1 else ""
    return f"{mean(values):.{places}f}{spread}"


def importances(row: str) -> tuple[list[Importance], Strategy]:
    """Return what a row of the table measures: an importance, or random ones; the allocation."""
    found = _ROW.fullmatch(row)
    if found is None:
        raise SystemExit(f"row {row!r}: expected NAME[:SCALE][@ALLOCATION]")
    allocation: Any = found["allocation"] or "global"
    if found["name"] == "random":
        return [prune.RandomImportance(seed=seed) for seed in range(_SEEDS)], allocation
    options = {"scale": found["scale"]} if found["scale"] else {}
    return [getattr(prune, f"{found['name']}Importance")(**options)], allocation


def main() -> None:
    """Print one line for each importance and budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--macs", nargs="+", default=["75%", "50%"])
    parser.add_argument("--rows", nargs="+", default=[*_NAMES, *_OTHERS, "random"])
    parser.add_argument("--batches", type=int, default=8, help="training batches")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    args = parser.parse_args()
    _, experiment = read(args.config, args.overrides)
    with session(experiment.device, experiment.seed) as device:
        built = build(experiment)
        card = load_trained(built, args.checkpoint, experiment)
        splits = Splits(experiment, device, card.classes)
        compared = Comparison(splits, channels_of(built.model, experiment), args.batches)
        print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
        for macs in args.macs:
            for row in args.rows:
                kinds, allocation = importances(row)
                print(line(row, [compared.row(x, macs, allocation) for x in kinds]), flush=True)


if __name__ == "__main__":
    main()
