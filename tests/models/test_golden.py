"""Detectors give the reference's values, and stop doing so when a part is wrong."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import razorlite
from razorlite.structures import Batch
from tests.models import golden

ONE_STAGE = ["retinanet_r50", "fcos_r50"]
NAMES = [*ONE_STAGE, "faster_rcnn_r50", "mask_rcnn_r50"]


@pytest.fixture(scope="module")
def filled() -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """Return a new model with the reference's weights and what it gave, by name."""

    @cache
    def first(name: str) -> tuple[Any, dict[str, Any]]:
        known, model = golden.metrics(name), getattr(golden, name)()
        golden.fill(model, known)
        return model.eval(), known

    return lambda name: copy.deepcopy(first(name))


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, filled: Any) -> tuple[Any, dict[str, Any]]:
    return filled(request.param)


@pytest.mark.parametrize(
    "name",
    [
        *NAMES,
        *("retinanet_r18", "faster_rcnn_r50_pafpn", "faster_rcnn_x101", "cascade_rcnn_r50"),
        *("atss_r50", "gfl_r50"),
    ],
)
def test_names_and_shapes(name):
    with torch.device("meta"):
        model = golden.retinanet_r50(18) if name == "retinanet_r18" else getattr(golden, name)()
    have = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    assert have == golden.keys(name)


@pytest.mark.rounding
@torch.no_grad()
def test_maps(case):
    model, known = case
    errors = _map_errors(model, known)
    assert len(errors) == sum(key.startswith(("feat.", "raw.", "rpn.")) for key in _names(known))
    assert max(errors.values()) < golden.MAP_TOLERANCE


@pytest.mark.rounding
def test_detections(case):
    model, known = case
    for i, detections in enumerate(model.predict(Batch(golden.image()))):
        assert golden.unmatched(detections, known, i) == []
        if detections.masks is not None:
            areas = detections.masks[:20].sum((1, 2)).tolist()
            assert areas == pytest.approx(known[f"pred.{i}.mask_area"], rel=0.01, abs=2)


@pytest.mark.rounding
def test_losses(case):
    model, known = case
    losses = model.train().loss(golden.image(), golden.targets(known))
    model.eval()
    want = golden.recorded_losses(known)
    got = {k: v.item() for k, v in losses.items()}
    assert got == pytest.approx(want, rel=golden.LOSS_TOLERANCE)


def _leave_out_a_block(model: Any) -> None:
    model.backbone.layer3[2] = nn.Identity()


def _stride_in_the_wrong_convolution(model: Any) -> None:
    block = model.backbone.layer4[0]
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _another_activation(model: Any) -> None:
    model.bbox_head.cls_convs[1].activate = nn.LeakyReLU(0.1)


def _swapped_towers(model: Any) -> None:
    head = model.bbox_head
    head.cls_convs, head.reg_convs = head.reg_convs, head.cls_convs


def _another_source_of_extra_levels(model: Any) -> None:
    model.neck.extend = lambda outs, *_: [*outs, *_pooled(outs[-1])]


def _pooled(x: torch.Tensor) -> list[torch.Tensor]:
    return [F.max_pool2d(x, 1, 2), F.max_pool2d(x, 1, 4)]


def _another_epsilon(model: Any) -> None:
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3


def _one_weight_a_percent_off(model: Any) -> None:
    model.backbone.layer3[3].conv2.weight.mul_(1.01)


@pytest.mark.parametrize(
    "name", ["retinanet_r50", pytest.param("fcos_r50", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "spoil",
    [
        _leave_out_a_block,
        _stride_in_the_wrong_convolution,
        _another_activation,
        _swapped_towers,
        _another_source_of_extra_levels,
        _another_epsilon,
        _one_weight_a_percent_off,
    ],
)
@torch.no_grad()
def test_maps_leave_the_tolerance_when_a_part_is_wrong(
    name: str, spoil: Callable[[Any], None], filled: Any
):
    model, known = filled(name)
    spoil(model)
    assert max(_map_errors(model, known).values()) > 2 * golden.MAP_TOLERANCE


@pytest.mark.parametrize("spoil", [_leave_out_a_block, _another_epsilon])
@torch.no_grad()
def test_proposals_leave_the_tolerance_when_a_part_is_wrong(
    spoil: Callable[[Any], None], filled: Any
):
    model, known = filled("faster_rcnn_r50")
    spoil(model)
    assert max(_map_errors(model, known).values()) > 2 * golden.MAP_TOLERANCE


CONFIGS = {
    "retinanet_r50": "retinanet/retinanet_r50_fpn_1x_coco",
    "fcos_r50": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco",
}


@torch.no_grad()
def _errors_of_config(name: str, *overrides: str) -> dict[str, float]:
    """Return the maps' errors of a shipped configuration with 4 classes and overrides."""
    path = golden.FOLDER.parents[1] / f"configs/{CONFIGS[name]}.yaml"
    known = golden.metrics(name)
    model = razorlite.build_model(path, overrides=["model.bbox_head.num_classes=4", *overrides])
    golden.fill(model, known)
    return _map_errors(model.eval(), known)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configurations_give_the_golden_values(name):
    assert max(_errors_of_config(name).values()) < golden.MAP_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("retinanet_r50", "model.backbone.style=caffe"),
        ("fcos_r50", "model.backbone.style=pytorch"),
        ("fcos_r50", "model.neck.relu_before_extra_convs=false"),
        ("fcos_r50", "model.bbox_head.centerness_on_reg=true"),
    ],
)
def test_maps_leave_the_tolerance_when_a_setting_is_wrong(name, override):
    assert max(_errors_of_config(name, override).values()) > 2 * golden.MAP_TOLERANCE


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_leave_the_tolerance_when_a_box_moves(name, filled):
    model, known = filled(name)
    targets = golden.targets(known)
    targets[0].boxes[0, 0] += 4
    losses = model.train().loss(golden.image(), targets)
    want = golden.recorded_losses(known)["loss_bbox"]
    assert losses["loss_bbox"].item() != pytest.approx(want, rel=golden.LOSS_TOLERANCE)


def _swapped_layers(model: Any) -> None:
    first, second = model.roi_head.bbox_head.fc_cls, model.roi_head.bbox_head.fc_reg
    first.weight[:4], second.weight[:4] = second.weight[:4].clone(), first.weight[:4].clone()


def _regions_from_the_next_level(model: Any) -> None:
    model.roi_head.finest_scale = 28.0


def _deltas_on_another_scale(model: Any) -> None:
    model.roi_head.bbox_head.target_stds = (0.1, 0.1, 0.2, 0.201)


def _mask_convolution_without_activation(model: Any) -> None:
    model.roi_head.mask_head.convs[2].activate = None


COARSE = (_swapped_layers, _regions_from_the_next_level, _mask_convolution_without_activation)


@pytest.mark.parametrize(
    "spoil",
    [
        *(pytest.param(spoil, marks=pytest.mark.slow) for spoil in COARSE),
        _deltas_on_another_scale,
    ],
)
@torch.no_grad()
def test_second_stage_leaves_the_golden_values_when_a_part_is_wrong(
    spoil: Callable[[Any], None], filled: Any
):
    model, known = filled("mask_rcnn_r50")
    spoil(model)
    got = {k: v.item() for k, v in model.loss(golden.image(), golden.targets(known)).items()}
    want = golden.recorded_losses(known)
    assert any(got[k] != pytest.approx(want[k], rel=2 * golden.LOSS_TOLERANCE) for k in want)


def _map_errors(model: Any, known: dict[str, Any]) -> dict[str, float]:
    features = model.features(golden.image())
    if hasattr(model, "rpn_head"):
        raw = golden.raw_maps(model.rpn_head(features), "rpn")
    else:
        raw = golden.raw_maps(model.bbox_head(features))
    return golden.map_errors({**golden.feature_maps(features), **raw}, known)


def _names(known: dict[str, Any]) -> set[str]:
    return {key.split("@")[0] for key in known}
