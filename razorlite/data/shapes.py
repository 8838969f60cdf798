"""Drawn shapes with boxes and masks: a seeded data set that needs no files."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.core.ranges import Count, Distinct, Filled, PositiveSpan, Rising, Seed, Size, Whole
from razorlite.core.registry import register, suggestion
from razorlite.data.dataset import Dataset, Kept
from razorlite.data.faults import Fault
from razorlite.structures import Target

SHAPES = ("circle", "square", "triangle", "diamond", "cross")


@dataclass(frozen=True)
class _Drawing:
    pixels: np.ndarray  # (H, W, 3) uint8
    masks: np.ndarray  # (N, H, W) bool, the visible part of each shape
    labels: list[int]


@register()
class ShapesDataset(Dataset):
    """Images of coloured shapes on a noisy ground; later shapes may cover part of earlier ones.

    Image i depends only on the arguments and i, so two data sets with different seeds are disjoint
    splits of the same world.

    Args:
        num_images: number of images.
        size: (height, width) in pixels.
        seed: another seed draws other images.
        classes: shapes to draw, in the order of the labels.
        objects: least and greatest number of shapes in an image.
        scale: least and greatest diameter, as a part of the shorter image side.
        masks: fill `Target.masks`, (N, H, W) bool.
        cache: keep drawn images in memory.

    Raises:
        DataError: an unknown shape, no images, or a range that is upside down.
    """

    def __init__(
        self,
        *,
        num_images: Count = 200,
        size: Size = (96, 96),
        seed: Seed = 0,
        classes: Annotated[tuple[str, ...], Filled(), Distinct()] = (
            "circle",
            "square",
            "triangle",
        ),
        objects: Annotated[tuple[Whole, Whole], Rising()] = (1, 4),
        scale: PositiveSpan = (0.2, 0.45),
        masks: bool = False,
        cache: bool = True,
    ) -> None:
        self.classes = tuple(classes)
        self.size = (int(size[0]), int(size[1]))
        self.seed, self.objects, self.scale, self.masks = seed, objects, scale, masks
        _check(num_images, self.classes, self.size, objects, scale)
        place = f"shapes-{self.size[0]}x{self.size[1]}-{seed}-{'-'.join(self.classes)}"
        self.keys = [f"{place}-{index}" for index in range(num_images)]
        self._kept: Kept[_Drawing] = Kept(cache)

    @property
    def faults(self) -> list[Fault]:
        """Drawn images have none."""
        return []

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        drawing = self._kept.get(index, self._draw)
        masks = torch.from_numpy(drawing.masks)
        target = Target(
            boxes=_mask_boxes(drawing.masks),
            labels=torch.tensor(drawing.labels, dtype=torch.int64),
            crowd=torch.zeros(len(drawing.labels), dtype=torch.bool),
            masks=masks.clone() if self.masks else None,
            image_id=index,
            size=self.size,
            original_size=self.size,
        )
        return torch.from_numpy(drawing.pixels).permute(2, 0, 1), target

    def keep_image(self, index: int) -> None:
        """Draw one image and keep it, if the data set keeps images in memory."""
        self._kept.try_get(index, self._draw)

    def _draw(self, index: int) -> _Drawing:
        rng = np.random.default_rng((self.seed, index))
        pixels = _ground(rng, self.size)
        masks: list[np.ndarray] = []
        labels: list[int] = []
        for _ in range(int(rng.integers(self.objects[0], self.objects[1] + 1))):
            label = int(rng.integers(len(self.classes)))
            mask = self._place(rng, self.classes[label], masks)
            if mask is not None:
                pixels[mask] = _paint(rng, pixels[mask])
                masks = [other & ~mask for other in masks] + [mask]
                labels.append(label)
        stack = np.stack(masks) if masks else np.zeros((0, *self.size), dtype=bool)
        return _Drawing(pixels, stack, labels)

    def _place(
        self, rng: np.random.Generator, shape: str, others: list[np.ndarray]
    ) -> np.ndarray | None:
        """Return the mask of a shape that hides at most a third of any other, None if no room."""
        for _ in range(10):
            mask = _shape_mask(rng, shape, self.size, self.scale)
            if all((mask & other).sum() <= other.sum() / 3 for other in others):
                return mask
        return None


def _check(
    num_images: int,
    classes: tuple[str, ...],
    size: tuple[int, int],
    objects: tuple[int, int],
    scale: tuple[float, float],
) -> None:
    if min(size) < 16:
        raise DataError(f"drawn images are 16 x 16 or larger, got {size[1]} x {size[0]}")
    for name in classes:
        if name not in SHAPES:
            raise DataError(f"no shape {name!r}{suggestion(name, SHAPES)}; there are {SHAPES}")


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a grey-ish colour gradient with noise."""
    height, width = size
    corners = rng.integers(60, 200, (2, 2, 3)).astype(np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    top = corners[0, 0] * (1 - x) + corners[0, 1] * x
    bottom = corners[1, 0] * (1 - x) + corners[1, 1] * x
    noise = rng.normal(0, 8, (height, width, 3)).astype(np.float32)
    colours: np.ndarray = np.clip(top * (1 - y) + bottom * y + noise, 0, 255).astype(np.uint8)
    return colours


def _paint(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """Return noisy pixels of a colour that stands out from what lies under the shape."""
    mean = under.mean(axis=0)
    colours = rng.integers(0, 256, (8, 3))
    colour = colours[np.abs(colours - mean).sum(axis=1).argmax()]
    noise = rng.normal(0, 8, under.shape)
    pixels: np.ndarray = np.clip(colour + noise, 0, 255).astype(np.uint8)
    return pixels


def _shape_mask(
    rng: np.random.Generator, shape: str, size: tuple[int, int], scale: tuple[float, float]
) -> np.ndarray:
    height, width = size
    radius = max(3.0, 0.5 * min(size) * float(rng.uniform(*scale)))
    cy = float(rng.uniform(radius, height - 1 - radius))
    cx = float(rng.uniform(radius, width - 1 - radius))
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    if shape == "circle":
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=1)
    else:
        draw.polygon(_corners(shape, cx, cy, radius), fill=1)
    return np.array(canvas, dtype=bool)


def _corners(shape: str, cx: float, cy: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of an upright shape inside a circle of the given radius."""
    half = radius / math.sqrt(2)
    units = {
        "square": [(-half, -half), (half, -half), (half, half), (-half, half)],
        "triangle": [(0, -radius), (0.87 * radius, 0.5 * radius), (-0.87 * radius, 0.5 * radius)],
        "diamond": [(0, -radius), (0.6 * radius, 0), (0, radius), (-0.6 * radius, 0)],
        "cross": _cross(radius),
    }
    return [(cx + dx, cy + dy) for dx, dy in units[shape]]


def _cross(radius: float) -> list[tuple[float, float]]:
    arm, reach = 0.3 * radius, 0.95 * radius
    quarter = [(arm, -reach), (arm, -arm), (reach, -arm)]
    turned = [(-y, x) for x, y in quarter]
    corner = [*quarter, *turned]
    return [*corner, *((-x, -y) for x, y in corner)]


def _mask_boxes(masks: np.ndarray) -> Tensor:
    """Return the (N, 4) boxes around the masks, as pixel edges."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return torch.from_numpy(boxes)
