"""Files in 8 bits: what is quantised, what is not, and that detections stay close."""

import json
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, ExportError
from razorlite.cost import LatencyConfig
from razorlite.deploy import RuntimeTimer, calibrate, open_file, read_meta
from razorlite.deploy.export import write_file
from razorlite.deploy.network import Network, layer_of
from razorlite.deploy.quantise import INT8_NAME, _separate, folded
from tests.deploy.test_formats import _images, needs_onnx

onnx = pytest.importorskip("onnx")


def graph(*nodes, kernels=()):
    """Return a model of (type, inputs, output); a node is named as its output is."""
    made = [onnx.helper.make_node(t, i.split(), [o], name=o) for t, i, o in nodes]
    weights = [
        onnx.helper.make_tensor(name, 1, dims, [0.5] * torch.Size(dims).numel())
        for name, dims in dict(kernels).items()
    ]
    ends = [onnx.helper.make_tensor_value_info(x, 1, None) for x in ("x", nodes[-1][2])]
    return onnx.helper.make_model(onnx.helper.make_graph(made, "g", ends[:1], ends[1:], weights))


KERNEL = (4, 4, 1, 1)
RESIDUAL = (
    ("Sub", "x mean", "pixels"),
    ("Conv", "pixels model.stem.conv.weight", "a"),
    ("Relu", "a", "b"),
    ("Conv", "b model.block.first.weight", "c"),
    ("Add", "b c", "d"),
    ("Conv", "d model.head.tower.weight", "e"),
    ("InstanceNormalization", "e s s", "f"),
    ("Conv", "f model.head.out.weight", "g"),
    ("Mul", "g s", "h"),
)
KERNELS = {x[1].split()[1]: KERNEL for x in RESIDUAL if x[0] == "Conv"}


def test_what_lies_between_layers_is_quantised_and_outputs_are_not():
    network = Network(graph(*RESIDUAL, kernels=KERNELS))
    assert [node.name for node in network.weighted] == ["a", "c", "e", "g"]
    assert network.outer == {"g"}
    assert network.between == {"b", "d"}
    assert network.parts() == {"stem": ["a"], "block": ["c"], "head": ["e"]}
    assert network.nodes() == ["a", "c", "e", "b", "d"]


def test_a_part_in_float_takes_the_nodes_that_only_it_needs():
    network = Network(graph(*RESIDUAL, kernels=KERNELS))
    assert network.nodes(["stem"]) == ["c", "e", "d"]
    assert network.nodes(["stem", "block"]) == ["e"]


def test_what_proposals_are_chosen_by_is_an_output():
    nodes = (
        ("Conv", "x model.backbone.0.weight", "a"),
        ("Conv", "a model.rpn.weight", "scores"),
        ("TopK", "scores k", "best"),
        ("RoiAlign", "a best i", "regions"),
        ("Gemm", "regions model.roi.fc.weight", "b"),
        ("Gemm", "b model.roi.cls.weight", "c"),
    )
    sizes = {"backbone.0": KERNEL, "rpn": KERNEL, "roi.fc": (4, 4), "roi.cls": (4, 4)}
    network = Network(graph(*nodes, kernels={f"model.{k}.weight": v for k, v in sizes.items()}))
    assert network.outer == {"scores", "c"}
    assert network.nodes() == ["a", "b"]


def test_the_mean_of_a_distribution_is_no_layer():
    nodes = (
        ("Conv", "x model.a.weight", "a"),
        ("Softmax", "a", "b"),
        ("MatMul", "b model.project", "c"),
    )
    network = Network(graph(*nodes, kernels={"model.a.weight": KERNEL, "model.project": (4, 1)}))
    assert [node.name for node in network.weighted] == ["a"]


def test_layers_in_8_bits_have_weights_of_their_own():
    nodes = [("Conv", f"x{i} w", f"y{i}") for i in range(4)]
    shared = graph(*nodes, kernels={"w": KERNEL}).graph
    _separate(shared, {"y0", "y2", "y3"})
    assert [node.input[1] for node in shared.node] == ["w", "w", "w.2", "w.3"]
    assert [x.name for x in shared.initializer] == ["w", "w.2", "w.3"]
    assert len({x.raw_data or tuple(x.float_data) for x in shared.initializer}) == 1


class Small(nn.Module):
    """Three convolutions, the second with batch norm."""

    outputs = ("features",)

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(8)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), norm, nn.Conv2d(8, 4, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images / 255)


@pytest.fixture(scope="module")
def small(module_path):
    """A file in float."""
    needs_onnx()
    path = module_path / "float.onnx"
    torch.manual_seed(0)
    write_file(Small().eval(), path, _images()[0], meta={"mine": "kept"})
    return path


@pytest.mark.slow
def test_a_small_network_in_8_bits(small, tmp_path):
    out = tmp_path / "int8.onnx"
    calibrated = calibrate(small, _images()[:1])
    assert calibrated.images == 2
    calibrated.write(out)
    for images in _images():
        exact, close = open_file(small)(images)[0], open_file(out)(images)[0]
        assert 0 < (close - exact).abs().max() < 0.05 * exact.abs().max()
    assert read_meta(out)["mine"] == "kept"
    known = json.loads(read_meta(out)[INT8_NAME])
    assert (known["precision"], known["calibration_images"], known["float"]) == ("int8", 2, [])
    kinds = [node.op_type for node in onnx.load(str(out)).graph.node]
    assert kinds.count("Conv") == 3
    assert "BatchNormalization" not in kinds
    types = {x.name: (x.data_type, x.dims) for x in onnx.load(str(out)).graph.initializer}
    weights = [x for name, x in types.items() if name.endswith("_quantized") and "weight" in name]
    assert {kind for kind, dims in weights if len(dims) == 4} == {onnx.TensorProto.INT8}
    scales = [d for n, (_, d) in types.items() if n.endswith("weight_scale")]
    assert sorted(map(list, scales)) == [[8], [8]]  # one for each output channel
    with pytest.raises(ExportError, match="is quantised already"):
        calibrate(out, _images()[:1])


class Attending(nn.Module):
    """Layers whose weights the exporter transposes, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.last = nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        found = images.flatten(2).transpose(1, 2).repeat(1, 1, 3)[..., :8]
        found = found + self.attention(found.sigmoid(), found.relu(), found)[0]
        return self.last(self.hidden(self.hidden(found).softmax(2)).softmax(2))


@pytest.mark.slow
def test_layers_are_named_where_weights_are_transposed(tmp_path):
    needs_onnx()
    path = tmp_path / "attending.onnx"
    write_file(Attending().eval(), path, torch.rand(2, 3, 4, 6))
    found = onnx.load(str(path))
    assert {x.key for node in found.graph.node for x in node.metadata_props} == {"razorlite.layer"}
    assert ".py" not in str(found)
    network = Network(folded(path), whole=True)
    named = Counter(layer_of(node) for node in network.weighted)
    attention = {"attention.in_proj": 3, "attention.out_proj": 1}
    assert named == {**attention, "hidden.0": 2, "last": 1}
    assert {part: len(nodes) for part, nodes in network.parts().items()} == {
        "attention": 4,
        "hidden": 2,
        "last": 1,
    }


@pytest.mark.slow
def test_what_cannot_be_calibrated(small, tmp_path):
    with pytest.raises(ExportError, match="wants calibration images, got none"):
        calibrate(small, [])
    with pytest.raises(ExportError, match="is not finite on the calibration images"):
        calibrate(small, [_images()[0] * float("nan")])
    (tmp_path / "broken.onnx").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="no ONNX file"):
        calibrate(tmp_path / "broken.onnx", _images()[:1])
    write_file(nn.Conv2d(3, 4, 1), tmp_path / "one.onnx", _images()[0])
    with pytest.raises(ExportError, match="nothing to quantise"):
        calibrate(tmp_path / "one.onnx", _images()[:1])


@pytest.mark.slow
def test_time_of_the_file_in_8_bits():
    needs_onnx()
    timer = RuntimeTimer((32, 32), LatencyConfig(runtime="onnx-int8", rounds=2))
    assert timer.conditions["dtype"] == "int8"
    layers = {
        "conv": (nn.Conv2d(3, 8, 3), torch.rand(1, 3, 32, 32)),
        "linear": (nn.Linear(8, 4), torch.rand(1, 5, 8)),
    }
    runs = {name: timer.opened_layer(*layer) for name, layer in layers.items()}
    times = timer.in_turns({"small": timer.opened(Small()), **runs})
    assert all(min(times[name]) > 0 for name in ("small", "conv", "linear"))
