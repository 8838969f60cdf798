"""One call of a model's forward, as rules see it, whichever way the forward was read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from razorlite.core.strided import changes_layout_alone
from razorlite.trace.ledger import Ledger
from razorlite.trace.sizes import Size


@dataclass(frozen=True)
class Call:
    """One operation or layer as it runs.

    Attributes:
        run: what computes the result from the arguments.
        name: name of the function or method, or the type of the module, without underscores around.
        known: whether the name says what is done: it is one of torch's own.
        path: of the module that is called or, for functions, that contains the call.
        module: the module that is called, or None.
        altered: whether the module does something else than its class says.
        args: positional arguments; tensors may be on the meta device.
        kwargs: keyword arguments.
        labels: positional arguments with label maps in place of tensors.
        label_kwargs: keyword arguments with label maps in place of tensors.
        written: positional arguments as the code has them: what is computed at run time is a node
            of the graph or a `Size`.
        written_kwargs: keyword arguments as the code has them.
        out: result.
        node: name of the call's node, if there is a graph.
        line: file and line of the source.
        computed: of a constant that is written to, which of its sizes were computed.
        as_function: whether the module is a layer that a forward calls as a function.
    """

    run: Callable[..., Any]
    name: str
    known: bool
    path: str
    module: nn.Module | None
    altered: bool
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    labels: tuple[Any, ...]
    label_kwargs: Mapping[str, Any]
    written: tuple[Any, ...]
    written_kwargs: Mapping[str, Any]
    out: Any
    node: str
    line: str
    computed: tuple[bool, ...] = ()
    as_function: bool = False

    @property
    def where(self) -> str:
        """The call in words, for reasons and errors."""
        node = f" ({self.node})" if self.node else ""
        inside = f" in {self.path}" if self.path else ""
        line = f" at {self.line}" if self.line else ""
        return f"{self.name}{node}{inside}{line}"

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument given by position or by name."""
        if len(self.args) > place:
            return self.args[place]
        return self.kwargs.get(name, default)

    def as_written(self, place: int, name: str) -> Any:
        """Return an argument as the code has it."""
        if len(self.written) > place:
            return self.written[place]
        return self.written_kwargs.get(name)

    def maps(self) -> list[Tensor]:
        """Return the label maps of all tensors among the arguments."""
        leaves = tree_leaves((self.labels, dict(self.label_kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


Rule = Callable[[Call, Ledger], Any]


def is_computed(written: Any) -> bool:
    """Return whether an argument comes from other values when the model runs."""
    return isinstance(written, fx.Node | Size | Tensor)


def is_altered(module: nn.Module) -> bool:
    """Return whether an object does something else than its class says."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    hooked = not all(map(changes_layout_alone, hooks))
    parametrized = bool(getattr(module, "parametrizations", None))
    return hooked or parametrized or has_own_forward(module)


def has_own_forward(module: nn.Module) -> bool:
    """Return whether an object's forward is not that of its class, nor one that was compiled."""
    return "forward" in vars(module) and "_orig_mod" not in module._modules


def is_in_place(name: str) -> bool:
    """Return whether a method, such as `transpose_`, changes the tensor that it is called on."""
    return name.endswith("_") and not name.endswith("__")
