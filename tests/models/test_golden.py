"""RetinaNet and FCOS give the reference's figures, and stop doing so when a part is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models import golden

NAMES = ["retinanet_r50", "fcos_r50"]


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    known = golden.figures(request.param)
    model = getattr(golden, request.param)()
    golden.fill(model, known)
    return model.eval(), known


@pytest.mark.parametrize("name", [*NAMES, "retinanet_r18"])
def test_names_and_shapes(name):
    with torch.device("meta"):
        model = golden.retinanet_r50(18) if name == "retinanet_r18" else getattr(golden, name)()
    have = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    assert have == golden.keys(name)


@torch.no_grad()
def test_maps(case):
    model, known = case
    errors = _map_errors(model, known)
    assert len(errors) == sum(key.startswith(("feat.", "raw.")) for key in _names(known))
    assert max(errors.values()) < golden.MAP_TOLERANCE


def test_detections(case):
    model, known = case
    for i, detections in enumerate(model.predict(golden.image())):
        assert golden.unmatched(detections, known, i) == []


def test_losses(case):
    model, known = case
    losses = model.train().loss(golden.image(), golden.targets(known))
    model.eval()
    want = golden.recorded_losses(known)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        want, rel=golden.LOSS_TOLERANCE
    )


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


def _one_weight_a_percent_off(model: Any) -> None:
    model.backbone.layer3[3].conv2.weight.mul_(1.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "spoil",
    [
        _leave_out_a_block,
        _stride_in_the_wrong_convolution,
        _another_activation,
        _swapped_towers,
        _another_source_of_extra_levels,
        _one_weight_a_percent_off,
    ],
)
@torch.no_grad()
def test_maps_leave_the_tolerance_when_a_part_is_wrong(name: str, spoil: Callable[[Any], None]):
    known = golden.figures(name)
    model = getattr(golden, name)()
    golden.fill(model, known)
    spoil(model.eval())
    assert max(_map_errors(model, known).values()) > 2 * golden.MAP_TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_losses_leave_the_tolerance_when_a_box_moves(name):
    known = golden.figures(name)
    model = getattr(golden, name)()
    golden.fill(model, known)
    targets = golden.targets(known)
    targets[0].boxes[0, 0] += 4
    losses = model.train().loss(golden.image(), targets)
    want = golden.recorded_losses(known)["loss_bbox"]
    assert losses["loss_bbox"].item() != pytest.approx(want, rel=golden.LOSS_TOLERANCE)


def _map_errors(model: Any, known: dict[str, Any]) -> dict[str, float]:
    features = model.features(golden.image())
    maps = {**golden.feature_maps(features), **golden.raw_maps(model.bbox_head(features))}
    return golden.map_errors(maps, known)


def _names(known: dict[str, Any]) -> set[str]:
    return {key.split("@")[0] for key in known}
