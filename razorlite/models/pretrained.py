"""Weights for a backbone: torchvision's by name, a file, or a URL."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models as zoo

from razorlite.core.downloads import download
from razorlite.core.errors import CheckpointError
from razorlite.core.tensor_files import named_tensors, read_tensor_file

_HELP = "give the path of a local weights file as `pretrained`, or null to start from scratch"
_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "backbone.")


def load_pretrained(backbone: nn.Module, source: str, *, optional: Collection[str] = ()) -> None:
    """Fill a backbone from pretrained weights; a classifier's last layer is left out.

    Args:
        backbone: a module with the names of its torchvision original.
        source: a torchvision weights name (`ResNet50_Weights.IMAGENET1K_V1`,
            `torchvision://resnet50` for the newest), a path, or an http(s) URL.
        optional: names of tensors that the weights may lack.

    Raises:
        CheckpointError: the weights cannot be had, or a tensor is missing, has another shape or is
            not finite.
    """
    weights = read_weights(source)
    expected = backbone.state_dict()
    known = [name for name in expected if name in weights or name not in optional]
    faults = [fault for name in known if (fault := _fault(name, expected, weights))]
    if faults:
        raise CheckpointError(
            f"pretrained weights {source!r} do not fit {type(backbone).__name__}: "
            f"{len(faults)} of {len(expected)} tensors, first: {faults[0]}; {_HELP}"
        )
    backbone.load_state_dict({k: weights[k] for k in expected if k in weights}, strict=False)
    mark_pretrained(backbone, source)


def mark_pretrained(module: nn.Module, source: str) -> None:
    """Note on a module where its weights came from."""
    module.pretrained_from = source  # type: ignore[assignment]


def pretrained_sources(module: nn.Module) -> set[str]:
    """Return where the weights came from that a module, or those in it, were built with."""
    noted = (getattr(part, "pretrained_from", None) for part in module.modules())
    return {source for source in noted if isinstance(source, str)}


def is_pretrained(module: nn.Module) -> bool:
    """Return whether a module, or one in it, was built with pretrained weights."""
    return bool(pretrained_sources(module))


def is_name_of_weights(source: str) -> bool:
    """Return whether a source is a name that torchvision knows, not a file or an address."""
    return source.startswith("torchvision://") or bool(re.fullmatch(r"\w+_Weights\.\w+", source))


def read_weights(source: str) -> dict[str, Tensor]:
    """Return the tensors that `source` names, without `module.` or `backbone.` prefixes.

    Raises:
        CheckpointError: no such name or file, no network, or not a file of tensors.
    """
    tensors = read_detector_weights(source)
    inside = {k: v for k, v in tensors.items() if k.startswith(_PREFIXES)}
    return {_strip(k): v for k, v in (inside or tensors).items()}


def read_detector_weights(source: str) -> dict[str, Tensor]:
    """Return the tensors that `source` names, by the names that they have there.

    Raises:
        CheckpointError: as `read_weights`.
    """
    if source.startswith(("http://", "https://")):
        return _unwrap(read_tensor_file(download(source, advice=_HELP)), source)
    if is_name_of_weights(source):
        return _unwrap(_from_torchvision(source.removeprefix("torchvision://")), source)
    return _unwrap(_from_file(source), source)


def _fault(name: str, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    if name not in weights:
        return None if name.endswith("num_batches_tracked") else f"{name} is missing"
    have, want = tuple(weights[name].shape), tuple(expected[name].shape)
    if have != want:
        return f"{name} has shape {have}, expected {want}"
    return None if weights[name].isfinite().all() else f"{name} is not finite (NaN or infinite)"


def _from_torchvision(name: str) -> Any:
    try:
        weights = zoo.get_weight(name) if "." in name else zoo.get_model_weights(name)["DEFAULT"]
    except (ValueError, KeyError, AttributeError):
        raise CheckpointError(f"torchvision has no weights {name!r}; {_HELP}") from None
    return read_tensor_file(download(weights.url, advice=_HELP))


def _from_file(path: str) -> Any:
    if not Path(path).is_file():
        raise CheckpointError(f"no pretrained weights at {path!r}; {_HELP}")
    return read_tensor_file(path)


def _unwrap(content: Any, source: str) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source!r} holds no state dict; {_HELP}")
    return named_tensors(content, source)


def _strip(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
