"""What 8 bits cost on real images: small detectors of every kind, trained, exported and compared.

Each model is that of a shipped configuration with fewer channels and layers, trained on the blood
cells of configs/_base_/datasets/bccd.yaml from scratch with one seed. Then it is exported in float
and in 8 bits, with parts in float where more than a point is lost on the validation images, and its
metric is measured on the test images in PyTorch and of both files; of a file that would not be
kept, too. Blood cells have no masks; models that find masks learn the ellipse in each box.

    RAZORLITE_DATA=… python tools/benchmarks/int8_accuracy.py --work-dir runs/int8

prints a row of a Markdown table for each. A training that was stopped goes on where it was, and
what was measured is not measured again.

    python tools/benchmarks/int8_accuracy.py --only subnet --runs subnet=runs/subnet

takes the run folder of a detector that is trained already.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from razorlite import recipes  # noqa: E402
from razorlite.core.errors import ExportError  # noqa: E402
from razorlite.data.files import resolve  # noqa: E402
from razorlite.deploy.network import Network  # noqa: E402
from razorlite.deploy.quantise import folded  # noqa: E402

BASE = "prune/retinanet_r18_bccd"  # its data and its schedule
CELLS = "bccd_voc/BCCD"
SPLITS = ("train", "val", "test")
COLUMNS = ("model", "", "PyTorch", "float file", "INT8 file", "points", "parts in float")
TIMES = ("ms, float", "ms, INT8")
FOUND = "int8.json"
LAST = "checkpoints/last.pt"
BESIDE_BACKBONES = ["neck.*", "bbox_head.*", "*.fpn.*", "head.*"]
WIDTH, CLASSES, CORNERS = 64, 3, 24  # corners of the polygons that stand for ellipses

RESNET = {
    "backbone.depth": 18,
    "backbone.base_channels": 32,
    "backbone.style": "pytorch",
    "backbone.frozen_stages": -1,
    "backbone.norm_eval": False,
    "backbone.norm_frozen": False,
    "neck.in_channels": [32, 64, 128, 256],
    "neck.out_channels": WIDTH,
}
DENSE = {
    "bbox_head.num_classes": CLASSES,
    "bbox_head.in_channels": WIDTH,
    "bbox_head.feat_channels": WIDTH,
    "bbox_head.stacked_convs": 2,
}
REGIONS = {
    "rpn_head.in_channels": WIDTH,
    "rpn_head.feat_channels": WIDTH,
    "rpn_head.anchor_generator": {
        "type": "AnchorGenerator",
        "strides": [4, 8, 16, 32, 64],
        "scales": [4.0],
    },
    "rpn_head.train_proposals": {"nms_pre": 300, "max_per_img": 200},
    "rpn_head.test_proposals": {"nms_pre": 300, "max_per_img": 200},
    "roi_head.sampler.num": 128,
    "roi_head.bbox_head.num_classes": CLASSES,
    "roi_head.bbox_head.in_channels": WIDTH,
    "roi_head.bbox_head.fc_out_channels": 256,
}
QUERIES = {
    **RESNET,
    "num_queries": 50,
    "backbone.out_indices": [2],
    "neck.in_channels": [128],
    "neck.out_channels": 128,
    **{
        f"{part}.{name}": value
        for part in ("encoder", "decoder")
        for name, value in {
            "num_layers": 2,
            "embed_dims": 128,
            "feedforward_channels": 256,
            "dropout": 0.0,
        }.items()
    },
    "bbox_head.num_classes": CLASSES,
    "bbox_head.embed_dims": 128,
}


@dataclass(frozen=True)
class Kind:
    """A detector that is trained.

    Attributes:
        title: its name in the table.
        model: the shipped configuration that its model is of, or the model itself.
        changes: to that model.
        epochs: that it is trained.
        lr: learning rate of AdamW.
        size: height and width of the images in pixels.
        masks: whether it finds masks.
        known: number of training images that it learns by heart and is measured on; without it
            all are learned from, and what it is measured on is new to it.
        start: the kind whose trained backbone it starts from, which is trained first.
        training: changes to the schedule.
    """

    title: str
    model: str | dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    epochs: int = 30
    lr: float = 1e-3
    size: tuple[int, int] = (144, 192)
    masks: bool = False
    known: int | None = None
    start: str | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def config(self, work: Path) -> dict[str, Any]:
        """Return the whole configuration."""
        changes = {f"model.{name}": value for name, value in self.changes.items()}
        changes |= {"shape": list(self.size), "data.pad_multiple": 32}
        resize = {"type": "Resize", "size": list(self.size)}
        flip = {"type": "RandomFlip", "horizontal": 0.5, "vertical": 0.5}
        for split in SPLITS:
            varied = split == "train" and not self.known
            changes[f"data.{split}.transforms"] = [resize, flip] if varied else [resize]
            changes[f"data.{split}.num_workers"] = 0
            if self.masks:
                changes[f"data.{split}.dataset"] = ellipses(work, split)
            if self.known:
                changes[f"data.{split}.dataset"] = first_images(work, self.known)
        changes |= {
            "metric.kind": "both" if self.masks else "bbox",
            "data.train.batch_size": 4,
            "train.max_epochs": self.epochs,
            "train.eval_every": self.epochs,
            "train.save_every": 1,
            "train.optimizer.lr": self.lr,
            "train.ema.decay": 0.99,  # of a schedule this short
        }
        changes |= {f"train.{name}": value for name, value in self.training.items()}
        if self.start:
            changes["load_from"] = {
                "checkpoint": str(work / self.start / LAST),
                "strict": False,
                "ignore": BESIDE_BACKBONES,
            }
        tree = {**recipes.load_config(BASE).tree, "model": self._model()}
        return recipes.load_config(tree, changes).tree

    def _model(self) -> dict[str, Any]:
        if isinstance(self.model, dict):
            return self.model
        model: dict[str, Any] = recipes.load_config(self.model).tree["model"]
        return model


def torchvision(name: str) -> dict[str, Any]:
    """Return the model of a detector of torchvision."""
    return {"type": "TorchvisionDetector", "name": name, "num_classes": CLASSES}


ONE_STAGE = {**RESNET, **DENSE}
MASKS = {
    "roi_head.mask_head.num_classes": CLASSES,
    "roi_head.mask_head.in_channels": WIDTH,
    "roi_head.mask_head.conv_out_channels": WIDTH,
}
ANCHORS = {"type": "AnchorGenerator", "octave_base_scale": 2.5, "scales_per_octave": 3}
NO_LABEL = {"bbox_head.num_classes": CLASSES}
FCOS = "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco"
KINDS = {
    "fcos": Kind("FCOS, ResNet-18", FCOS, ONE_STAGE),
    "faster_rcnn": Kind(
        "Faster R-CNN, ResNet-18", "faster_rcnn/faster_rcnn_r50_fpn_1x_coco", {**RESNET, **REGIONS}
    ),
    "rtmdet": Kind("RTMDet-tiny", "rtmdet/rtmdet_tiny_8xb32-300e_coco", NO_LABEL),
    "mask_rcnn": Kind(
        "Mask R-CNN, ResNet-18",
        "mask_rcnn/mask_rcnn_r50_fpn_1x_coco",
        {**RESNET, **REGIONS, **MASKS},
        masks=True,
    ),
    "rtmdet_ins": Kind(
        "RTMDet-Ins-tiny", "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco", NO_LABEL, masks=True
    ),
    "retinanet": Kind(
        "RetinaNet, ResNet-18",
        "retinanet/retinanet_r18_fpn_1x_coco",
        {**ONE_STAGE, "bbox_head.anchor_generator": ANCHORS},
    ),
    "detr": Kind(
        "DETR, ResNet-18",
        "detr/detr_r50_150e_coco",
        QUERIES,
        epochs=250,
        lr=3e-4,
        known=40,
        start="retinanet",
        training={"clip_grad_norm": 0.1},
    ),
    "torchvision_retinanet": Kind(
        "torchvision's retinanet_resnet50_fpn", torchvision("retinanet_resnet50_fpn")
    ),
    "torchvision_faster_rcnn": Kind(
        "torchvision's fasterrcnn_resnet50_fpn",
        torchvision("fasterrcnn_resnet50_fpn"),
        start="torchvision_retinanet",
    ),
}


def ellipses(work: Path, split: str) -> dict[str, Any]:
    """Return a data set of the cells whose masks are the ellipses in their boxes."""
    tree = cells(work, split)
    for one in tree["annotations"]:
        one["segmentation"] = [ellipse(*one["bbox"])]
    return {**written(tree, work, split, "ellipses"), "masks": True}


def first_images(work: Path, number: int) -> dict[str, Any]:
    """Return a data set of the first training images of the cells."""
    tree = cells(work, "train")
    tree["images"] = tree["images"][:number]
    chosen = {image["id"] for image in tree["images"]}
    tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] in chosen]
    return written(tree, work, "train", f"first_{number}")


def cells(work: Path, split: str) -> dict[str, Any]:
    """Return the annotations of the cells as COCO has them."""
    folder = work / "cells"
    if not folder.is_dir():
        recipes.convert_data(CELLS, folder, to="coco", link=True)
    return dict(json.loads((folder / f"annotations/{split}.json").read_text()))


def written(tree: dict[str, Any], work: Path, split: str, name: str) -> dict[str, Any]:
    """Write annotations of a split's images; return their data set."""
    path = work / f"cells/annotations/{split}_{name}.json"
    path.write_text(json.dumps(tree))
    images = str(work / f"cells/images/{split}")
    return {"type": "CocoDataset", "annotation": str(path), "images": images, "cache": True}


def ellipse(left: float, top: float, width: float, height: float) -> list[float]:
    """Return the x and y of a polygon's corners in turn."""
    turns = [2 * math.pi * i / CORNERS for i in range(CORNERS)]
    across, down = width / 2, height / 2
    corners = ((left + across * (1 + math.cos(t)), top + down * (1 + math.sin(t))) for t in turns)
    return [value for corner in corners for value in corner]


def train(name: str, args: argparse.Namespace) -> Path:
    """Train a model that is not measured yet, or go on with it; return the run folder."""
    folder: Path = args.work_dir / name
    if (folder / FOUND).is_file():
        return folder
    if start := KINDS[name].start:
        train(start, args)
    limits = {"train.max_seconds": args.seconds} if args.seconds else {}
    if args.epochs:
        limits |= {"train.max_epochs": args.epochs, "train.eval_every": args.epochs}
    resume = (folder / LAST).is_file()
    recipes.train(KINDS[name].config(args.work_dir), folder, limits, resume=resume)
    return folder


def in_8_bits(run: Path, path: Path, images: Path, max_drop: float) -> Any:
    """Export a run in 8 bits; where too much is lost, whatever is."""
    try:
        return recipes.export(run, out=path, images=images, int8=True, max_drop=max_drop)
    except ExportError:
        return recipes.export(run, out=path, images=images, int8=True, max_drop=math.inf)


def measured(run: Path, folder: Path, max_drop: float) -> dict[str, Any]:
    """Export a run in float and in 8 bits; return metrics on the test images, and times."""
    folder.mkdir(parents=True, exist_ok=True)
    exact, small, known = (folder / name for name in ("float.onnx", "int8.onnx", FOUND))
    if not known.is_file():
        images = resolve(f"{CELLS}/JPEGImages")
        recipes.export(run, out=exact, images=images)
        result = in_8_bits(run, small, images, max_drop)
        config, models = run / "config.yaml", (run, exact, small)
        found = recipes.benchmark(models, threads=[1], rounds=3, batch=1, accuracy=config)
        parts = len(Network(folded(exact)).parts())
        more = {"milliseconds": result.milliseconds, "parts": parts, "rows": found.rows()}
        known.write_text(json.dumps({**result.to_dict(), **more}))
    return dict(json.loads(known.read_text()))


def rows(title: str, found: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of a model: a row for boxes, and one for masks."""
    parts = f"{len(found['floats'])} of {found['parts']}"
    times = [f"{value:.1f}" for value in found["milliseconds"]]
    for key, kind in (("AP", "boxes"), ("mask_AP", "masks")):
        values = [row[key] for row in found["rows"] if key in row]
        if values:
            points = f"{100 * (values[2] - values[1]):+.2f}"
            yield [title, kind, *(f"{value:.4f}" for value in values), points, parts, *times]


def runs(args: argparse.Namespace) -> Iterator[tuple[str, Path, Path]]:
    """Yield the title of each trained model, its run folder, and where its files go."""
    given = {name: Path(path) for name, _, path in (one.partition("=") for one in args.runs)}
    for name in args.only or [*KINDS, *given]:
        title = KINDS[name].title if name in KINDS else name
        run = given[name] if name in given else train(name, args)
        yield title, run, args.work_dir / name


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/int8"))
    parser.add_argument("--only", nargs="+", help=f"some of {', '.join(KINDS)} and --runs")
    parser.add_argument("--epochs", type=int, help="instead of each model's own")
    parser.add_argument("--seconds", type=float, help="that a training may take at most")
    parser.add_argument(
        "--max-drop", type=float, default=1.0, help="points, as of razorlite export"
    )
    parser.add_argument("--runs", nargs="+", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    known = {*KINDS, *(one.partition("=")[0] for one in args.runs)}
    if unknown := set(args.only or ()) - known:
        parser.error(
            f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    args.work_dir = args.work_dir.resolve()
    torch.set_num_threads(1)
    heads = (*COLUMNS, *TIMES)
    print("| " + " | ".join(heads) + " |\n|---|---|" + "---:|" * (len(heads) - 2), flush=True)
    for title, run, folder in runs(args):
        for cells in rows(title, measured(run, folder, args.max_drop)):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
