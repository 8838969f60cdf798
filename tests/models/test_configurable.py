"""Every detector can be written as YAML."""

from dataclasses import dataclass

import pytest
from torch import nn

import razorlite.models
from razorlite.core import config
from razorlite.core.errors import ConfigError

_PARTS = """
  backbone: {type: ResNet, depth: 18, frozen_stages: 1, norm_eval: true}
  neck: {type: FPN, in_channels: [64, 128, 256, 512], out_channels: 16, START num_outs: 5}
"""
_DENSE = "  bbox_head: {type: %sHead, num_classes: 3, in_channels: 16, feat_channels: 16}\n"
_TWO_STAGE = """
  rpn_head: {type: RPNHead, in_channels: 16, feat_channels: 16, train_proposals: {nms_pre: 9}}
  roi_head:
    type: %s
    sampler: {type: RandomSampler, num: 64, pos_fraction: 0.25, add_gt_as_proposals: true}
    bbox_head: %s
    mask_head: %s
"""
_BOX = "{type: Shared2FCBBoxHead, num_classes: 3, in_channels: 16, loss_bbox: {type: SmoothL1Loss}}"
_MASK = "{type: FCNMaskHead, num_classes: 3, in_channels: 16}"
_TRIPLE = "[%s, %s, %s]"
_LEVELS = "start_level: 1, add_extra_convs: on_output,"

assert razorlite.models.__all__  # importing it registers the names


@dataclass
class _File:
    model: nn.Module


def _text(name: str) -> str:
    if name in ("RetinaNet", "FCOS", "ATSS", "GFL"):
        head = "Retina" if name == "RetinaNet" else name
        return f"model:\n  type: {name}{_PARTS.replace('START', _LEVELS)}{_DENSE % head}"
    if name == "CascadeRCNN":
        heads = _TRIPLE % (_BOX, _BOX, _BOX), _TRIPLE % (_MASK, _MASK, _MASK)
        body = _TWO_STAGE % ("CascadeRoIHead", *heads)
    else:
        body = _TWO_STAGE % ("StandardRoIHead", _BOX, _MASK if name == "MaskRCNN" else "null")
    return f"model:\n  type: {name}{_PARTS.replace('START', '')}{body}"


@pytest.mark.parametrize(
    "name", ["RetinaNet", "FCOS", "ATSS", "GFL", "FasterRCNN", "MaskRCNN", "CascadeRCNN"]
)
def test_built_from_yaml(name, tmp_path):
    (tmp_path / "model.yaml").write_text(_text(name))
    model = config.build(config.load(tmp_path / "model.yaml"), _File).model
    assert type(model).__name__ == name
    assert model.backbone.frozen_stages == 1


def test_wrong_values_are_found_before_building(tmp_path):
    text = _text("FCOS").replace("on_output", "on_outputs").replace("depth: 18", "depth: 20")
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.build(config.load(tmp_path / "model.yaml"), _File)
    assert "add_extra_convs" in str(caught.value)
    assert "depth" in str(caught.value)
