"""Boxes drawn in the images of all cameras, and from above."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from projects.detr3d.boxes import corners
from projects.detr3d.records import Found, Objects
from razorlite.core.files import make_folder

_NEAR = 0.1  # metres in front of a camera where edges end
_FRONT = [(0, 1), (1, 2), (2, 3), (3, 0)]
_EDGES = [*_FRONT, *((a + 4, b + 4) for a, b in _FRONT), *((i, i + 4) for i in range(4))]
_COLOURS = (
    *("#e6194b", "#f58231", "#ffe119", "#bfef45", "#3cb44b"),
    *("#42d4f4", "#4363d8", "#911eb4", "#f032e6", "#a9a9a9"),
)
_FOUND = "#ffffff"
_GROUND = "#202020"
_SPAN = 55.0  # metres from the lidar to the edges of the picture from above
_RINGS = (10, 20, 30, 40, 50)  # metres
_BY_SIDE = ((0, 2), (1, 0), (2, 1), (3, 4), (4, 3), (5, 5))  # (place, camera): left, ahead, right


def draw_frame(
    images: Tensor,
    lidar2img: Tensor,
    objects: Objects,
    found: Found | None = None,
    *,
    path: str | Path,
    least_score: float = 0.3,
) -> Path:
    """Write a picture of all cameras and of the ground around the car, with boxes.

    What there is has the colours of its classes, what was found is white.

    Args:
        images: (N, 3, H, W) uint8.
        lidar2img: (N, 4, 4) for these images.
        objects: what there is.
        found: what was found; nothing by default.
        path: the PNG file.
        least_score: of what is drawn.
    """
    truth = [
        (box, _COLOURS[label % len(_COLOURS)])
        for box, label in zip(objects.boxes, objects.labels.tolist(), strict=True)
    ]
    seen = [] if found is None else [(b, _FOUND) for b in found[found.scores >= least_score].boxes]
    views = [
        draw_view(image, matrix, truth + seen)
        for image, matrix in zip(images, lidar2img, strict=True)
    ]
    width, height = views[0].size
    above = draw_above(truth + seen, 2 * height)
    columns = math.ceil(len(views) / 2)
    whole = Image.new("RGB", (columns * width + above.width, 2 * height))
    for place, camera in _places(len(views)):
        whole.paste(views[camera], (place % columns * width, place // columns * height))
    whole.paste(above, (columns * width, 0))
    make_folder(Path(path).parent)
    whole.save(path)
    return Path(path)


def draw_view(image: Tensor, lidar2img: Tensor, boxes: Sequence[tuple[Tensor, str]]) -> Image.Image:
    """Return a (3, H, W) uint8 image with the edges of boxes; their fronts are crossed.

    Args:
        image: of one camera.
        lidar2img: (4, 4) for this image.
        boxes: (9,) each, and its colour.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pen = ImageDraw.Draw(picture)
    for box, colour in boxes:
        points = corners(box[None].double())[0]
        for edge in (*_EDGES, (0, 2), (1, 3)):
            line = project_edge(points[list(edge)], lidar2img.double())
            if line is not None:
                pen.line([tuple(end) for end in line.tolist()], fill=colour)
    return picture


def project_edge(ends: Tensor, lidar2img: Tensor) -> Tensor | None:
    """Return the (2, 2) pixels between which an edge is seen; None where it is behind the camera.

    Args:
        ends: (2, 3) in the lidar's frame.
        lidar2img: (4, 4).
    """
    seen = ends @ lidar2img[:3, :3].T + lidar2img[:3, 3]
    depth = seen[:, 2]
    if bool((depth < _NEAR).all()):
        return None
    if bool((depth < _NEAR).any()):  # cut where it comes too near
        behind, ahead = seen[depth.argmin()], seen[depth.argmax()]
        share = (_NEAR - behind[2]) / (ahead[2] - behind[2])
        seen = torch.stack([behind + share * (ahead - behind), ahead])
    return seen[:, :2] / seen[:, 2:]


def draw_above(boxes: Sequence[tuple[Tensor, str]], side: int) -> Image.Image:
    """Return a square picture of `side` pixels from above: ahead is up, rings each 10 metres.

    Args:
        boxes: (9,) each, and its colour; a line leads from the middle through the front.
        side: of the picture in pixels.
    """
    picture = Image.new("RGB", (side, side), _GROUND)
    pen = ImageDraw.Draw(picture)
    for radius in _RINGS:
        pen.ellipse(
            [_pixel(-radius, radius, side), _pixel(radius, -radius, side)], outline="#505050"
        )
    pen.polygon([_pixel(x, y, side) for x, y in ((-0.9, -1), (0.9, -1), (0, 3))], fill="#808080")
    for box, colour in boxes:
        around = corners(box[None].double())[0][[0, 3, 7, 4], :2]
        front = (around[0] + around[1]) / 2
        outline = [_pixel(x, y, side) for x, y in around.tolist()]
        pen.line([*outline, outline[0]], fill=colour)
        middle = _pixel(float(box[0]), float(box[1]), side)
        pen.line([middle, _pixel(float(front[0]), float(front[1]), side)], fill=colour)
    return picture


def _pixel(x: float, y: float, side: int) -> tuple[float, float]:
    """Return the pixel of a place in metres, x to the right and y ahead."""
    return (x + _SPAN) / (2 * _SPAN) * side, (_SPAN - y) / (2 * _SPAN) * side


def _places(cameras: int) -> Sequence[tuple[int, int]]:
    """Return where each camera's image goes: nuScenes' six as they look, others in their order."""
    return _BY_SIDE if cameras == 6 else [(i, i) for i in range(cameras)]
