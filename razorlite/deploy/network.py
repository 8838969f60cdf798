"""Which nodes of an ONNX graph compute the network, and which make detections of its outputs."""

import ast
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

_LAYER = "razorlite.layer"  # in the metadata of a node
_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter tells modules, from the outermost on
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# What ONNX Runtime computes in 8 bits between layers with weights.
_PASSING = {
    *("Relu", "LeakyRelu", "Clip", "Sigmoid", "Add", "Mul", "Concat", "Split", "Slice", "Pad"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Reshape", "Transpose"),
    *("Squeeze", "Unsqueeze", "Flatten"),
}
# Where outputs become boxes: what comes before any of these is a prediction, not a feature.
_DECODING = {"TopK", "NonMaxSuppression", "GatherND", "GatherElements", "ScatterElements", "Exp"}


@dataclass(frozen=True)
class Network:
    """The layers with weights of an ONNX model, and the nodes between them.

    Attributes:
        model: an `onnx.ModelProto` whose nodes have names.
        whole: compute the layers whose outputs are scores and boxes in 8 bits, too.
    """

    model: Any
    whole: bool = False

    @cached_property
    def weighted(self) -> list[Any]:
        """Nodes that multiply by constant matrices or kernels, in order of execution."""
        constants = {x.name: tuple(x.dims) for x in self.model.graph.initializer}
        return [
            node
            for node in self.model.graph.node
            if node.op_type in _WEIGHTED
            and _is_matrix(constants.get(node.input[1], ()), columns=self.whole)
        ]

    @cached_property
    def outer(self) -> frozenset[str]:
        """Names of the layers with weights whose outputs are scores and boxes."""
        names = {node.name for node in self.weighted}

        def stops(node: Any) -> bool:
            return node.op_type in _DECODING

        return frozenset(
            node.name
            for node in self.weighted
            if not any(n.name in names for n in _reached([node], self._after, stops))
        )

    @cached_property
    def between(self) -> frozenset[str]:
        """Names of the nodes on a way of such nodes alone from a layer with weights to another."""
        names = {node.name for node in self.weighted}

        def stops(node: Any) -> bool:
            return node.op_type not in _PASSING or node.name in names

        ways = (self._after, self._before)
        after, before = ({n.name for n in _reached(self.weighted, way, stops)} for way in ways)
        passing = {n.name for n in self.model.graph.node if n.op_type in _PASSING}
        return frozenset(after & before & passing)

    def parts(self) -> dict[str, list[str]]:
        """Return the layers that can compute in 8 bits by module, such as "backbone.layer1.0"."""
        found = defaultdict(list)
        for node in self.weighted:
            if self.whole or node.name not in self.outer:
                found[_module(node)].append(node.name)
        return dict(found)

    def nodes(self, without: Collection[str] = ()) -> list[str]:
        """Return the names of the nodes that compute in 8 bits.

        Args:
            without: parts that stay in float, with the nodes that only they lead to or from.
        """
        kept = [n for part, names in self.parts().items() if part not in without for n in names]
        inner = set(kept)
        layers = [node for node in self.weighted if node.name in inner]
        others = {node.name for node in self.weighted} - inner

        def stops(node: Any) -> bool:
            return node.name in others or node.name not in self.between

        ways = (self._after, self._before)
        after, before = ({n.name for n in _reached(layers, way, stops)} for way in ways)
        return [*kept, *sorted(after & before & self.between)]

    def _after(self, node: Any) -> Iterator[Any]:
        for name in node.output:
            yield from self._consumers[name]

    def _before(self, node: Any) -> Iterator[Any]:
        for name in node.input:
            if name in self._producers:
                yield self._producers[name]

    @cached_property
    def _consumers(self) -> dict[str, list[Any]]:
        found = defaultdict(list)
        for node in self.model.graph.node:
            for name in node.input:
                found[name].append(node)
        return found

    @cached_property
    def _producers(self) -> dict[str, Any]:
        return {name: node for node in self.model.graph.node for name in node.output}


def _is_matrix(shape: tuple[int, ...], columns: bool) -> bool:
    """Return whether a constant is a kernel or a matrix; the mean of a distribution is a column."""
    return len(shape) > 2 or (len(shape) == 2 and (columns or min(shape) > 1))


def name_layers(model: Any, module: nn.Module) -> None:
    """Leave nothing in the metadata of nodes but the layer that each computes.

    Weights that the exporter transposes lose their names. What else it writes there has the paths
    of source files on the machine that exports.

    Args:
        model: an `onnx.ModelProto` as PyTorch's exporter gives it; changed in place.
        module: what was exported.
    """
    packed = {n for n, m in module.named_modules() if isinstance(m, nn.MultiheadAttention)}
    for node in model.graph.node:
        scopes = ["", *ast.literal_eval(_metadata(node).get(_SCOPES, "[]"))[:-1]]
        del node.metadata_props[:]
        layer = f"{scopes[-1]}.in_proj" if scopes[-1] in packed else scopes[-1]
        node.metadata_props.add(key=_LAYER, value=layer.removeprefix("model."))


def keep_layers(model: Any, original: Any) -> None:
    """Copy what `name_layers` wrote to the nodes of the same names in an optimised model."""
    layers = {node.name: _metadata(node).get(_LAYER) for node in original.graph.node}
    for node in model.graph.node:
        if layer := layers.get(node.name):
            node.metadata_props.add(key=_LAYER, value=layer)


def layer_of(node: Any) -> str:
    """Return the layer of the model that a node computes, as the name of its weight tells.

    Where that has none, what `name_layers` wrote counts, else the name of the node.
    """
    name = str(node.input[1]).rpartition("ConvBnFusion_W_")[2]
    if "." in name:
        return name.removeprefix("model.").removesuffix(".weight")
    return _metadata(node).get(_LAYER) or str(node.name)


def _metadata(node: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def _module(node: Any) -> str:
    """Return the module that a layer lies in."""
    layer = layer_of(node).removesuffix(".conv")
    return layer.rpartition(".")[0] or layer


def _reached(
    start: Iterable[Any], way: Callable[[Any], Iterator[Any]], stops: Callable[[Any], bool]
) -> list[Any]:
    """Return the nodes on a way from some nodes, those included at which it stops."""
    found: dict[str, Any] = {}
    todo = list(start)
    while todo:
        for node in way(todo.pop()):
            if node.name not in found:
                found[node.name] = node
                if not stops(node):
                    todo.append(node)
    return list(found.values())
