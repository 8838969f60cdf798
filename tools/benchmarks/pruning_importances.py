"""Print the table of docs/pruning.md that compares importances: one shot, without fine-tuning.

A trained detector is cut to shares of its MACs by each importance, with random channels as the
control. Batch norms are calibrated on training batches; the loss is that of the same batches, AP
that of the validation images.

    python tools/benchmarks/pruning_importances.py CONFIG CHECKPOINT --macs 75% 50%
"""

import argparse
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import prune  # noqa: E402
from razorlite.engine.launch import session  # noqa: E402
from razorlite.prune import Budget, Channels, Importance, Pruner, Trial  # noqa: E402
from razorlite.recipes.building import build, channels_of, load_trained  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.recipes.pruning_scores import gathered, trial_of  # noqa: E402
from razorlite.recipes.splits import Splits  # noqa: E402
from razorlite.space import recalibrate  # noqa: E402

_SEEDS = 3
_NAMES = ("L1", "L2", "BNScale", "FPGM", "Taylor", "Hessian", "GroupFisher")
COLUMNS = ("importance", "MACs", "loss", "AP on val")


class Comparison:
    """One trained detector, cut again and again."""

    def __init__(self, splits: Splits, channels: Channels, batches: int) -> None:
        self.splits, self.channels = splits, channels
        self.trial: Trial = trial_of(splits, batches)

    def row(self, importance: Importance, macs: str) -> tuple[float, float, float]:
        """Return the share of MACs, loss and AP of what an importance keeps."""
        pruner = gathered(
            Pruner(budget=Budget(macs=macs), importance=importance), self.channels, self.splits
        )
        subnet = pruner.plan(self.channels)
        slim = self.channels.cut(subnet)
        loss = self.trial.loss(slim)
        with self.splits.compute.autocast():
            recalibrate(slim, [batch.inputs for batch in self.trial.batches])
        found = self.splits.evaluate(slim, self.splits.val, "val")
        return subnet.cost["macs"] / self.channels.cost.whole["macs"], loss, found["AP"]


def line(name: str, rows: list[tuple[float, float, float]]) -> str:
    """Return means, and the range of several seeds."""
    share, loss, score = zip(*rows, strict=True)
    spread = f" ({min(score):.3f} to {max(score):.3f})" if len(rows) > 1 else ""
    losses = f" ({min(loss):.2f} to {max(loss):.2f})" if len(rows) > 1 else ""
    return f"| {name} | {mean(share):.1%} | {mean(loss):.2f}{losses} | {mean(score):.3f}{spread} |"


def main() -> None:
    """Print one line for each importance and budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--macs", nargs="+", default=["75%", "50%"])
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
            for name in _NAMES:
                kind = getattr(prune, f"{name}Importance")
                print(line(name, [compared.row(kind(), macs)]), flush=True)
            seeds = [prune.RandomImportance(seed=seed) for seed in range(_SEEDS)]
            print(line("random, 3 seeds", [compared.row(x, macs) for x in seeds]), flush=True)


if __name__ == "__main__":
    main()
