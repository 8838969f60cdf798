"""The command `init`: a configuration that trains on a folder of images, written for its reader."""

import math
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.errors import DataError, RunFolderError
from razorlite.core.files import write_text_atomic
from razorlite.core.streams import quiet
from razorlite.data.dataset import Dataset
from razorlite.data.examining import count_objects, open_all
from razorlite.data.files import shortest
from razorlite.data.joining import records_of
from razorlite.data.json_files import each_json_once
from razorlite.data.known_splits import ALL
from razorlite.data.recognising import Layout, recognise
from razorlite.data.relabelling import relabelled
from razorlite.data.voc import SplitPart
from razorlite.recipes.anchoring import FittedAnchors, better_anchors
from razorlite.recipes.checking import check_config

MODEL = "fcos/fcos_shufflenetv2_bccd"
_LONGEST = (320, 416, 512, 640)  # pixels of the longer side that images are resized to
_SMALL_OBJECTS, _SMALL_SIDE = 0.1, 16  # so many of the objects may be smaller, in pixels
_HOW = (
    f"scaled down, to {_LONGEST[0]} to {_LONGEST[-1]} pixels on the longer side, as far as nine "
    f"tenths of the objects keep {_SMALL_SIDE} pixels a side"
)
_BATCH = 8
_STEP = 32  # pixels; the coarsest stride of the detectors
_STEPS = 3000  # of training, about: what a small set takes from scratch
_EPOCHS = (12, 300)
_FIRST = 0.8
_PARTS: tuple[Literal["first", "rest"], ...] = ("first", "rest")
_HELD_OUT = {"train": "first", "val": "rest", "test": "rest"}


@each_json_once()
def init(
    source: str | Path,
    out: str | Path = "detector.yaml",
    *,
    model: str = MODEL,
    size: tuple[int, int] | None = None,
) -> list[str]:
    """Write a configuration that trains a detector on a data set, and check it.

    Where the model has anchors, and others fit the training images clearly better, it has those.

    Args:
        source: a folder in a known format, a COCO json file or a data.yaml.
        out: the file to write; it must not exist.
        model: shipped configuration or file whose model and training are taken.
        size: (height, width) in pixels that images are resized to; by default the commonest size
            scaled down to 320 to 640 pixels, as far as the small objects allow.

    Returns:
        Remarks of the check, one a line.

    Raises:
        DataError: the data cannot be used; says which command to use first.
        ConfigError: the model cannot be used with it.
        RunFolderError: the file is there already, or cannot be written.
    """
    path = Path(out)
    if path.exists():
        raise RunFolderError(f"{path} is there already; name another file or remove it")
    layout = _shortened(recognise(source))
    blocks, datasets = _splits(layout, source)
    base = core_config.load(model, imports=False)
    if Path(model).is_file():  # a base is looked for from where the file lies
        model = os.path.relpath(model, path.parent)
    classes = datasets["train"].classes
    usual = next(iter(count_objects(datasets["train"]).sizes), (480, 640))
    chosen = size or _size(datasets["train"], usual)
    resized = f"images are resized to {_by(chosen)} (height x width)"
    if size is None:
        resized += f"; {_by(usual)} is the commonest size, {_HOW}"
    text = partial(_text, source, model, blocks, datasets, chosen, resized, base)
    write_text_atomic(path, text())
    anchors = better_anchors(path)
    if anchors is not None:
        write_text_atomic(path, text(anchors))
    fitted = [] if anchors is None else [anchors.comment().lstrip("# ").rstrip()]
    told = [f"{len(classes)} classes: {', '.join(classes)}", *filter(None, [layout.left_out])]
    told.append(f"{resized}; --size, and `size` in the file, change it")
    with quiet():  # how far pruning would reach is told by the command that prunes
        return [*told, *fitted, *check_config(path)]


def _shortened(layout: Layout) -> Layout:
    """Return a layout whose paths are relative where data sets are looked for."""
    blocks = {
        split: {key: shortest(v) if Path(str(v)).is_absolute() else v for key, v in block.items()}
        for split, block in layout.splits.items()
    }
    return replace(layout, splits=blocks)


def _splits(
    layout: Layout, source: str | Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Dataset]]:
    """Return blocks and data sets of train, val and test; a VOC folder in one is divided.

    Raises:
        DataError: there is only one split, one that cannot be used, or one with objects of classes
            that train lacks.
    """
    datasets = _opened(layout, source)
    if layout.format == "folders":
        raise DataError(f"{source} holds class folders; expected annotated boxes")
    splits = layout.splits
    if list(splits) == [ALL] and layout.format == "voc":
        return _divided({**splits[ALL], "classes": list(datasets[ALL].classes)}, source)
    if "train" not in splits or not {"val", "test"} & splits.keys():
        of = f" --of {' '.join(splits)}" if len(splits) > 1 else ""
        raise DataError(
            f"{source} has the splits {', '.join(splits)}; expected train and val; divide it with "
            f"razorlite data split {source} --out divided{of}, then razorlite init divided"
        )
    names = {"train": "train", "val": "val" if "val" in splits else "test"}
    names["test"] = "test" if "test" in splits else names["val"]
    classes = list(datasets["train"].classes)
    blocks = {split: _block(splits[name], datasets[name], classes) for split, name in names.items()}
    for name in names.values():
        relabelled(datasets[name], classes, name=f"the split {name} of {source}", reference="train")
    return blocks, {split: datasets[name] for split, name in names.items()}


def _block(block: dict[str, Any], dataset: Dataset, classes: list[str]) -> dict[str, Any]:
    """Return a split's block with the list of classes, unless it lacks some that train has."""
    return {**block, "classes": classes} if set(classes) <= set(dataset.classes) else block


def _opened(layout: Layout, source: str | Path) -> dict[str, Dataset]:
    datasets, findings = open_all(layout)
    if findings:
        raise DataError(f"{findings[0].what}; see razorlite data check {source}")
    return datasets


def _divided(
    whole: dict[str, Any], source: str | Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Dataset]]:
    """Return blocks and data sets of a VOC folder's first four fifths and of its rest."""
    opened = _opened(
        Layout("voc", {part: {**whole, "split": SplitPart(_FIRST, part)} for part in _PARTS}),
        source,
    )
    blocks = {
        split: {**whole, "split": {"fraction": _FIRST, "part": part}}
        for split, part in _HELD_OUT.items()
    }
    return blocks, {split: opened[part] for split, part in _HELD_OUT.items()}


def _size(train: Dataset, usual: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) that images are resized to, multiples of 32.

    The usual size, scaled down as far as nine tenths of the objects keep 16 pixels a side.
    """
    height, width = usual
    records = records_of(train) or []
    areas = [((r.boxes[:, 2:] - r.boxes[:, :2]) / r.size[::-1]).prod(axis=1) for r in records]
    shares = np.sqrt(np.concatenate([np.zeros(0), *areas]))
    small = float(np.quantile(shares, _SMALL_OBJECTS)) if len(shares) else 0.0
    scales = [min(1.0, longest / max(height, width)) for longest in _LONGEST]
    side = (height * width) ** 0.5
    scale = next((s for s in scales if s * small * side >= _SMALL_SIDE), scales[-1])
    return _rounded(height * scale), _rounded(width * scale)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _rounded(side: float) -> int:
    return max(_STEP, round(side / _STEP) * _STEP)


def _text(
    source: str | Path,
    model: str,
    blocks: Mapping[str, dict[str, Any]],
    datasets: Mapping[str, Dataset],
    size: tuple[int, int],
    resized: str,
    base: Config,
    anchors: FittedAnchors | None = None,
) -> str:
    images = {split: len(dataset) for split, dataset in datasets.items()}
    told = ", ".join(f"{split} {count} images" for split, count in images.items())
    classes = len(datasets["train"].classes)
    lines = [
        f"# A detector for {source}: {told}.",
        "#   razorlite config check THIS_FILE",
        "#   razorlite train THIS_FILE --work-dir runs/detector",
        "#   razorlite predict photos/ --model runs/detector",
        "# Model and training come from _base_; razorlite config show THIS_FILE shows all of it.",
        yaml.safe_dump({"_base_": model}, allow_unicode=True, width=math.inf).rstrip(),
        *_model_lines(_with_classes(base, classes), anchors),
        *_comment(f"{resized[0].upper()}{resized[1:]}; `size` of every Resize changes it."),
        f"shape: {list(size)}  # height and width that costs are stated for",
        "data:",
    ]
    for split, block in blocks.items():
        lines += [f"  {split}:", *_indented(_split_block(split, block, size))]
    lines += _train_lines(base, images["train"])
    lines += [
        "# for razorlite prune: the most that may be left of the model's multiply-adds",
        "prune: {budget: {macs: 60%}}",
    ]
    return "\n".join(lines) + "\n"


def _model_lines(model: dict[str, Any], anchors: FittedAnchors | None) -> list[str]:
    """Return the model's block: its number of classes, and anchors if there are better ones."""
    if anchors is None:
        return [_yaml({"model": model}).rstrip()]
    return [anchors.comment().rstrip(), _yaml(_merged({"model": model}, anchors.tree())).rstrip()]


def _merged(tree: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return a tree with the keys of another."""
    both = {k: _merged(tree[k], more[k]) for k in tree.keys() & more if isinstance(tree[k], dict)}
    return {**tree, **more, **both}


def _train_lines(base: Config, images: int) -> list[str]:
    """Return how long to train; nothing where the base's schedule is tied to its own length."""
    if "milestones" in (base.get("train.schedule") or {}):
        return []
    epochs = min(max(_EPOCHS[0], math.ceil(_STEPS * _BATCH / images)), _EPOCHS[1])
    return [
        "train:",
        f"  max_epochs: {epochs}  # about {epochs * images // _BATCH} steps of {_BATCH} images",
        f"  eval_every: {max(1, epochs // 5)}",
    ]


def _split_block(split: str, block: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    transforms: list[dict[str, Any]] = [{"type": "Resize", "size": list(size)}]
    if split == "train":
        transforms.append({"type": "RandomFlip", "horizontal": 0.5})
    return {"batch_size": _BATCH, "dataset": block, "transforms": transforms}


def _with_classes(base: Config, classes: int) -> dict[str, Any]:
    """Return the part of the base's model that names a number of classes, with another one."""
    return _picked(base.get("model", {}), classes) or {}


def _picked(tree: Any, classes: int) -> Any:
    if not isinstance(tree, dict):
        return None
    found = {k: classes if k == "num_classes" else _picked(v, classes) for k, v in tree.items()}
    return {key: value for key, value in found.items() if value is not None} or None


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 96)]


def _indented(tree: dict[str, Any]) -> Iterator[str]:
    for line in _yaml(tree).splitlines():
        yield f"    {line}"


def _yaml(tree: Any) -> str:
    return yaml.safe_dump(
        tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=90
    )
