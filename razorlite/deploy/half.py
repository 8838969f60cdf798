"""Files that compute in 16 bits, made of exported ones in float."""

from pathlib import Path
from typing import Any

from razorlite.core.errors import ExportError
from razorlite.core.files import write_bytes_atomic
from razorlite.deploy.network import Network
from razorlite.deploy.quantise import folded
from razorlite.deploy.runtimes import needed

HALF_NAME = "razorlite.float16"


def halve(path: str | Path, out: str | Path) -> None:
    """Write a file whose layers with weights, and what lies between them, compute in float16.

    What makes detections of their outputs stays in float32, as do the file's inputs and outputs.

    Args:
        path: an .onnx file in float32.
        out: where to; a file of that name is replaced.

    Raises:
        CheckpointError: the file cannot be read.
        ExportError: a package is missing, or the file is quantised.
        RunFolderError: the file cannot be written.
    """
    tool = needed("onnxruntime.transformers.float16")
    model = folded(Path(path))
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError(f"{path} is quantised; name the file in float")
    inner = _inner(Network(model))
    others = [node.name for node in model.graph.node if node.name not in inner]
    halved = tool.convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True, node_block_list=others
    )
    meta = {entry.key: entry.value for entry in model.metadata_props}
    del halved.metadata_props[:]
    for name, value in {**meta, HALF_NAME: "layers"}.items():
        halved.metadata_props.add(key=name, value=value)
    write_bytes_atomic(out, halved.SerializeToString())


def _inner(network: Any) -> set[str]:
    """Return the names of the nodes that compute in 16 bits."""
    return {*network.between, *(node.name for node in network.weighted)}
