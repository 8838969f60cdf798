"""Train our plain FCOS and torchvision's FCOS for the same wall time on the same images.

Both have the torchvision ShuffleNetV2 x1.0 backbone from scratch, read the same training images
at 240 x 320 in batches of 8 with flips, and use AdamW with warm-up and cosine decay. torchvision's
detector runs in the shortest loop that trains it; ours in our engine, from our config. Each gets
the given seconds of training, one after the other, and is evaluated on the test images by the same
COCO metric. torchvision's usual 256 channels of pyramid and head leave it few images in that time
on a CPU; by default it has 64, fewer than ours.

    python tools/benchmarks/fcos_against_torchvision.py --seconds 600

takes a little over twice the given seconds and prints one JSON line for each detector.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x1_0
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core.journal import Journal  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.recipes.splits import Splits  # noqa: E402
from razorlite.structures import Batch, Detections  # noqa: E402

CONFIG = ROOT / "configs/fcos/fcos_shufflenetv2_bccd.yaml"


class TorchvisionFCOS(nn.Module):
    """torchvision's FCOS behind the interface of our detectors; takes normalised images."""

    def __init__(self, num_classes: int, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        body = shufflenet_v2_x1_0(weights=None)
        layers = {"stage2": "0", "stage3": "1", "stage4": "2"}
        backbone = BackboneWithFPN(
            body,
            layers,
            [116, 232, 464],
            channels,
            extra_blocks=LastLevelP6P7(channels, channels),
        )
        anchors = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)
        self.detector = FCOS(
            backbone,
            num_classes,
            min_size=min(size),
            max_size=max(size),
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            anchor_generator=anchors,
        )

    def loss(self, images: Tensor, targets: list[Any]) -> Tensor:
        """Return the summed loss of a batch."""
        pairs = [{"boxes": t.boxes, "labels": t.labels} for t in targets]
        return sum(self.detector(list(images), pairs).values())

    def predict(self, batch: Batch) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images."""
        found = zip(self.detector(list(batch.images)), batch.frames(), strict=True)
        return [Detections(at.to_original(f["boxes"]), f["scores"], f["labels"]) for f, at in found]


def endless(loader: Any) -> Iterator[Batch]:
    """Yield batches of epoch after epoch."""
    epoch = 0
    while True:
        loader.set_position(epoch, 0)
        yield from loader
        epoch += 1


def train_torchvision(model: nn.Module, loader: Any, seconds: float, lr: float) -> int:
    """Train torchvision's FCOS for a wall time; return the images it saw."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    start, images = time.perf_counter(), 0
    for batch in endless(loader):
        done = (time.perf_counter() - start) / seconds
        if done >= 1:
            return images
        factor = min(1.0, done / 0.03) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr * max(factor, 1e-3)
        loss = model.loss(batch.images, batch.targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        images += len(batch)


def run_torchvision(seconds: float, lr: float, channels: int) -> dict[str, Any]:
    """Train and evaluate torchvision's detector."""
    _, experiment = read(CONFIG)
    splits = Splits(experiment, torch.device("cpu"))
    torch.manual_seed(0)
    model = TorchvisionFCOS(3, experiment.shape, channels)
    images = train_torchvision(model, splits.train_loader(), seconds, lr)
    return {"images": images, **splits.evaluate(model, splits.test, "test")}


def run_ours(seconds: float) -> dict[str, Any]:
    """Train and evaluate our detector."""
    with tempfile.TemporaryDirectory() as folder:
        limits = [f"train.max_seconds={seconds}", "train.max_epochs=100", "train.eval_every=null"]
        recipes.train(CONFIG, folder, [*limits, "train.save_every=1000"])
        lines = Journal(Path(folder) / "metrics.jsonl").read()
        rates = [line["images_per_second"] for line in lines if line["kind"] == "train"]
        metrics = recipes.test(CONFIG, Path(folder) / "checkpoints" / "last.pt", as_json=True)
    return {"images": round(seconds * sum(rates) / len(rates)), **metrics}


def main() -> None:
    """Run both and print a JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="training time of each")
    parser.add_argument("--lr", type=float, default=2e-3, help="torchvision's learning rate")
    parser.add_argument("--channels", type=int, default=64, help="of torchvision's pyramid")
    parser.add_argument("--only", choices=["torchvision", "razorlite"], help="leave the other out")
    args = parser.parse_args()
    runs = {
        "torchvision": lambda: run_torchvision(args.seconds, args.lr, args.channels),
        "razorlite": lambda: run_ours(args.seconds),
    }
    for name in [args.only] if args.only else runs:
        result = runs[name]()
        shown = {key: result[key] for key in ("images", "AP", "AP50")}
        print(json.dumps({"detector": name, "seconds": args.seconds, **shown}))


if __name__ == "__main__":
    main()
