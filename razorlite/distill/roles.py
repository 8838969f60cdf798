"""Which part of a model plays which role in a recipe, found by names, kinds and one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.cost.count import evaluating
from razorlite.distill.taps import flat_tensors
from razorlite.models.heads.class_head import ClassHead
from razorlite.models.heads.dense import DenseHead
from razorlite.models.heads.roi_head import RoIHead
from razorlite.structures import Inputs

_PYRAMIDS = ("neck", "backbone.fpn", "fpn", "backbone", "")
_CLASS_MAPS = ("head.classification_head.cls_logits",)

Size = tuple[int, ...]
Head = TypeVar("Head", bound=nn.Module)


@dataclass(frozen=True)
class Maps:
    """What a place of a model gives.

    Attributes:
        tap: the place.
        sizes: (C, H, W) of each map, or (C,) of vectors.
    """

    tap: str
    sizes: tuple[Size, ...]

    @property
    def channels(self) -> set[int]:
        """The numbers of channels of all maps."""
        return {size[0] for size in self.sizes}

    def __str__(self) -> str:
        shown = ", ".join(" x ".join(map(str, size)) for size in self.sizes)
        return f"{self.tap or 'the output'} ({shown})"


class StopRun(BaseException):
    """Ends a run of a model as soon as what it is for is known."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def output_of(model: nn.Module, name: str, inputs: Inputs) -> Any:
    """Return what a module gives when it first runs, and run the model no further.

    Args:
        model: is run in evaluation mode.
        name: of the module; empty for the model itself.
        inputs: what the model is called with, such as images (N, 3, H, W).
    """

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        raise StopRun(output)

    handle = model.get_submodule(name).register_forward_hook(stop)
    try:
        with torch.no_grad(), evaluating(model):
            return model(inputs)
    except StopRun as stopped:
        return stopped.output
    finally:
        handle.remove()


def maps_at(model: nn.Module, name: str, inputs: Inputs) -> Maps | None:
    """Return what a module gives, given images (N, 3, H, W); None where these are no maps."""
    tensors = flat_tensors(output_of(model, name, inputs))
    if not tensors or any(t.ndim not in (2, 4) or not t.is_floating_point() for t in tensors):
        return None
    return Maps(name, tuple(tuple(t.shape[1:]) for t in tensors))


def pyramid_of(model: nn.Module, inputs: Inputs) -> Maps | None:
    """Return the maps that a model's head sees, given images (N, 3, H, W); None if unknown."""
    for name in _PYRAMIDS:
        if _has(model, name):
            found = maps_at(model, name, inputs)
            return found if found and all(len(size) == 3 for size in found.sizes) else None
    return None


def stages_of(model: nn.Module, inputs: Inputs) -> Maps | None:
    """Return the maps of a classifier's backbone, given images (N, 3, H, W); None if unknown."""
    if not _has(model, "backbone") or logits_of(model, inputs) is None:
        return None
    found = maps_at(model, "backbone", inputs)
    return found if found and all(len(size) == 3 for size in found.sizes) else None


def features_of(model: nn.Module) -> str | None:
    """Return what goes into a classifier's last linear layer, as recorded; None if there is none.

    The last as modules are listed.
    """
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return f"{linear[-1]}:input" if linear else None


def logits_of(model: nn.Module, inputs: Inputs) -> Maps | None:
    """Return a classifier's logits, given images (N, 3, H, W); None where it gives something else.

    A model with the parts of a detector is none.
    """
    if dense_head(model) or region_head(model) or hasattr(model, "rpn"):
        return None
    found = maps_at(model, "", inputs)
    return found if found and [len(size) for size in found.sizes] == [1] else None


def class_maps_of(model: nn.Module, inputs: Inputs) -> Maps | None:
    """Return a one-stage head's class logits per level, given images (N, 3, H, W)."""
    name = dense_head(model)
    if name is None:
        name = next((n for n in _CLASS_MAPS if _has(model, n)), None)
        return None if name is None else maps_at(model, name, inputs)
    head = model.get_submodule(name)
    assert isinstance(head, ClassHead)
    layer = f"{name}.{head.class_layers[0].name}"
    tap = f"{layer}.*" if isinstance(model.get_submodule(layer), nn.ModuleList) else layer
    raw = output_of(model, name, inputs)
    return Maps(tap, tuple(tuple(m.shape[1:]) for m in raw[0]))


def dense_head(model: nn.Module) -> str | None:
    """Return the name of a model's one-stage head of razorlite; a second stage's is none."""
    if region_head(model):
        return None
    return _first(model, DenseHead)


def region_head(model: nn.Module) -> str | None:
    """Return the name of a model's second stage of razorlite."""
    return _first(model, RoIHead)


def head_named(model: nn.Module, name: str, kind: type[Head], title: str) -> Head:
    """Return a model's head of a name.

    Args:
        model: student or teacher.
        name: of the head.
        kind: its class.
        title: what a head of that class is called.

    Raises:
        ConfigError: the model has none of that name and class.
    """
    found = dict(model.named_modules()).get(name)
    if isinstance(found, kind):
        return found
    came = "nothing" if found is None else type(found).__name__
    raise ConfigError(
        f"{type(model).__name__} has {came} at {name!r}, wanted {title} of razorlite; "
        f"name its place, or compare maps by pairs"
    )


def _first(model: nn.Module, kind: type[nn.Module]) -> str | None:
    return next((name for name, part in model.named_modules() if isinstance(part, kind)), None)


def _has(model: nn.Module, name: str) -> bool:
    return name in dict(model.named_modules())
