"""From a module to its graph: torch.fx on a copy without data."""

import copy
import inspect
import linecache
import traceback
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from razorlite.core.errors import ExportError

PLAIN = (FrozenBatchNorm2d,)


class _Tracer(fx.Tracer):
    """Stops at torch's own layers, at plain subclasses of them, and where the user says."""

    def __init__(self, leaves: Sequence[str]) -> None:
        super().__init__()
        self.leaves = tuple(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        named = any(fnmatchcase(module_qualified_name, pattern) for pattern in self.leaves)
        return named or isinstance(m, PLAIN) or super().is_leaf_module(m, module_qualified_name)


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
    try:
        return copy.deepcopy(model, memo).eval()
    except (RuntimeError, TypeError) as error:
        raise ExportError(
            f"{type(model).__name__} cannot be copied: {str(error).splitlines()[0]}; weights that "
            "are computed from others must be made plain first (nn.utils.remove_weight_norm)"
        ) from error


def trace(model: nn.Module, leaves: Sequence[str] = ()) -> fx.GraphModule:
    """Return the graph of `model.forward(images)`.

    Args:
        model: a skeleton; it must not be the user's own module, as constants are hung on it.
        leaves: patterns of module paths that are taken as they are.

    Raises:
        ExportError: the forward cannot be traced; names the line and what can be done.
    """
    if "forward" in vars(model):
        raise ExportError(
            f"{type(model).__name__} has a forward of its own, set on the object, which tracing "
            "does not see; define it in the class"
        )
    defaults = list(inspect.signature(model.forward).parameters.values())[1:]
    fixed = {p.name: p.default for p in defaults if p.default is not p.empty}
    try:
        graph = _Tracer(leaves).trace(model, concrete_args=fixed or None)
    except Exception as error:  # whatever a forward may raise on symbolic values
        raise ExportError(_cannot_trace(model, error)) from error
    return fx.GraphModule(model, graph)


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
