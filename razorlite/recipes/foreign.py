"""What other people's checkpoints tell of the images that they were trained on."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess

_log = logging.getLogger("razorlite")
_NUMBERS = r"\b{}\s*=\s*\[([^\]]*)\]"
_SWAP = r"\b(?:bgr_to_rgb|to_rgb)\s*=\s*(True|False)"
_CAFFE = re.compile(r"caffe|msra|detectron", re.IGNORECASE)


def stated_preprocess(meta: Any) -> Preprocess | None:
    """Return the preprocessing that the configuration in an OpenMMLab checkpoint states.

    Args:
        meta: the file's "meta"; its configuration is Python text.

    Returns:
        None where there is no such text, or it states none or several.
    """
    text = meta.get("cfg", meta.get("config")) if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        return None
    found = [set(re.findall(_NUMBERS.format(name), text)) for name in ("mean", "std")]
    swaps = set(re.findall(_SWAP, text))
    if any(len(values) != 1 for values in (*found, swaps)):
        return None
    try:
        mean, std = (tuple(map(float, values.pop().split(","))) for values in found)
        channels = {"True": "rgb", "False": "bgr"}[swaps.pop()]
        return Preprocess.from_dict({"mean": mean, "std": std, "channels": channels})
    except (ValueError, ConfigError):
        return None


def warn_of_caffe(source: str, preprocess: Preprocess | None) -> None:
    """Say that weights are named as those of Caffe, which were trained on BGR images.

    Args:
        source: their path, URL or name.
        preprocess: of the images that they meet now.
    """
    if preprocess is not None and preprocess.channels == "rgb" and _CAFFE.search(Path(source).name):
        _log.warning(
            "%s: weights of this name were trained on BGR images, and data.channels is rgb; if so, "
            "set data.channels=bgr, data.mean=[103.53, 116.28, 123.675] and data.std=[1, 1, 1]",
            source,
        )
