"""A DETR3D that runs in milliseconds, and frames for it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from projects.detr3d.detector import DETR3D
from projects.detr3d.example import looking_around
from projects.detr3d.frames import CAMERAS
from projects.detr3d.head import DETR3DHead
from projects.detr3d.records import Objects
from razorlite.models.necks.fpn import FPN

SHAPE = (32, 64)


class TinyBackbone(nn.Module):
    """Two stages of one and two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.layer1 = nn.Sequential(_block(8, 8, 1), _block(8, 8, 1))
        self.layer2 = nn.Sequential(_block(8, 16, 2))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        first = self.layer1(self.stem(images))
        return first, self.layer2(first)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def tiny(**settings: Any) -> DETR3D:
    """Return a model of ten classes and six cameras."""
    known = {"num_classes": 10, "num_query": 12, "num_layers": 2, "embed_dims": 16, "num_heads": 2}
    known |= {"feedforward_channels": 16, "num_levels": 2, "dropout": 0.0}
    return DETR3D(
        img_backbone=TinyBackbone(),
        img_neck=FPN(in_channels=[8, 16], out_channels=16, num_outs=2),
        pts_bbox_head=DETR3DHead(**{**known, **settings}),
    )


def inputs_of(count: int = 1, shape: tuple[int, int] = SHAPE) -> dict[str, Tensor]:
    return {
        "images": torch.randn(count, 6, 3, *shape),
        "lidar2img": looking_around(6, shape).expand(count, 6, 4, 4),
    }


def objects_of(count: int = 3) -> Objects:
    """Return cars around the lidar."""
    angle = torch.arange(count) * 2 * math.pi / max(count, 1)
    boxes = torch.zeros(count, 9)
    boxes[:, 0], boxes[:, 1] = 10 * angle.cos(), 10 * angle.sin()
    boxes[:, 3:6] = torch.tensor([4.0, 2.0, 1.5])
    boxes[:, 6] = angle
    labels = torch.arange(count) % 10
    return Objects(boxes, labels, torch.ones(count, 2, dtype=torch.long), token=f"frame-{count}")


def write_frames(folder: Path, count: int = 2, size: tuple[int, int] = (24, 40)) -> Path:
    """Write a JSON file of key frames, with their images."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(count):
        cameras = {}
        for name, matrix in zip(CAMERAS, looking_around(6, size).tolist(), strict=True):
            file = f"{name}_{number}.png"
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / file)
            camera = {"file": file, "height": size[0], "width": size[1], "lidar2img": matrix}
            cameras[name] = camera
        frames.append(
            {
                "token": f"frame-{number}",
                "cameras": cameras,
                "lidar2ego": np.eye(4).tolist(),
                "ego2global": np.eye(4).tolist(),
                "boxes": [box("car", 8.0, 3.0 + number), box("pedestrian", -5.0, 9.0), box(None)],
            }
        )
    path = folder / "frames.json"
    path.write_text(json.dumps(frames))
    return path


def box(name: str | None, x: float = 0.0, y: float = 0.0) -> dict[str, Any]:
    numbers = {"cx": x, "cy": y, "cz": -0.5, "l": 4.0, "w": 2.0, "h": 1.5, "yaw": 0.3}
    speed = {"vx": None, "vy": None} if name == "pedestrian" else {"vx": 1.0, "vy": 0.5}
    return {"class": name, **numbers, **speed, "num_lidar_pts": 3, "num_radar_pts": 0}
