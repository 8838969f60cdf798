"""Every shipped configuration is sound and describes a model."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from razorlite.core import shipped
from razorlite.models.detectors.single_stage import Detector
from razorlite.recipes import build_model
from razorlite.recipes.experiment import load_config, read

CONFIGS = {shipped.name(path): path for path in shipped.configs()}
COCO = sorted(name for name in CONFIGS if name.endswith("_coco"))

# Millions, as OpenMMLab's detection zoo states them: without what is frozen (stem and first
# stage, 0.225; with frozen norms 0.05 more).
PUBLISHED = {
    "retinanet/retinanet_r50_fpn_1x_coco": 37.74,
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco": 32.02,
    "atss/atss_r50_fpn_1x_coco": 32.07,
    "faster_rcnn/faster_rcnn_r50_fpn_1x_coco": 41.53,
    "mask_rcnn/mask_rcnn_r50_fpn_1x_coco": 44.17,
    "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco": 69.17,
    "detr/detr_r50_150e_coco": 41.30,
}


def _built(path: Path) -> nn.Module:
    # A subnet is the result of a search, which has not been run here.
    with torch.device("meta"):
        return build_model(path, overrides=["subnet=null"])


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_passes_the_check_and_builds(name):
    load_config(CONFIGS[name])
    assert any(p.requires_grad for p in _built(CONFIGS[name]).parameters())
    assert shipped.summary(CONFIGS[name])


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_starts_with_what_it_is_how_to_run_it_and_how_long_it_takes(name):
    text = CONFIGS[name].read_text()
    comment = text[: re.search(r"^[^#]", text, re.MULTILINE).start()]
    assert re.search(rf"^#   .*(razorlite|tools/).*{re.escape(name)}", comment, re.MULTILINE)
    assert re.search(r"second|minute|hour|day", comment)


@pytest.mark.parametrize("name", COCO)
def test_coco_configs_are_complete(name):
    experiment = read(CONFIGS[name])[1]
    model = _built(CONFIGS[name])
    assert isinstance(model, Detector)
    assert experiment.train is not None
    assert experiment.data is not None
    assert None not in (experiment.data.train, experiment.data.val, experiment.data.test)
    masks = "mask_rcnn" in name or "-ins_" in name
    for split in (experiment.data.train, experiment.data.val, experiment.data.test):
        settings = split.dataset.kwargs
        settings = settings.get("dataset", settings)  # of a set that is repeated
        assert settings.get("masks", False) == masks
    assert experiment.metric.kwargs.get("kind", "bbox") == ("both" if masks else "bbox")
    head = getattr(model, "bbox_head", None) or model.roi_head.bbox_head
    heads = head if isinstance(head, nn.ModuleList) else [head]
    assert {h.num_classes for h in heads} == {80}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_number_of_parameters(name):
    parameters = _built(CONFIGS[name]).parameters()
    count = sum(p.numel() for p in parameters if p.requires_grad) / 1e6
    assert count == pytest.approx(PUBLISHED[name], abs=0.006)


def test_fcos_gives_biases_of_convolutions_their_own_rate():
    from razorlite.engine.optim import build_param_groups

    name = "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco"
    options = read(CONFIGS[name])[1].train.param_options
    groups = build_param_groups(_built(CONFIGS[name]), options)
    (biases,) = [g for g in groups if g["lr_mult"] == 2]
    assert biases["decay_mult"] == 0
    assert "bbox_head.conv_centerness.bias" in biases["names"]
    assert all(n.endswith(".bias") and ".gn." not in n for n in biases["names"])
    assert all(g["decay_mult"] == 1 for g in groups if g is not biases)
