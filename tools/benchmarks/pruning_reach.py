"""Print the table of docs/pruning.md: what share of each model pruning reaches, and what is left.

The share is what goes with all channels that can go. Models are names of shipped configurations,
of torchvision's models, or of timm's (`pip install timm`) as `timm:NAME`; weights are random.

    python tools/benchmarks/pruning_reach.py resnet50 retinanet_resnet50_fpn timm:convnext_atto
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torchvision
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core import shipped  # noqa: E402
from razorlite.prune import Channels  # noqa: E402

_DETECTORS = set(torchvision.models.list_models(torchvision.models.detection))
COLUMNS = ("model", "parameters in reach", "MACs in reach", "groups", "seconds", "left, and why")


def built(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """Return a model with random weights, and the size of its images."""
    if name.startswith("timm:"):
        import timm

        model = timm.create_model(name[5:])
        return model.eval(), model.default_cfg["input_size"][-2:]
    if name in torchvision.models.list_models():
        more = {"weights_backbone": None} if name in _DETECTORS else {}
        size = 320 if name in _DETECTORS else 224
        return torchvision.models.get_model(name, weights=None, **more).eval(), (size, size)
    _, experiment = recipes.experiment.read(shipped.find(name))
    return recipes.build_model(name).eval(), tuple(experiment.shape)


def row(name: str) -> list[str]:
    """Return a model's cells."""
    channels = Channels(*built(name))
    start = time.process_time()
    groups = channels.graph.groups
    seconds = time.process_time() - start
    reach, left = channels.reach, channels.report()["left"]
    reasons = Counter(
        " ".join(why.split(" (")[0].split(" at ")[0].split()) for why in left.values()
    )
    shown = "; ".join(f"{count} x {why}" for why, count in reasons.most_common(2))
    counts = f"{len(channels.graph.prunable)} of {len(groups)}"
    shares = [f"{reach[n]:.1%}" for n in ("params", "macs")]
    return [name, *shares, counts, f"{seconds:.1f}", shown or "-"]


def main() -> None:
    """Print one line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for name in parser.parse_args().models:
        print("| " + " | ".join(row(name)) + " |", flush=True)


if __name__ == "__main__":
    main()
