"""Heat maps over images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.structures import Detections
from razorlite.visual._labels import draw_labels, fitted, font_of, rectangles, texts_of
from razorlite.visual._style import INK
from razorlite.visual.drawing import kept, sized

_SHARE = 0.55  # of the colour; the rest is the image
_STRIP, _BAR = 52, 180  # pixels: height of the caption, length of the bar in it


def draw_heat_map(
    image: Tensor,
    values: Tensor,
    found: Detections | None = None,
    *,
    classes: Sequence[str] = (),
    caption: str = "",
    path: str | Path | None = None,
) -> Image.Image:
    """Draw values over an image: from dark blue, 0, over green to yellow, 1.

    Args:
        image: (3, H, W) uint8.
        values: (H, W) from 0 to 1.
        found: a detection that the values explain, drawn with its label, or None.
        classes: names, by label.
        caption: text of the strip below, beside the bar of colours.
        path: PNG file to write, or None.

    Raises:
        DataError: the image has another shape or type, or the values are not of its size.
        RunFolderError: the file cannot be written.
    """
    picture, scale = sized(image)
    if values.shape != image.shape[1:]:
        shapes = f"{tuple(values.shape)}, the image {tuple(image.shape)}"
        raise DataError(f"the values must be of the image's height and width, got {shapes}")
    heat = Image.fromarray(values.mul(255).round().byte().cpu().numpy())
    picture = Image.blend(picture, _colored(heat.resize(picture.size, _SMOOTH)), _SHARE)
    if found is not None:
        draw = ImageDraw.Draw(picture)
        for box in rectangles(found.boxes, scale):
            draw.rectangle(box, outline="white", width=3)
        draw_labels(draw, found, scale, texts_of(found, classes, picture.width), picture.size)
    return kept(_with_caption(picture, caption), path)


_SMOOTH = Image.Resampling.BILINEAR


def _colored(grey: Image.Image) -> Image.Image:
    from matplotlib import colormaps

    table = (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return Image.fromarray(table[np.asarray(grey)])


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    """Add a white strip with the bar of colours from 0 to 1 and a text."""
    canvas = Image.new("RGB", (picture.width, picture.height + _STRIP), "white")
    canvas.paste(picture, (0, 0))
    draw, top = ImageDraw.Draw(canvas), picture.height
    ramp = np.tile(np.linspace(0, 255, _BAR).astype(np.uint8), (12, 1))
    canvas.paste(_colored(Image.fromarray(ramp)), (10, top + 8))
    draw.text((10, top + 24), "0", fill=INK, font=font_of(15))
    draw.text((_BAR, top + 24), "1", fill=INK, font=font_of(15))
    text = fitted(caption, 15, max(1, picture.width - _BAR - 34))
    draw.text((_BAR + 24, top + 5), text, fill=INK, font=font_of(15))
    return canvas
