"""Golden values of DETR3D: what the reference gives with weights drawn from tensor names."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import razorlite
from projects.detr3d.detector import DETR3D
from projects.detr3d.records import Objects
from projects.detr3d.sampling import Views
from tests.models import golden

FOLDER = Path(__file__).with_name("golden")
CONFIG = "projects/detr3d/configs/detr3d_r101_gridmask.yaml"
PLAIN = ["model.grid_mask=null", "model.pts_bbox_head.dropout=0"]
LIGHT = [*PLAIN, "model.img_backbone.depth=50", "model.img_backbone.deform=null"]
OVERRIDES = {"detr3d_r101": PLAIN, "detr3d_r50_light": LIGHT}
SHAPE = (160, 256)  # of the padded images


@dataclass(frozen=True)
class Case:
    """A golden file, its model, and what one pass of it gave."""

    known: dict[str, np.ndarray]
    model: DETR3D
    inputs: dict[str, Tensor]
    target: Objects
    views: Views
    decoded: tuple[Tensor, Tensor, Tensor]
    raw: tuple[Tensor, Tensor]
    losses: dict[str, Tensor]


def case(name: str, backward: bool = True) -> Case:
    """Return what a model gives in training, which here is the same as in evaluation."""
    known = golden.metrics(name, FOLDER)
    model: Any = razorlite.build_model(CONFIG, overrides=OVERRIDES[name])
    golden.fill(model, known, _draw)
    inputs, target = inputs_of(known), target_of(known)
    with torch.set_grad_enabled(backward):
        views = model.views(inputs)
        decoded = model.pts_bbox_head.decoded(views)
        raw = model.pts_bbox_head.read(*decoded)
        losses = model.pts_bbox_head.loss(raw, [target])
    if backward:
        torch.stack(list(losses.values())).sum().backward()
    raw = (raw[0].detach(), raw[1].detach())
    return Case(known, model, inputs, target, views, decoded, raw, losses)


def inputs_of(known: dict[str, np.ndarray]) -> dict[str, Tensor]:
    noise = np.random.default_rng(21).standard_normal((1, 6, 3, *SHAPE)).astype(np.float32)
    return {
        "images": torch.from_numpy(noise),
        "lidar2img": torch.from_numpy(known["input.lidar2img"]),
    }


def target_of(known: dict[str, np.ndarray]) -> Objects:
    boxes = torch.from_numpy(known["gt.0.boxes"])
    points = torch.ones(len(boxes), 2, dtype=torch.long)
    return Objects(boxes, torch.from_numpy(known["gt.0.labels"]), points)


def apart(got: Tensor, expected: np.ndarray) -> float:
    """Return the greatest difference over the greatest magnitude."""
    return float(np.abs(got.detach().numpy() - expected).max() / np.abs(expected).max())


def raw_errors(raw: tuple[Tensor, Tensor], known: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return the greatest errors of logits, and of box codes channel by channel."""
    layers = range(len(raw[0]))
    classes = max(apart(raw[0][i], known[f"raw.cls.{i}"]) for i in layers)
    boxes = max(
        apart(raw[1][i][..., k], known[f"raw.box.{i}"][..., k]) for i in layers for k in range(10)
    )
    return classes, boxes


def losses_of(known: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the recorded losses of all layers by name."""
    return {k.removeprefix("loss."): float(v) for k, v in known.items() if k.startswith("loss.")}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = np.asarray(rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(noise)
    if name.endswith("running_mean") or (len(shape) < 2 and not name.endswith("weight")):
        return 0.1 * noise
    if name.endswith("embedding.weight"):
        return noise
    if len(shape) < 2:
        return 1 + 0.1 * noise
    gain = 0.05 if "conv_offset" in name else 1
    gain = 0.01 if "reg_branches" in name and name.endswith(".4.weight") else gain
    return (noise * (2 / np.prod(shape[1:])) ** 0.5 * gain).astype(np.float32)
