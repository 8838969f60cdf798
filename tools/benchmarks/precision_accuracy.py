"""Train the blood-cell FCOS in float32 and in bf16 from several seeds, and compare the accuracy.

Seeds take turns between the precisions; everything else is the same. The metrics are those of the
validation images after the last step, which are evaluated in the precision that was trained in.

    RAZORLITE_DATA=… python tools/benchmarks/precision_accuracy.py --epochs 12 --side 240

takes about twenty minutes on two cores and prints one JSON line for each run, and one with the
means, standard deviations and the difference of the means with its standard error.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402

CONFIG = ROOT / "configs/fcos/fcos_shufflenetv2_bccd.yaml"
PRECISIONS = {"float32": None, "bf16": "bf16"}

SMALL = {
    "model.backbone.width": 0.5,
    "model.neck.in_channels": [48, 96, 192],
    "model.neck.out_channels": 48,
    "model.bbox_head.in_channels": 48,
    "model.bbox_head.feat_channels": 48,
}


def run(seed: int, precision: str, args: argparse.Namespace) -> float:
    """Train once; return the AP."""
    resize = {"type": "Resize", "size": [args.side, args.side * 4 // 3]}
    flip = {"type": "RandomFlip", "horizontal": 0.5, "vertical": 0.5}
    overrides = {
        "seed": seed,
        "train.amp": PRECISIONS[precision],
        "train.max_epochs": args.epochs,
        "train.eval_every": None,
        "train.ema.decay": 0.99,  # of a schedule this short
        "data.train.num_workers": 0,
        "data.train.transforms": [resize, flip],
        "data.val.transforms": [resize],
    }
    if args.small:
        overrides |= SMALL
    with tempfile.TemporaryDirectory() as folder:
        metrics = recipes.train(CONFIG, folder, overrides)
    line = {"seed": seed, "precision": precision, "AP": metrics["AP"], "AP50": metrics["AP50"]}
    print(json.dumps(line), flush=True)
    return metrics["AP"]


def summary(found: dict[str, list[float]]) -> dict[str, object]:
    """Return means, standard deviations, and the difference with its standard error."""
    means = {name: statistics.mean(values) for name, values in found.items()}
    spread = {name: statistics.stdev(values) for name, values in found.items()}
    error = (sum(s**2 for s in spread.values()) / len(found["bf16"])) ** 0.5
    return {
        **{f"{name}_AP": [round(means[name], 4), round(spread[name], 4)] for name in found},
        "difference": round(means["bf16"] - means["float32"], 4),
        "standard_error": round(error, 4),
    }


def main() -> None:
    """Train all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--side", type=int, default=240, help="height of the images, in pixels")
    parser.add_argument("--small", action="store_true", help="a detector half as wide")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for seed in range(args.seeds):
        for precision in PRECISIONS if seed % 2 else reversed(PRECISIONS):
            found[precision].append(run(seed, precision, args))
    print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
