"""A single layer as an ONNX file, written without an exporter: in milliseconds, not seconds."""

from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor, nn

from razorlite.deploy.runtimes import needed

_IR_VERSION = 8  # the oldest that holds the opset, which every runtime of it reads


def can_write(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Return whether a layer is a plain convolution, padded with zeros, or a plain linear layer.

    Classes made of these, such as deformable convolutions, compute something else.
    """
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros"
    return type(layer) is nn.Linear


def write_layer(layer: nn.Conv2d | nn.Linear, path: Path, inputs: Tensor, *, opset: int) -> None:
    """Write a convolution or a linear layer, of batches of inputs of one size.

    Args:
        layer: on the CPU, one that `can_write` is true of.
        path: where to.
        inputs: (N, C, H, W), or (..., C) of a linear layer.
        opset: of ONNX.

    Raises:
        ExportError: the package onnx is missing.
    """
    onnx = needed("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"weight": layer.weight, "bias": layer.bias}
    if isinstance(layer, nn.Linear):
        weights["weight"] = layer.weight.T.contiguous()
    stored = [
        onnx.numpy_helper.from_array(value.detach().numpy(), name)
        for name, value in weights.items()
        if value is not None
    ]
    graph = helper.make_graph(
        _nodes(layer, helper),
        "layer",
        [helper.make_tensor_value_info("images", kind, ["batch", *inputs.shape[1:]])],
        [helper.make_tensor_value_info("maps", kind, None)],
        stored,
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION), str(path))


def _nodes(layer: nn.Conv2d | nn.Linear, helper: Any) -> list[Any]:
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        names = ["images", "weight", *(["bias"] if has_bias else [])]
        return [helper.make_node("Conv", names, ["maps"], **_geometry(layer))]
    product = helper.make_node("MatMul", ["images", "weight"], ["sums" if has_bias else "maps"])
    return [product, *([helper.make_node("Add", ["sums", "bias"], ["maps"])] if has_bias else [])]


def _geometry(layer: nn.Conv2d) -> dict[str, Any]:
    padding = layer.padding
    own: dict[str, Any] = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    if isinstance(padding, str):
        return {**own, "auto_pad": "VALID" if padding == "valid" else "SAME_UPPER"}
    return {**own, "pads": [*padding, *padding]}
