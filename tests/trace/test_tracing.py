"""Models that cannot be traced say where and what to do."""

import pytest
import torch
import torchvision
from torch import nn

from razorlite.core.errors import ExportError
from razorlite.trace import channel_groups
from tests.trace.zoo import Net, conv


def test_control_flow_names_the_line():
    def run(m, x):
        x = m.a(x)
        return m.b(x) if x.sum() > 0 else x

    with pytest.raises(ExportError, match=r"cannot be traced at .*test_tracing\.py") as caught:
        channel_groups(Net(run, a=conv(3, 4), b=conv(4, 4)), (8, 8), how="graph")
    message = str(caught.value)
    assert "if x.sum() > 0" in message
    assert "leaf" in message
    assert "\n" not in message


def test_operation_that_fails_on_the_shape_is_named():
    model = nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(4 * 16, 2))
    channel_groups(model, (4, 4))
    with pytest.raises(ExportError, match=r"Linear \(_2\) in 2 fails.*check the input shape"):
        channel_groups(model, (8, 8))


def test_value_dependent_operation_is_named():
    with pytest.raises(ExportError, match="nonzero"):
        channel_groups(Net(lambda m, x: m.a(x).nonzero(), a=conv(3, 4)), (8, 8), how="graph")


def test_untraceable_detector_can_be_traced_in_parts():
    detector = torchvision.models.detection.fcos_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    with pytest.raises(ExportError, match=r"FCOS cannot be traced.*model\.backbone"):
        channel_groups(detector, (64, 64), how="graph")
    groups = {g.name: g for g in channel_groups(detector.backbone, (64, 64))}
    assert groups["body.layer1.0.conv1"].size == 64
    assert groups["fpn.layer_blocks.0.0"].fixed == "output of the model"


def test_optional_arguments_take_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 4), conv(4, 1)

        def forward(self, x, targets=None, scale: float = 2.0):
            if targets is not None:
                raise ValueError
            return self.b(self.a(x) * scale)

    assert not channel_groups(Optional(), (8, 8))[0].fixed


def test_half_precision_model():
    model = nn.Sequential(conv(3, 4), conv(4, 1)).to(torch.bfloat16)
    assert [g.size for g in channel_groups(model, (8, 8))] == [4, 1]
