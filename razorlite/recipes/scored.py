"""What decides the scores of a search: a resumed one must have all of it unchanged."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.core.config import Config
from razorlite.core.files import resolve
from razorlite.data import dataset_digest
from razorlite.data.faults import UNREADABLE
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.splits import Splits
from razorlite.search import SearchConfig


def scored_with(
    config: Config, experiment: Experiment, splits: Splits, model: nn.Module
) -> dict[str, Any]:
    """Return plain values of all that a candidate's score depends on.

    The folders where data lie do not count: images are compared by their names, annotations by
    their content.

    Args:
        config: the merged configuration.
        experiment: its typed form.
        splits: its images; those of the search have been read.
        model: the supernet with its trained weights.
    """
    search, amp = experiment.search or SearchConfig(), splits.compute.dtype
    return {
        "weights": weights_digest(model),
        "shape": list(experiment.shape),
        "model": without_folders(config.get("model")),
        "mutator": config.get("mutator"),
        "metric": config.get("metric"),
        "data": {
            "classes": list(splits.classes),
            "search": _images(config, splits),
            "train": dataset_digest(splits.train) if search.recalibrate_batches else None,
            **splits.data.preprocess.to_dict(),
        },
        "unreadable": _unreadable(splits),
        "recalibrate": {
            "batches": search.recalibrate_batches,
            "batch_size": config.get("data.train.batch_size"),
        },
        **({"amp": str(amp).removeprefix("torch.")} if amp is not None else {}),
    }


def weights_digest(model: nn.Module) -> str:
    """Return a short name for a model's parameters and buffers."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def without_folders(tree: Any) -> Any:
    """Return plain values in which files and folders that exist have only their own names."""
    if isinstance(tree, Mapping):
        return {key: without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_folders(value) for value in tree]
    if isinstance(tree, str) and _exists(tree):
        return Path(tree).name
    return tree


def _images(config: Config, splits: Splits) -> dict[str, Any]:
    part = splits.part("search")
    source = "train" if splits.holds_out else "search"
    return {
        "images": dataset_digest(splits.search),
        "count": len(splits.search),
        "holdout": splits.data.holdout if splits.holds_out else None,
        "dataset": without_folders(config.get(f"data.{source}.dataset")),
        "transforms": config.get(f"data.{part}.transforms"),
        "batch_size": config.get(f"data.{part}.batch_size"),
    }


def _unreadable(splits: Splits) -> list[str]:
    """Return the files that were to be read and could not be, as far as they are known now."""
    found: set[str] = set()
    for dataset in (splits.search, splits.train):
        expected = set(dataset.keys)
        lost = (fault.file for fault in dataset.faults if fault.kind == UNREADABLE)
        found.update(Path(file).name for file in lost if file in expected)
    return sorted(found)


def _exists(text: str) -> bool:
    try:
        return resolve(text).exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown home
        return False


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
