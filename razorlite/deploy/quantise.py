"""Files that compute in 8 bits, made of exported ones by ONNX Runtime's static quantisation.

Weights are int8, one scale for each output channel; activations uint8, which is what x86
processors multiply by int8 fastest. Layers whose outputs are scores and boxes, and all that is made
of these, stay in float.
"""

import json
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from razorlite.core.errors import ExportError
from razorlite.core.files import write_bytes_atomic
from razorlite.core.progress import progress
from razorlite.deploy.network import Network, keep_layers, layer_of
from razorlite.deploy.runtimes import needed, session

INT8_NAME = "razorlite.int8.json"
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibrated:
    """A file that was exported, with the ranges of what its nodes give.

    Attributes:
        network: its nodes, batch norms multiplied into convolutions.
        ranges: name of a tensor to its least and greatest value in the images.
        images: how many images these are from.
        meta: texts that the file holds.
    """

    network: Network
    ranges: Ranges
    images: int
    meta: Mapping[str, str]

    def write(self, path: str | Path, floats: Collection[str] = ()) -> None:
        """Write the file that computes in 8 bits.

        Args:
            path: where to; a file of that name is replaced.
            floats: parts of the network (see `Network.parts`) that stay in float.

        Raises:
            RunFolderError: the file cannot be written.
        """
        model = _quantised(self.network, self.ranges, self.network.nodes(floats))
        own = {"calibration_images": self.images, "float": sorted(floats)}
        about = {"precision": "int8", "weights": "int8", "activations": "uint8", **own}
        del model.metadata_props[:]
        for name, value in {**self.meta, INT8_NAME: json.dumps(about)}.items():
            model.metadata_props.add(key=name, value=value)
        write_bytes_atomic(path, model.SerializeToString())


def calibrate(
    path: str | Path,
    batches: Sequence[Tensor],
    learned: Ranges | None = None,
    *,
    whole: bool = False,
) -> Calibrated:
    """Run an exported file on images, and note the range of each tensor between its layers.

    Args:
        path: an .onnx file in float.
        batches: (N, 3, H, W) pixels from 0 to 255 each.
        learned: name of a layer to the range of its input that `QuantisedStep` has trained with,
            in the place of the images'.
        whole: compute the last layers in 8 bits, too, as of a file of one layer.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: a package is missing, the file is quantised already or has no layer that could
            be, there are no images, or something in them is not finite.
    """
    path = Path(path)
    if not batches:
        raise ExportError(f"{path}: int8 wants calibration images, got none")
    model = folded(path)
    network = Network(model, whole)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError(f"{path} is quantised already; name the file in float")
    if not network.parts():
        raise ExportError(f"{path} has no layer with weights but its last; nothing to quantise")
    meta = {entry.key: entry.value for entry in model.metadata_props}
    found = _ranges(model, _tensors(network), batches)
    for node in network.weighted:
        if node.input[0] in found and layer_of(node) in (learned or {}):
            found[node.input[0]] = (learned or {})[layer_of(node)]
    return Calibrated(network, found, sum(len(x) for x in batches), meta)


def folded(path: Path) -> Any:
    """Return a model whose batch norms are multiplied into the convolutions before them.

    A convolution that several levels share becomes one for each, as each has norms of its own. The
    texts that the file holds stay.
    """
    onnx = needed("onnx")
    with TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        session(path, 1, folded=folded)
        model = onnx.load(str(folded))
    original = onnx.load(str(path))
    keep_layers(model, original)
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return onnx.shape_inference.infer_shapes(model)


def _tensors(network: Network) -> list[str]:
    """Return the names of the float tensors that go into or come out of nodes in 8 bits."""
    graph, chosen = network.model.graph, set(network.nodes())
    known = [*graph.value_info, *graph.input, *graph.output]
    floats = {x.name for x in known if x.type.tensor_type.elem_type == 1}  # TensorProto.FLOAT
    constants = {x.name for x in graph.initializer}
    names = (name for n in graph.node if n.name in chosen for name in (*n.input, *n.output) if name)
    return [name for name in dict.fromkeys(names) if name in floats - constants]


def _ranges(
    model: Any, names: Sequence[str], batches: Iterable[Tensor]
) -> dict[str, tuple[float, float]]:
    """Return least and greatest values over all images."""
    run = _runner(model, names)
    limits = np.zeros((2, len(names)), dtype=np.float32)  # zero is exact: padding is made of it
    singles = [one for images in batches for one in images.split(1)]
    for one in progress(singles, "images", len(singles)):
        values = run(one)
        limits[0] = np.minimum(limits[0], [value.min() for value in values])
        limits[1] = np.maximum(limits[1], [value.max() for value in values])
    found = {name: (float(a), float(b)) for name, a, b in zip(names, *limits, strict=True)}
    broken = [name for name, ends in found.items() if not np.isfinite(ends).all()]
    if broken:
        raise ExportError(
            f"{broken[0]} is not finite on the calibration images; was the model trained?"
        )
    return found


def _runner(model: Any, names: Sequence[str]) -> Any:
    """Return a function of images that gives the tensors of some names."""
    onnx = needed("onnx")
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    shown = {output.name for output in inner.graph.output}
    inner.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in shown)
    opened = session(inner.SerializeToString(), 1)
    key = opened.get_inputs()[0].name
    return lambda images: opened.run(list(names), {key: images.contiguous().numpy()})


def _separate(graph: Any, nodes: Collection[str]) -> None:
    """Give each of some nodes weights of its own, as heads share theirs among levels.

    ONNX Runtime 1.32 refuses shared ones in 8 bits where it computes them exactly on x86 without
    VNNI (`session.x64quantprecision`).
    """
    weights = {x.name: x for x in graph.initializer if len(x.dims) > 1}
    used: Counter[str] = Counter()
    for node in (one for one in graph.node if one.name in nodes):
        for place, name in enumerate(node.input):
            used[name] += name in weights
            if used[name] > 1:
                own = graph.initializer.add()
                own.CopyFrom(weights[name])
                own.name = node.input[place] = f"{name}.{used[name]}"


def _quantised(network: Network, ranges: Ranges, nodes: Sequence[str]) -> Any:
    """Return a model with what ONNX Runtime takes for 8-bit layers: Q and DQ around nodes."""
    tool, quantisation = (needed(f"onnxruntime.quantization{n}") for n in (".qdq_quantizer", ""))
    data = {
        name: tuple(np.array(x, dtype=np.float32) for x in limits)
        for name, limits in ranges.items()
    }
    method = quantisation.CalibrationMethod.MinMax
    model, chosen = type(network.model)(), set(nodes)
    model.CopyFrom(network.model)
    _separate(model.graph, chosen)
    quantiser = tool.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=quantisation.QuantType.QInt8,
        activation_qType=quantisation.QuantType.QUInt8,
        tensors_range=quantisation.calibrate.TensorsData(method, data),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({n.op_type for n in model.graph.node if n.name in chosen}),
        extra_options={},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantiser.quantize_model()
    return quantiser.model.model
