"""Follow channel numbers through a traced model, node by node."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from razorlite.core.errors import ExportError
from razorlite.structures import Inputs
from razorlite.trace import maps
from razorlite.trace.ledger import Ledger

_NORMS = (_NormBase, nn.GroupNorm)


@dataclass(frozen=True)
class Call:
    """One node of the graph as it runs.

    Attributes:
        node: the node.
        run: what computes the node from its arguments.
        name: name of the function or method, or the type of the module, without a trailing "_".
        path: of the module that is called or, for functions, that contains the call.
        module: the module that is called, or None.
        args: positional arguments with meta tensors.
        kwargs: keyword arguments with meta tensors.
        labels: positional arguments with label maps in place of tensors.
        label_kwargs: keyword arguments with label maps in place of tensors.
        out: result with meta tensors.
    """

    node: fx.Node
    run: Callable[..., Any]
    name: str
    path: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    labels: tuple[Any, ...]
    label_kwargs: Mapping[str, Any]
    out: Any

    @property
    def where(self) -> str:
        """The call in words, for reasons and errors."""
        inside = f" in {self.path}" if self.path else ""
        return f"{self.name} ({self.node.name}){inside}"

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument given by position or by name."""
        if len(self.args) > place:
            return self.args[place]
        return self.kwargs.get(name, default)

    def written(self, place: int, name: str) -> Any:
        """Return an argument as the graph has it: nodes where it is computed at run time."""
        if len(self.node.args) > place:
            return self.node.args[place]
        return self.node.kwargs.get(name)

    def maps(self) -> list[Tensor]:
        """Return the label maps of all tensors among the arguments."""
        leaves = tree_leaves((self.labels, dict(self.label_kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


Rule = Callable[[Call, Ledger], Any]


class Propagator:
    """Runs a graph on meta tensors and, beside each tensor, its label map."""

    def __init__(
        self, traced: fx.GraphModule, ledger: Ledger, find_rule: Callable[[Call], Rule]
    ) -> None:
        """Keep the graph, the book to write to, and what finds the rule for a call."""
        self.traced, self.ledger, self.find_rule = traced, ledger, find_rule
        self.values: dict[fx.Node, Any] = {}
        self.labels: dict[fx.Node, Any] = {}

    def run(self, example: Inputs) -> None:
        """Run the whole graph.

        Args:
            example: what the model takes, on the meta device.

        Raises:
            ExportError: an operation fails on the given shape; names the operation.
        """
        inputs = [node for node in self.traced.graph.nodes if node.op == "placeholder"]
        self.values[inputs[0]] = example
        with torch.no_grad():
            for node in self.traced.graph.nodes:
                self._step(node)

    def _step(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._place(node)
        elif node.op == "get_attr":
            self._constant(node)
        elif node.op == "output":
            for labels in tree_leaves(self._labels(node.args)):
                if isinstance(labels, Tensor):
                    self.ledger.fix(maps.numbers(labels), "output of the model")
        else:
            self._call(node)

    def _place(self, node: fx.Node) -> None:
        value = self.values.setdefault(node, node.args[0] if node.args else None)
        self.labels[node] = value
        if isinstance(value, Tensor):
            self.labels[node] = self._input(node.name, value)
        elif isinstance(value, Mapping):
            self.labels[node] = {k: self._input(f"{node.name}.{k}", v) for k, v in value.items()}

    def _input(self, name: str, value: Tensor) -> Tensor:
        """Return the label map of an input, whose channels stay: of images they are 3rd to last."""
        if value.dim() < 2:
            return maps.blank(value.shape)
        dim = value.dim() - 3 if value.dim() > 3 else 1
        channels = self.ledger.produce(f"<{name}>", value.shape[dim])
        self.ledger.fix(channels, "input of the model")
        return maps.broadcast(channels, dim, value.shape)

    def _constant(self, node: fx.Node) -> None:
        value = operator.attrgetter(str(node.target))(self.traced)
        self.values[node] = self.labels[node] = value
        if isinstance(value, Tensor):
            self.values[node] = value.to("meta")
            self.labels[node] = maps.blank(value.shape)

    def _call(self, node: fx.Node) -> None:
        call = self._prepare(node)
        self.values[node] = self.labels[node] = call.out
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(call.out)):
            return
        labels = self.find_rule(call)(call, self.ledger)
        self.labels[node] = tree_map(_settle, labels)
        if _is_in_place(node):  # what is read by the old name from now on has changed, too
            self.labels[node.args[0]] = self.labels[node]  # type: ignore[index]

    def _prepare(self, node: fx.Node) -> Call:
        run, name, module = self._target(node)
        args, kwargs = self._values(node.args), self._values(node.kwargs)
        stack = list(node.meta.get("nn_module_stack", {"": ("", None)}).values())
        path = str(node.target) if module is not None else str(stack[-1][0])
        try:
            # a norm changes no shape, and torch takes long to run one on meta tensors
            plain = isinstance(module, _NORMS) and not is_altered(module)
            out = args[0] if plain else run(*args, **kwargs)
        except Exception as error:  # whatever an operation may raise
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"{name} ({node.name}) in {path or 'the model'} fails on meta tensors: {text}; "
                "check the input shape, or trace a part of the model"
            ) from error
        labels, label_kwargs = self._labels(node.args), self._labels(node.kwargs)
        return Call(node, run, name, path, module, args, kwargs, labels, label_kwargs, out)

    def _target(self, node: fx.Node) -> tuple[Callable[..., Any], str, nn.Module | None]:
        if node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            return module, type(module).__name__, module
        if node.op == "call_method":
            name = str(node.target)
            return _Method(name), name.rstrip("_") if not name.startswith("__") else name, None
        assert callable(node.target)
        return node.target, getattr(node.target, "__name__", str(node.target)).rstrip("_"), None

    def _values(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, lambda n: self.values[n])

    def _labels(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, lambda n: self.labels[n])


@dataclass(frozen=True)
class _Method:
    name: str

    def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, self.name)(*args, **kwargs)


def is_altered(module: nn.Module) -> bool:
    """Return whether an object does something else than its class says."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    parametrized = bool(getattr(module, "parametrizations", None))
    return any(hooks) or parametrized or "forward" in vars(module)


def _is_in_place(node: fx.Node) -> bool:
    """Return whether a call is of a method such as `transpose_`."""
    name = str(node.target)
    return node.op == "call_method" and name.endswith("_") and not name.endswith("__")


def _settle(value: Any) -> Any:
    return maps.settle(value) if isinstance(value, Tensor) else value
