"""Under bf16 only layers compute in bf16: losses, boxes and what is assigned are float32."""

import importlib
import pkgutil
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, tensor

from razorlite import ops
from razorlite.models.heads.gfl_head import Integral
from razorlite.ops import regions
from razorlite.ops.dynamic_masks import dynamic_masks, kernel_size
from razorlite.structures import Batch
from tests.models.test_detectors import BUILDERS, USUAL, _images

# they look at logits only to choose the largest, and at maps only to pick entries or pool them
CHOOSING = {"top_candidates", "entries_of", "propose_regions", "pool_regions", "sparse_roi_align"}
# ... and these take the layers' output as it is and begin by making it float32
WIDENING = {
    *("sigmoid_focal_loss_sum", "quality_focal_loss_sum", "distribution_focal_loss", "dice_loss"),
    *("refine_regions", "match_costs", "dynamic_masks"),
}


def _functions() -> list[tuple[object, str]]:
    modules = [importlib.import_module(f"razorlite.ops.{m.name}") for m in _modules()]
    return [
        (module, name)
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
        if not name.startswith("_") and not isinstance(value, type)
    ]


def _modules() -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules(ops.__path__))


@pytest.fixture
def halves(monkeypatch) -> set[str]:
    """Names of the functions of `ops` that are given bf16, whoever calls them."""
    seen: set[str] = set()
    users = [m for n, m in sys.modules.items() if n.startswith("razorlite.")]
    for module, name in _functions():
        original = getattr(module, name)
        watched = _watched(original, name, seen)
        for user in users:
            if getattr(user, name, None) is original:
                monkeypatch.setattr(user, name, watched)
    return seen


def _watched(function: Callable, name: str, seen: set[str]) -> Callable:
    def call(*args: object, **kwargs: object) -> object:
        if any(_is_half(value) for value in (*args, *kwargs.values())):
            seen.add(name)
        return function(*args, **kwargs)

    return call


def _is_half(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_half, value))
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__.strip("_"))
def test_losses_and_boxes_are_float32(build, halves):
    torch.manual_seed(0)
    model, images = build().train(), _images()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(images, USUAL)
        found = model.eval().predict(Batch(images))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {d.boxes.dtype for d in found} | {d.scores.dtype for d in found} == {torch.float32}
    assert halves <= CHOOSING | WIDENING


def _pasted() -> Tensor:
    masks, boxes = torch.rand(3, 28, 28), tensor([[0.0, 0, 90, 70], [3, 5, 99, 81], [9, 9, 20, 20]])
    return regions.paste_masks(masks, boxes, (83, 107))


def _centres() -> Tensor:
    return regions.centres_of_mass(torch.rand(3, 200, 300) > 0.5)


def _networks() -> Tensor:
    kernels = torch.randn(2, kernel_size(4, 4, 2))
    priors = tensor([[101.0, 203, 8], [333, 17, 16]])
    return dynamic_masks(torch.randn(4, 30, 50), kernels, priors, 8, 4, 2)


def _means() -> Tensor:
    return Integral(16)(torch.randn(5, 68))


@pytest.mark.parametrize("compute", [_pasted, _centres, _networks, _means])
def test_products_of_coordinates_are_not_rounded(compute):
    results = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(compute())
    assert torch.equal(*results)
