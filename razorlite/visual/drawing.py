"""Detections drawn on images, with labels that can be read."""

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.core.files import write_bytes_atomic
from razorlite.structures import Detections, Target
from razorlite.visual._labels import (
    draw_labels,
    fitted,
    font_of,
    name_of,
    names_of,
    rectangles,
    texts_of,
)
from razorlite.visual._style import INK, MUTED, PALETTE, class_color

_SIDE = 720  # pixels; smaller images are enlarged so that text can be read
_MOST_SIDE = 1600  # larger images are shrunk, for the same reason
_LEGEND_WIDTH = 320  # pixels that a legend has at least, below narrow images
_MOST_BOXES = 100

_SMOOTH = Image.Resampling.LANCZOS

LegendEntry = tuple[str, str, str]


def draw_detections(
    image: Tensor,
    detections: Detections,
    target: Target | None = None,
    *,
    classes: Sequence[str],
    score_threshold: float = 0.3,
    legend: bool = True,
    explained: Sequence[int] = (),
    path: str | Path | None = None,
) -> Image.Image:
    """Draw detections (solid) and the truth (dashed) on an image.

    A colour is a class. Where boxes are many and colours enough, labels hold the score alone. Small
    images are enlarged by a whole factor, images with a side above 1600 pixels shrunk to that; long
    names are cut; at most the 100 best detections are drawn.

    Args:
        image: (3, H, W) uint8.
        detections: boxes as x1, y1, x2, y2 in pixels of the image.
        target: what is known of the image, or None.
        classes: names, by label.
        score_threshold: lowest score that is drawn.
        legend: put a strip below that explains colours and lines.
        explained: labels that the strip explains besides the picture's own, of other pictures.
        path: PNG file to write, or None.

    Raises:
        DataError: the image has another shape or type.
        RunFolderError: the file cannot be written.
    """
    picture, scale = sized(image)
    shown = detections[detections.scores >= score_threshold][:_MOST_BOXES].to("cpu")
    if shown.masks is not None:
        picture = _with_masks(picture, shown)
    draw = ImageDraw.Draw(picture)
    if target is not None:
        _draw_truth(draw, target.to("cpu"), scale)
    _draw_boxes(draw, shown, scale)
    draw_labels(draw, shown, scale, texts_of(shown, classes, picture.width), picture.size)
    if legend:
        entries = _legend_entries(shown, target, classes, score_threshold, explained)
        picture = _with_legend(picture, entries)
    return kept(picture, path)


def draw_annotations(
    image: Tensor, target: Target, *, classes: Sequence[str], path: str | Path | None = None
) -> Image.Image:
    """Draw what an image is annotated with: boxes, masks if there are any, class names.

    Args:
        image: (3, H, W) uint8.
        target: boxes as x1, y1, x2, y2 in pixels of the image; crowds are dashed and not named.
        classes: names, by label.
        path: PNG file to write, or None.

    Raises:
        DataError: the image has another shape or type.
        RunFolderError: the file cannot be written.
    """
    picture, scale = sized(image)
    own = target.without_crowd()
    shown = Detections(own.boxes, torch.ones(len(own)), own.labels, own.masks).to("cpu")
    if shown.masks is not None:
        picture = _with_masks(picture, shown)
    draw = ImageDraw.Draw(picture)
    if target.crowd is not None:
        _draw_truth(draw, target[target.crowd].to("cpu"), scale)
    _draw_boxes(draw, shown, scale)
    draw_labels(draw, shown, scale, names_of(shown, classes, picture.width), picture.size)
    return kept(picture, path)


def draw_grid(
    pictures: Sequence[Image.Image | str | Path],
    *,
    captions: Sequence[str] = (),
    columns: int | None = None,
    width: int = 1600,
    path: str | Path | None = None,
) -> Image.Image:
    """Lay pictures out in rows, each under its caption.

    Args:
        pictures: images or image files.
        captions: one a picture, or none.
        columns: pictures a row; about as many as rows by default.
        width: pixels of the whole.
        path: PNG file to write, or None.

    Raises:
        RunFolderError: the file cannot be written.
    """
    opened = [p if isinstance(p, Image.Image) else Image.open(p) for p in pictures]
    if not opened:
        return kept(_note("no pictures to show", width), path)
    columns = min(columns or math.ceil(math.sqrt(len(opened))), len(opened))
    gap, head = 12, 34 if captions else 0
    cell = (width - gap * (columns + 1)) // columns
    scaled = [_in_cell(p.convert("RGB"), cell) for p in opened]
    rows = [scaled[i : i + columns] for i in range(0, len(scaled), columns)]
    heights = [max(p.height for p in row) + head + gap for row in rows]
    canvas = Image.new("RGB", (width, sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for index, picture in enumerate(scaled):
        row, column = divmod(index, columns)
        left, top = gap + column * (cell + gap), gap + sum(heights[:row])
        if index < len(captions):
            text = fitted(captions[index], 18, cell)
            draw.text((left, top + 4), text, fill=INK, font=font_of(18))
        canvas.paste(picture, (left, top + head))
    return kept(canvas, path)


def sized(image: Tensor) -> tuple[Image.Image, float]:
    """Return the picture of a (3, H, W) uint8 image, and the factor that it was resized by.

    Raises:
        DataError: the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise DataError(
            f"a picture to draw on must be uint8 of shape (3, H, W), got {image.dtype} of shape "
            f"{tuple(image.shape)}; give the image before normalisation"
        )
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    longest = max(picture.size)
    scale = max(1, round(_SIDE / longest)) if longest <= _MOST_SIDE else _MOST_SIDE / longest
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC), scale


def _with_masks(picture: Image.Image, shown: Detections) -> Image.Image:
    assert shown.masks is not None
    for mask, label in zip(shown.masks, shown.labels.tolist(), strict=True):
        shape = Image.fromarray(mask.to(torch.uint8).mul(110).numpy())
        tint = Image.new("RGB", picture.size, class_color(label))
        picture = Image.composite(tint, picture, shape.resize(picture.size))
    return picture


def _draw_boxes(draw: ImageDraw.ImageDraw, shown: Detections, scale: float) -> None:
    for box, label in zip(rectangles(shown.boxes, scale), shown.labels.tolist(), strict=True):
        draw.rectangle(box, outline=class_color(label), width=3)


def _draw_truth(draw: ImageDraw.ImageDraw, target: Target, scale: float) -> None:
    """Dash the boxes just outside their edge, over white, so that a detection hides none."""
    for box, label in zip(rectangles(target.boxes, scale), target.labels.tolist(), strict=True):
        x1, y1, x2, y2 = box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3
        corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1))
        for start, end in itertools.pairwise(corners):
            _dash(draw, start, end, class_color(label))


def _dash(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    """Draw a white line with dashes of a colour on it."""
    draw.line([start, end], fill="white", width=2)
    length = math.dist(start, end)
    for at in range(0, int(length), 12):
        near, far = at / length, min(at + 6, length) / length
        draw.line([_between(start, end, near), _between(start, end, far)], fill=color, width=2)


def _between(
    start: tuple[float, float], end: tuple[float, float], part: float
) -> tuple[float, float]:
    return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])


def _legend_entries(
    shown: Detections,
    target: Target | None,
    classes: Sequence[str],
    threshold: float,
    others: Sequence[int] = (),
) -> list[LegendEntry]:
    """Return text, colour and swatch: every class if they are few, else those in the picture."""
    labels: list[int] = list(range(len(classes)))
    if len(classes) > len(PALETTE):
        present = [*others, *shown.labels.tolist(), *(target.labels.tolist() if target else [])]
        labels = sorted(set(present))
    entries = [(name_of(classes, i), class_color(i), "box") for i in labels]
    entries.append((f"detected, score ≥ {threshold:g}", INK, "solid"))
    if target is not None:
        entries.append(("truth", INK, "dashed"))
    return entries


def _with_legend(picture: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """Add a white strip with the entries, wrapped to the width."""
    width = max(picture.width, _LEGEND_WIDTH)
    entries = [(fitted(text, 15, width - 50), color, kind) for text, color, kind in entries]
    spots, height = _flow(entries, width)
    canvas = Image.new("RGB", (width, picture.height + height), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (text, color, kind), (x, y) in zip(entries, spots, strict=True):
        _swatch(draw, x, picture.height + y, color, kind)
        draw.text((x + 30, picture.height + y), text, fill=INK, font=font_of(15))
    return canvas


def _flow(entries: Sequence[LegendEntry], width: int) -> tuple[list[tuple[int, int]], int]:
    """Return where each legend entry goes, and the height of the strip."""
    spots: list[tuple[int, int]] = []
    x, y = 10, 9
    for text, _, _ in entries:
        needed = 30 + int(font_of(15).getlength(text)) + 18
        if x > 10 and x + needed > width:
            x, y = 10, y + 25
        spots.append((x, y))
        x += needed
    return spots, y + 29


def _swatch(draw: ImageDraw.ImageDraw, x: int, y: int, color: str, kind: str) -> None:
    if kind == "box":
        draw.rectangle((x + 4, y + 2, x + 22, y + 16), fill=color)
    elif kind == "solid":
        draw.line([(x, y + 9), (x + 24, y + 9)], fill=color, width=3)
    elif kind == "dashed":
        _dash(draw, (x, y + 9), (x + 24, y + 9), color)


def _in_cell(picture: Image.Image, width: int) -> Image.Image:
    """Return a picture as wide as a grid's cell, or narrower where it would be very high."""
    scale = min(width / picture.width, 2 * width / picture.height)
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), _SMOOTH
    )


def _note(text: str, width: int) -> Image.Image:
    canvas = Image.new("RGB", (width, 120), "white")
    ImageDraw.Draw(canvas).text((24, 48), text, fill=MUTED, font=font_of(18))
    return canvas


def kept(picture: Image.Image, path: str | Path | None) -> Image.Image:
    """Write the picture, if a path is given, and return it."""
    if path is not None:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        write_bytes_atomic(path, buffer.getvalue())
    return picture
