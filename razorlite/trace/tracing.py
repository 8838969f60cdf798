"""From a module to its graph: torch.fx on a copy without data."""

import copy
import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import DeformConv2d
from torchvision.ops.misc import FrozenBatchNorm2d

from razorlite.core.errors import ExportError
from razorlite.trace.rules import is_taught
from razorlite.trace.transformers import LOOKED_INTO, follow_plainly

PLAIN = (DeformConv2d, FrozenBatchNorm2d, LayerNorm2d)
_LOOKED_INTO = (nn.Sequential, nn.Embedding, *LOOKED_INTO)
_TORCH, _HERE = (f"{Path(torch.__file__).parent}{os.sep}", "<"), str(Path(__file__).parent)


class _Tracer(fx.Tracer):
    """Stops at torch's own layers, at plain subclasses of them, and where the user says."""

    def __init__(self, leaves: Sequence[str]) -> None:
        super().__init__()
        self.leaves = tuple(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m, module_qualified_name, self.leaves)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["line"] = source_line()
        return node


def is_leaf(module: nn.Module, path: str, leaves: Sequence[str]) -> bool:
    """Return whether a module is taken as it is, and not looked into."""
    if any(fnmatchcase(path, pattern) for pattern in leaves) or isinstance(module, PLAIN):
        return True
    if is_taught(module):
        return True
    of_torch = module.__module__.startswith(("torch.nn", "torch.ao.nn"))
    return of_torch and not isinstance(module, _LOOKED_INTO)


def source_line() -> str:
    """Return file and line of the forward that is running, such as `model.py:12`; empty if none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back  # of what asks
    while frame is not None and not frame.f_code.co_filename.startswith(_HERE):
        name = frame.f_code.co_filename
        if not name.startswith(_TORCH):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy of the model in evaluation mode.

    Args:
        model: not changed.
        memo: what takes the place of objects, by their ids.

    Raises:
        ExportError: the model cannot be copied.
    """
    try:
        return follow_plainly(_uncompiled(copy.deepcopy(model, memo).eval()))
    except (RuntimeError, TypeError) as error:
        raise ExportError(
            f"{type(model).__name__} cannot be copied: {str(error).splitlines()[0]}; weights that "
            "are computed from others must be made plain first (nn.utils.remove_weight_norm)"
        ) from error


def _uncompiled(model: nn.Module) -> nn.Module:
    """Let the modules of a copy that were wrapped by `torch.compile` call what they wrap."""
    for module in model.modules():
        if (wrapped := module._modules.get("_orig_mod")) is not None:
            vars(module)["forward"] = wrapped
    return model


def skeleton(model: nn.Module) -> nn.Module:
    """Return a copy of the model in evaluation mode whose tensors are on the meta device.

    Raises:
        ExportError: the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        ghost = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            ghost = nn.Parameter(ghost, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = ghost
    return copied(model, memo)


def trace(model: nn.Module, leaves: Sequence[str] = ()) -> fx.GraphModule:
    """Return the graph of `model.forward(images)`.

    Args:
        model: a skeleton; it must not be the user's own module, as constants are hung on it.
        leaves: patterns of module paths that are taken as they are.

    Raises:
        ExportError: the forward cannot be traced; names the line and what can be done.
    """
    defaults = list(inspect.signature(model.forward).parameters.values())[1:]
    fixed = {p.name: p.default for p in defaults if p.default is not p.empty}
    try:
        with _kept_state(model):
            graph = _Tracer(leaves).trace(model, concrete_args=fixed or None)
    except Exception as error:  # whatever a forward may raise on symbolic values
        raise ExportError(_cannot_trace(model, error)) from error
    return fx.GraphModule(model, graph)


@contextmanager
def _kept_state(model: nn.Module) -> Iterator[None]:
    """Give buffers and attributes back that a forward replaces by symbolic values."""
    books = [book for m in model.modules() for book in (m._buffers, vars(m))]
    before = [dict(book) for book in books]
    try:
        yield
    finally:
        for book, kept in zip(books, before, strict=True):
            book.update(kept)


def graphs(model: nn.Module, leaves: Sequence[str] = ()) -> list[fx.GraphModule]:
    """Return the graph in evaluation mode and, if it is another one, that in training mode.

    A model that cannot be traced in training mode, as it wants targets there, has one graph.
    Arguments, errors: as for `trace`.
    """
    first = trace(model.eval(), leaves)
    try:
        second = trace(model.train(), leaves)
    except ExportError:
        return [first]
    finally:
        model.eval()
    return [first] if _text(first) == _text(second) else [first, second]


def _text(traced: fx.GraphModule) -> list[str]:
    return [f"{n.op} {n.target} {n.args} {n.kwargs}" for n in traced.graph.nodes]


def _cannot_trace(model: nn.Module, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/torch/" not in f.filename and f.filename != __file__]
    place = ""
    if own:
        code = own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno or 0)
        place = f" at {own[-1].filename}:{own[-1].lineno} `{code.strip()}`"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{type(model).__name__} cannot be traced{place}: {reason}; "
        "trace the part that can be (such as model.backbone), or name the module as a leaf"
    )
