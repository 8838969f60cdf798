"""Follow channel numbers through a traced model, node by node."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from razorlite.core.errors import ExportError
from razorlite.structures import Inputs
from razorlite.trace import maps
from razorlite.trace.calls import Call, Rule, is_altered, is_in_place
from razorlite.trace.functions import NORMS, Owner, layer_of
from razorlite.trace.ledger import Ledger
from razorlite.trace.sizes import remembered

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
_HOMES = ("torch", "_operator", "torchvision", "builtins")


class Propagator:
    """Runs a graph on meta tensors and, beside each tensor, its label map."""

    def __init__(
        self,
        traced: fx.GraphModule,
        ledger: Ledger,
        find_rule: Callable[[Call], Rule],
        bare: Mapping[int, str],
        owners: Mapping[int, Owner],
    ) -> None:
        """Keep what is needed.

        Args:
            traced: the graph.
            ledger: the book to write to.
            find_rule: finds the rule for a call.
            bare: names of the tensors that no layer uses, by their ids.
            owners: whose each tensor is, by their ids.
        """
        self.traced, self.ledger, self.find_rule, self.bare = traced, ledger, find_rule, bare
        self.owners = owners
        self.layers: dict[fx.Node, str] = {}  # calls of functions that are layers, and their paths
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
            of_layers = all(self._layer(user) for user in node.users)
            name = None if of_layers else self.bare.get(id(value))
            self.labels[node] = maps.of_tensor(name, value.shape, self.ledger)

    def _layer(self, node: fx.Node) -> Owner | None:
        """Return the owner of the weights of a function's call where it is a layer."""
        if node.op != "call_function":
            return None

        def tensor(given: fx.Node) -> Any:
            known = given.op == "get_attr"
            return operator.attrgetter(str(given.target))(self.traced) if known else given

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), tensor)
        return layer_of(self._target(node)[1], args, kwargs, self.owners)

    def _call(self, node: fx.Node) -> None:
        call = self._prepare(node)
        self.values[node] = self.labels[node] = call.out
        if is_dataclass(call.out):  # which a layer that is not looked into is given
            self.labels[node] = call.labels, dict(call.label_kwargs)
            return
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(call.out)):
            self.values[node] = self.labels[node] = _with_sources(call)
            return
        labels = self.find_rule(call)(call, self.ledger)
        self.labels[node] = tree_map(_settle, labels)
        if node.op == "call_method" and is_in_place(str(node.target)):
            # what is read by the old name from now on has changed, too
            self.labels[node.args[0]] = self.labels[node]  # type: ignore[index]

    def _prepare(self, node: fx.Node) -> Call:
        run, name, module = self._target(node)
        args, kwargs = self._values(node.args), self._values(node.kwargs)
        owner = self._layer(node)
        stack = list(node.meta.get("nn_module_stack", {"": ("", None)}).values())
        path = str(node.target) if module is not None else str(stack[-1][0])
        try:
            # a norm changes no shape, and torch takes long to run one on meta tensors
            plain = (isinstance(module, _NORMS) and not is_altered(module)) or (
                owner is not None and name in NORMS
            )
            out = args[0] if plain else run(*args, **kwargs)
        except Exception as error:  # whatever an operation may raise
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(
                f"{name} ({node.name}) in {path or 'the model'} fails on meta tensors: {text}; "
                "check the input shape, or trace a part of the model"
            ) from error
        labels, label_kwargs = self._labels(node.args), self._labels(node.kwargs)
        home = str(getattr(run, "__module__", None) or "torch").split(".")[0]
        call = Call(
            run=run,
            name=name,
            known=node.op == "call_method" or home in _HOMES,
            path=path,
            module=module,
            altered=module is not None and is_altered(module),
            args=args,
            kwargs=kwargs,
            labels=labels,
            label_kwargs=label_kwargs,
            written=node.args,
            written_kwargs=node.kwargs,
            out=out,
            node=node.name,
            line=node.meta.get("line", ""),
        )
        if owner is None:
            return call
        self.layers[node] = owner.path
        return replace(call, path=owner.path, module=owner.module, as_function=True)

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


def _with_sources(call: Call) -> Any:
    """Return a shape or size that remembers whose it is, or any other result as it is."""
    if call.name != "size" and call.args[1:] != ("shape",):
        return call.out
    labels, dim = call.labels[0], call.argument(1, "dim")
    known = isinstance(labels, Tensor)
    return remembered(call.out, labels if known else None, dim if isinstance(dim, int) else None)


def _settle(value: Any) -> Any:
    return maps.settle(value) if isinstance(value, Tensor) else value
