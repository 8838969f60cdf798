"""Multiply-accumulates and parameters, counted exactly.

Counted are convolutions (transposed and deformable ones, too), linear layers and matrix products,
also inside attention, however they are called: the operations are seen as they are dispatched, not
guessed from module types. Norms, activations, additions and pooling count nothing.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torchvision  # noqa: F401 brings torch.ops.torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from razorlite.cost.norms import QuickNorms
from razorlite.structures import inputs_of, map_tensors

T = TypeVar("T")


@dataclass(frozen=True)
class ModuleCost:
    """Cost of one module, with all that is inside.

    Attributes:
        macs: multiply-accumulates of one image.
        params: parameters, each once.
    """

    macs: int
    params: int


@dataclass(frozen=True)
class Cost:
    """Cost of a model for one image.

    Attributes:
        macs: multiply-accumulates of convolutions, linear layers and matrix products.
        params: parameters, each once.
        modules: module path to its cost, in the model's order.
    """

    macs: int
    params: int
    modules: dict[str, ModuleCost] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `params`, `macs`, and `modules` where there are any."""
        result: dict[str, Any] = {"params": self.params, "macs": self.macs}
        if self.modules:
            result["modules"] = {name: vars(cost) for name, cost in self.modules.items()}
        return result


def count(model: nn.Module, example: Any = (224, 224)) -> Cost:
    """Count what `model(inputs)` costs for one sample.

    Runs once on shapes alone (the meta device); where a model's operations need values (boxes that
    are sorted by score, say), on zeros, and then the count holds for zeros. The model is unchanged.
    A module that runs at several places counts under its first path.

    Args:
        model: what to count.
        example: (height, width) in pixels of the images that the model takes, (1, 3, H, W), or of
            its own example, see `razorlite.structures.example_inputs`; or what it is called with:
            a tuple of positional arguments, or the only one, such as a list of images.
    """
    macs = _with_containers(count_calls(model, *inputs_of(model, example)), model)
    modules = {
        name: ModuleCost(macs[name], params_of(module))
        for name, module in model.named_modules()
        if name
    }
    return Cost(macs[""], params_of(model), modules)


def count_calls(module: nn.Module, *inputs: Any) -> dict[str, int]:
    """Return the multiply-accumulates of `module(*inputs)` by module path; "" is all of it.

    Only the shapes and types of tensors matter, as far as the module needs no values. Modules that
    do not run are left out.
    """
    with evaluating(module), plain_attention():
        try:
            return _count_on(torch.device("meta"), module, *inputs)
        except Exception:  # whatever a forward does that wants values: it gets some
            first = next(module.parameters(), torch.empty(0))
            return _count_on(first.device, module, *inputs)


def _with_containers(macs: dict[str, int], model: nn.Module) -> dict[str, int]:
    """Add the modules that are not called themselves (lists, say): the sum of their parts."""
    complete = dict(macs)
    for name, module in reversed(list(model.named_modules())):
        if name not in complete:
            inner = (f"{name}.{child}" for child, _ in module.named_children())
            complete[name] = sum(complete.get(path, 0) for path in inner)
    return complete


def params_of(*modules: nn.Module) -> int:
    """Return the number of parameters in all modules, each once."""
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


def _count_on(device: torch.device, module: nn.Module, *inputs: Any) -> dict[str, int]:
    without_values = on_meta(module) if device.type == "meta" else nullcontext()
    with torch.no_grad(), without_values, counter() as counted:
        module(*moved(inputs, device))
    root = f"{type(module).__name__}."
    first = first_paths(module)
    macs = {"": counted.get_total_flops() // 2}
    for name, flops in counted.get_flop_counts().items():
        if name.startswith(root):
            path = first.get(name[len(root) :], name[len(root) :])
            macs[path] = macs.get(path, 0) + sum(flops.values()) // 2
    return macs


def moved(x: T, device: torch.device) -> T:
    """Return inputs on a device; what has no values gets zeros."""
    return map_tensors(  # type: ignore[no-any-return]
        lambda v: torch.zeros_like(v, device=device) if v.is_meta else v.to(device), x
    )


@contextmanager
def counter() -> Iterator[FlopCounterMode]:
    """Count the operations that run within the block."""
    with QuickNorms(), FlopCounterMode(display=False, custom_mapping=_deformable()) as counted:
        yield counted


def first_paths(model: nn.Module) -> dict[str, str]:
    """Return the first path of the module at each path; a shared module has several."""
    first: dict[nn.Module, str] = {}
    return {n: first.setdefault(m, n) for n, m in model.named_modules(remove_duplicate=False)}


@contextmanager
def on_meta(module: nn.Module) -> Iterator[None]:
    """Give a module parameters and buffers without values within the block.

    What a forward sets on its modules (anchors that it keeps, say) is gone after the block, too.
    """
    modules = list(module.modules())
    attributes = [dict(vars(m)) for m in modules]
    stores: list[Any] = [store for m in modules for store in (m._parameters, m._buffers)]
    saved = [dict(store) for store in stores]
    twins = {
        value: torch.empty_like(value, device="meta")
        for store in saved
        for value in store.values()
        if value is not None
    }
    try:
        for store in stores:
            store.update({n: None if v is None else twins[v] for n, v in store.items()})
        yield
    finally:
        for store, values in zip(stores, saved, strict=True):
            store.update(values)
        for m, values in zip(modules, attributes, strict=True):
            vars(m).clear()
            vars(m).update(values)


def _deformable() -> dict[Any, Any]:
    """Return the formula of the one convolution that torch does not know."""

    def flops(x: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        batch, _, height, width = out_shape
        macs: int = 2 * batch * height * width * math.prod(weight)
        return macs

    return {torch.ops.torchvision.deform_conv2d: flops}


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let attention run as the matrix products that are counted, not as one fused operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode within the block; every module's own mode comes back."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
