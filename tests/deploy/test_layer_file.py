"""Single layers and operations in ONNX Runtime compute what they compute in PyTorch."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.cost import LatencyConfig
from razorlite.deploy import RuntimeTimer
from razorlite.deploy.layer_file import can_write, write_layer
from razorlite.deploy.runtimes import open_file
from razorlite.models.deformable import DeformableConv2d
from razorlite.ops.nms import top_candidates
from tests.deploy.test_formats import needs_onnx


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 9, 12)),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False), (2, 8, 6, 6)),
        (nn.Conv2d(4, 6, (1, 3), padding="same"), (1, 4, 5, 5)),
        (nn.Linear(5, 7), (2, 3, 5)),
        (nn.Linear(5, 7, bias=False), (1, 5)),
    ],
)
def test_the_file_gives_what_the_layer_gives(layer, shape, tmp_path):
    pytest.importorskip("onnxruntime")
    inputs = torch.rand(shape)
    write_layer(layer, tmp_path / "layer.onnx", inputs, opset=18)
    [found] = open_file(tmp_path / "layer.onnx", 1)(inputs)
    assert_close(found, layer(inputs).detach(), atol=1e-5, rtol=1e-5)


def test_other_layers_are_not_written_as_plain_ones():
    assert can_write(nn.Conv2d(3, 4, 3))
    assert not can_write(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    assert not can_write(DeformableConv2d(3, 4, 3))


class Best(nn.Module):
    """The best entries of a map of one anchor."""

    def forward(self, logits):
        return top_candidates(logits, 1, 0.0, 60)


def test_small_scores_keep_their_order(tmp_path):
    needs_onnx()
    logits = torch.linspace(-60, 5, 64)[torch.randperm(64)].view(1, 1, 8, 8)
    program = torch.onnx.export(Best(), (logits,), dynamo=True, verbose=False)
    program.save(tmp_path / "best.onnx")
    scores, *_, cells = open_file(tmp_path / "best.onnx", 1)(logits)
    expected = logits.flatten().sort(descending=True)
    assert cells.tolist() == [expected.indices[:60].tolist()]
    assert_close(scores, expected.values[None, :60].sigmoid(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("layer", [nn.Conv2d, DeformableConv2d])
@pytest.mark.parametrize("runtime", ["pytorch", "torchscript", "onnxruntime"])
def test_layers_are_timed_in_every_runtime(runtime, layer):
    needs_onnx()
    timer = RuntimeTimer((8, 8), LatencyConfig(runtime=runtime, batch=2))
    run = timer.opened_layer(layer(3, 4, 3), torch.rand(1, 3, 8, 8))
    times = timer.in_turns({"layer": run}, rounds=3)
    assert len(times["layer"]) == 3
    assert min(times["layer"]) > 0
