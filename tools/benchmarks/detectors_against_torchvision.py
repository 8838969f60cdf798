"""Time RetinaNet, FCOS and Faster R-CNN (ResNet-50, FPN) beside torchvision's own.

torchvision's detectors run as they come: float32, contiguous. Ours run as `train:` blocks let them:
channels last, once in float32 and once in bf16 (`amp: bf16`). All get the same layers, images,
objects and threads, untrained; nothing is frozen. A training step is loss, backward and SGD. The
three take turns in each round, and ratios are taken per round. The class layers are scaled so that
thousands of candidates pass the score threshold on both sides: an untrained detector keeps no box,
and its NMS costs nothing.

    python tools/benchmarks/detectors_against_torchvision.py --rounds 5

takes about five minutes on two cores and prints one JSON line for each detector and job: seconds in
the median, and the median and quartiles of the ratios ours / torchvision's. On a busy machine
`--clock cpu` counts the process's own time on all threads instead of the time on the wall.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core.compute import Amp, Compute, with_layout  # noqa: E402
from razorlite.structures import Batch, Target  # noqa: E402

CONFIGS = {
    "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco.yaml",
    "FCOS": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.yaml",
    "Faster R-CNN": "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.yaml",
}
PRECISIONS: dict[str, Amp | None] = {"float32": None, "bf16": "bf16"}
Scene = tuple[Tensor, list[Target]]
THAWED = ["frozen_stages=-1", "norm_eval=false"]
CANDIDATES = 2000  # per image, above the score threshold
THRESHOLD = 0.05


class Side:
    """A detector with its optimiser, ready to be timed.

    Args:
        model: the detector.
        loss: images and targets to named losses.
        predict: images to detections.
        compute: where and how it computes.
    """

    def __init__(
        self, model: nn.Module, loss: Callable, predict: Callable, compute: Compute
    ) -> None:
        self.model, self._loss, self._predict = compute.place(model), loss, predict
        self.compute, self.clock = compute, time.perf_counter
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def train(self, images: Tensor, targets: list[Target]) -> float:
        """Take a training step; return its seconds."""
        self.model.train()
        start = self._now()
        with self.compute.autocast():
            loss = sum(self._loss(images, targets).values())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return self._now() - start

    @torch.no_grad()
    def infer(self, images: Tensor, _targets: list[Target]) -> float:
        """Detect; return the seconds."""
        self.model.eval()
        start = self._now()
        with self.compute.autocast():
            self._predict(images)
        return self._now() - start

    def with_layout(self, images: Tensor) -> Tensor:
        """Return images as the loaders of this side give them."""
        return with_layout(images, self.compute.layout)

    def _now(self) -> float:
        """Return the time in seconds, after what a GPU still does."""
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()

    @torch.no_grad()
    def settle(self, images: Tensor, targets: list[Target]) -> None:
        """Take over the images' statistics in all batch norms."""
        self.model.train()
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        self._loss(images, targets)
        for norm in norms:
            norm.momentum = 0.1

    @torch.no_grad()
    def detections(self, images: Tensor) -> int:
        """Return how many boxes are found in all images."""
        self.model.eval()
        found = self._predict(images)
        return sum(len(f["boxes"] if isinstance(f, dict) else f.boxes) for f in found)


def ours(name: str, compute: Compute) -> tuple[Side, nn.Module]:
    """Return our detector and its class layer."""
    thawed = [f"model.backbone.{setting}" for setting in THAWED]
    if name == "FCOS":
        thawed.append("model.backbone.norm_frozen=false")
    model = recipes.build_model(ROOT / "configs" / CONFIGS[name], overrides=thawed)
    layers = {
        "RetinaNet": "bbox_head.retina_cls",
        "FCOS": "bbox_head.conv_cls",
        "Faster R-CNN": "roi_head.bbox_head.fc_cls",
    }
    layer = model.get_submodule(layers[name])
    return Side(model, model.loss, lambda images: model.predict(Batch(images)), compute), layer


def torchvisions(name: str, compute: Compute, side: int) -> tuple[Side, nn.Module]:
    """Return torchvision's detector and its class layer."""
    model = _torchvision_model(name, side)
    at = "roi_heads.box_predictor.cls_score" if name == "Faster R-CNN" else _CLASS_LOGITS

    def loss(images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        first = 1 if name == "Faster R-CNN" else 0  # it counts the background as class 0
        pairs = [{"boxes": t.boxes, "labels": t.labels + first} for t in targets]
        return model(list(images), pairs)

    layer = model.get_submodule(at)
    return Side(model, loss, lambda images: model(list(images)), compute), layer


_CLASS_LOGITS = "head.classification_head.cls_logits"


def _torchvision_model(name: str, side: int) -> nn.Module:
    body = resnet50(weights=None)
    same = {"min_size": side, "max_size": side, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    if name == "Faster R-CNN":
        extractor = _resnet_fpn_extractor(body, 5, extra_blocks=LastLevelMaxPool())
        proposals = {"rpn_post_nms_top_n_train": 1000}
        return FasterRCNN(extractor, 81, **same, **proposals, box_detections_per_img=100)
    width = 2048 if name == "RetinaNet" else 256
    extra = LastLevelP6P7(width, 256)
    extractor = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=extra)
    if name == "FCOS":
        return FCOS(extractor, 80, **same, score_thresh=THRESHOLD, nms_thresh=0.5)
    return RetinaNet(extractor, 80, **same, detections_per_img=100)


@torch.no_grad()
def spread(side: Side, layer: nn.Module, images: Tensor) -> None:
    """Spread a class layer's logits, and let `CANDIDATES` per image pass the threshold."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.flatten()))
    side.detections(images)
    layer.weight.mul_(1.0 / torch.cat(seen).std().item())
    if isinstance(layer, nn.Conv2d):
        seen.clear()
        side.detections(images)
        level = torch.cat(seen).topk(CANDIDATES * len(images)).values[-1]
        layer.bias += math.log(THRESHOLD / (1 - THRESHOLD)) - level
    hook.remove()


def make_scene(batch: int, side: int, device: str, objects: int = 10) -> Scene:
    """Return random images and targets."""
    images = torch.randn(batch, 3, side, side, device=device)
    corners = torch.rand(batch, objects, 2, device=device) * side * 0.6
    sizes = (0.05 + 0.3 * torch.rand(batch, objects, 2, device=device)) * side
    boxes = torch.cat([corners, corners + sizes], -1)
    labels = torch.randint(80, (batch, objects), device=device)
    return images, [Target(b, y) for b, y in zip(boxes, labels, strict=True)]


def build_sides(name: str, args: argparse.Namespace, scene: Scene) -> dict[str, Side]:
    """Return torchvision's detector and ours in each precision, settled on the images."""
    device, theirs = torch.device(args.device), partial(torchvisions, side=args.side)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    kinds = {"torchvision": (theirs, Compute(device, layout=layout))}
    kinds |= {p: (ours, Compute.of(device, PRECISIONS[p])) for p in args.precisions}
    sides = {}
    for kind, (build, compute) in kinds.items():
        torch.manual_seed(0)
        side, layer = build(name, compute)
        side.clock = time.process_time if args.clock == "cpu" else time.perf_counter
        images, targets = side.with_layout(scene[0]), scene[1]
        side.settle(images, targets)
        spread(side, layer, images)
        sides[kind] = side
    return sides


def compare(name: str, args: argparse.Namespace) -> None:
    """Time one detector on all sides and print."""
    torch.manual_seed(0)
    images, targets = scene = make_scene(args.batch_size, args.side, args.device)
    sides = build_sides(name, args, scene)
    counts = [side.detections(side.with_layout(images)) for side in sides.values()]
    for job in args.jobs:
        rounds = [one_round(sides, job, n, images, targets) for n in range(args.rounds)]
        line = {"detector": name, "job": job, "rounds": len(rounds), "detections": counts}
        print(json.dumps(line | summary(rounds)), flush=True)


def one_round(
    sides: dict[str, Side], job: str, number: int, images: Tensor, targets: list[Target]
) -> dict[str, float]:
    """Return each side's seconds, measured in turns; the first round also warms up."""
    inputs = {kind: side.with_layout(images) for kind, side in sides.items()}
    if number == 0:
        for kind, side in sides.items():
            getattr(side, job)(inputs[kind], targets)
    order = list(sides) if number % 2 else list(sides)[::-1]
    return {kind: getattr(sides[kind], job)(inputs[kind], targets) for kind in order}


def summary(rounds: list[dict[str, float]]) -> dict[str, object]:
    """Return median seconds, and the quartiles of the paired ratios to torchvision."""
    shown: dict[str, object] = {}
    for kind in rounds[0]:
        shown[f"{kind}_s"] = round(statistics.median(r[kind] for r in rounds), 3)
    for kind in [kind for kind in rounds[0] if kind != "torchvision"]:
        ratios = [r[kind] / r["torchvision"] for r in rounds]
        lower, median, upper = statistics.quantiles(ratios, n=4)
        shown[f"{kind}_ratio"] = round(median, 3)
        shown[f"{kind}_quartiles"] = [round(lower, 3), round(upper, 3)]
    return shown


def main() -> None:
    """Compare the detectors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--side", type=int, default=640, help="of the images, in pixels")
    parser.add_argument("--only", choices=CONFIGS, help="one detector")
    parser.add_argument("--jobs", nargs="+", choices=["infer", "train"], default=["infer", "train"])
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of ours"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--channels-last", action="store_true", help="for torchvision's, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in [args.only] if args.only else CONFIGS:
        compare(name, args)


if __name__ == "__main__":
    main()
