"""Texts at boxes: class names and scores where they cover the least."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont
from torch import Tensor

from razorlite.structures import Detections
from razorlite.visual._style import PALETTE, class_color

Rectangle = tuple[float, float, float, float]
_CROWDED = 14  # boxes; where there are more, texts are smaller and shorter
_WIDEST = 0.4  # of the picture's width, that a name may take


def texts_of(shown: Detections, classes: Sequence[str], width: int) -> list[str]:
    """Return class names and scores; scores alone where boxes are many and colours enough.

    Args:
        shown: what is drawn.
        classes: names, by label.
        width: of the picture, in pixels.
    """
    scores = [f"{score:.2f}" for score in shown.scores.tolist()]
    if len(shown) > _CROWDED and len(classes) <= len(PALETTE):
        return scores
    return [f"{n} {s}" for n, s in zip(names_of(shown, classes, width), scores, strict=True)]


def names_of(shown: Detections, classes: Sequence[str], width: int) -> list[str]:
    """Return class names, cut where they are too wide for a picture."""
    points, widest = _points(shown), int(_WIDEST * width)
    return [fitted(name_of(classes, label), points, widest) for label in shown.labels.tolist()]


def _points(shown: Detections) -> int:
    return 13 if len(shown) > _CROWDED else 16


def draw_labels(
    draw: ImageDraw.ImageDraw,
    shown: Detections,
    scale: float,
    texts: Sequence[str],
    size: tuple[int, int],
) -> None:
    """Write labels, best first, each where it covers the least of those before."""
    font = font_of(_points(shown))
    placed: list[Rectangle] = []
    labels = shown.labels.tolist()
    for box, label, text in zip(rectangles(shown.boxes, scale), labels, texts, strict=True):
        left, top, right, bottom = font.getbbox(text)
        spot = _place(box, (right - left + 6, bottom - top + 6), size, placed)
        draw.rectangle(spot, fill=class_color(label))
        draw.text((spot[0] + 3 - left, spot[1] + 3 - top), text, fill="white", font=font)
        placed.append(spot)


def _place(
    box: Rectangle, label: tuple[float, float], size: tuple[int, int], placed: Sequence[Rectangle]
) -> Rectangle:
    """Return the first spot at the box's corners that is free, or else the least covered one."""
    x1, y1, x2, y2 = box
    width, height = label
    spots = [(x, y) for y in (y1 - height, y1, y2 - height, y2) for x in (x1, x2 - width)]
    best: tuple[float, Rectangle] | None = None
    for x, y in spots:
        x = min(max(0.0, x), max(0.0, size[0] - width - 1))
        y = min(max(0.0, y), max(0.0, size[1] - height - 1))
        spot = (x, y, x + width, y + height)
        covered = sum(_overlap(spot, other) for other in placed)
        if best is None or covered < best[0]:
            best = (covered, spot)
    assert best is not None
    return best[1]


def _overlap(a: Rectangle, b: Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def rectangles(boxes: Tensor, scale: float) -> list[Rectangle]:
    """Return (N, 4) boxes in pixels of the picture, corners in order."""
    rows = (boxes.detach().float() * scale).tolist()
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows]


def name_of(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def fitted(text: str, size: int, width: int) -> str:
    """Return the text, cut with an ellipsis if it is wider than some pixels."""
    if font_of(size).getlength(text) <= width:
        return text
    while text and font_of(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)
