"""DETR: the reference's values, and what is its own among detectors."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.shufflenet import ShuffleNetV2
from razorlite.models.backbones.vit import VisionTransformer
from razorlite.models.detectors.detr import DETR, inside_cells
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.necks.channel_mapper import ChannelMapper
from razorlite.models.transformer import DetrDecoder, DetrEncoder, SinePositions
from razorlite.structures import Batch, Frame, Target
from tests.models import golden
from tests.models.learning import assert_found, drawn, learn


def detr_r50() -> DETR:
    """The reference's DETR with 4 classes."""
    return DETR(
        backbone=ResNet(
            depth=50, out_indices=(3,), frozen_stages=1, norm_eval=True, norm_frozen=True
        ),
        neck=ChannelMapper(
            in_channels=[2048], out_channels=256, kernel_size=1, activation=None, num_outs=1
        ),
        encoder=DetrEncoder(dropout=0.0),
        decoder=DetrDecoder(dropout=0.0),
        bbox_head=DETRHead(num_classes=4),
    )


@pytest.fixture(scope="module")
def case() -> tuple[DETR, dict[str, Any]]:
    known = golden.metrics("detr_r50")
    model = detr_r50()
    golden.fill(model, known)
    return model.eval(), known


@pytest.fixture(scope="module")
def maps(case) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return case[0].features(golden.image())


def _map_errors(model: DETR, known: dict[str, Any]) -> dict[str, float]:
    logits, boxes = model(golden.image())
    maps = golden.feature_maps(model.features(golden.image()))
    return golden.map_errors({**maps, "raw.0": logits, "raw.1": boxes}, known)


def _recorded_losses(known: dict[str, Any]) -> dict[str, float]:
    return {k.removeprefix("loss."): float(v) for k, v in known.items() if k.startswith("loss.")}


def test_names_and_shapes():
    with torch.device("meta"):
        state = detr_r50().state_dict()
    assert [(k, tuple(v.shape)) for k, v in state.items()] == golden.keys("detr_r50")


@torch.no_grad()
def test_maps(case):
    errors = _map_errors(*case)
    assert len(errors) == 4
    assert max(errors.values()) < golden.MAP_TOLERANCE


def test_losses(case):
    model, known = case
    losses = model.train().loss(golden.image(), golden.targets(known))
    model.eval()
    got = {k: v.item() for k, v in losses.items()}
    assert got == pytest.approx(_recorded_losses(known), rel=golden.LOSS_TOLERANCE)


def test_detections(case):
    model, known = case
    for i, detections in enumerate(model.predict(Batch(golden.image()))):
        scores, boxes = detections.scores.numpy(), detections.boxes.numpy()
        assert len(detections) == 100
        assert np.abs(scores[:20] - known[f"pred.{i}.scores"]).max() < golden.SCORE_TOLERANCE
        assert detections.labels[:20].tolist() == known[f"pred.{i}.labels"].tolist()
        # scores lie close together, so that the order says nothing: each box is among ours
        far = np.abs(known[f"pred.{i}.boxes"][:, None] - boxes[None]).max(2).min(1)
        assert far.max() < golden.BOX_TOLERANCE


def _leave_out_an_encoder_layer(model: DETR) -> None:
    model.encoder.layers = model.encoder.layers[:5]


def _no_positions_in_the_encoder(model: DETR) -> None:
    forward = model.encoder.forward
    model.encoder.forward = lambda x, pos, ignored: forward(x, torch.zeros_like(pos), ignored)


def _rows_and_columns_swapped(model: DETR) -> None:
    forward = model.positions.forward
    model.positions.forward = lambda inside: forward(inside.mT).mT


def _another_activation(model: DETR) -> None:
    model.encoder.layers[2].ffn.layers[0][1] = nn.GELU()


def _another_norm_for_the_outputs(model: DETR) -> None:
    model.decoder.post_norm = nn.Identity()


def _two_norms_swapped(model: DETR) -> None:
    norms = model.decoder.layers[3].norms
    norms[0], norms[1] = norms[1], norms[0]


def _no_activation_in_front_of_the_boxes(model: DETR) -> None:
    model.bbox_head.reg_ffn.layers[0][1] = nn.Identity()


@pytest.mark.parametrize(
    "spoil",
    [
        _leave_out_an_encoder_layer,
        _no_positions_in_the_encoder,
        _rows_and_columns_swapped,
        _another_activation,
        _another_norm_for_the_outputs,
        _two_norms_swapped,
        _no_activation_in_front_of_the_boxes,
    ],
)
@torch.no_grad()
def test_maps_leave_the_tolerance_when_a_part_is_wrong(spoil: Callable[[DETR], None], case, maps):
    model, known = deepcopy(case[0]), case[1]
    spoil(model)
    logits, boxes = model.transform(maps[-1], torch.ones_like(maps[-1][:, 0]), None)
    errors = golden.map_errors({"raw.0": logits, "raw.1": boxes}, known)
    assert max(errors.values()) > 2 * golden.MAP_TOLERANCE


def test_losses_leave_the_tolerance_when_a_weight_is_wrong(case):
    model, known = case
    model.bbox_head.background_weight = 0.12
    losses = model.loss(golden.image(), golden.targets(known))
    model.bbox_head.background_weight = 0.1
    want = _recorded_losses(known)["loss_cls"]
    assert losses["loss_cls"].item() != pytest.approx(want, rel=10 * golden.LOSS_TOLERANCE)


def small_detr() -> DETR:
    """A DETR of two layers each and 3 classes."""
    sizes = {"num_layers": 2, "embed_dims": 32, "num_heads": 4, "feedforward_channels": 48}
    return DETR(
        backbone=ShuffleNetV2(width=0.5, out_indices=(1,)),
        neck=ChannelMapper(in_channels=[96], out_channels=32, kernel_size=1, activation=None),
        encoder=DetrEncoder(dropout=0.0, **sizes),
        decoder=DetrDecoder(dropout=0.0, **sizes),
        bbox_head=DETRHead(num_classes=3, embed_dims=32),
        num_queries=12,
    )


def detr_on_vit() -> DETR:
    """The same on the first two blocks of DeiT-tiny."""
    model = small_detr()
    model.backbone = VisionTransformer(arch="tiny", out_indices=(1,))
    model.neck = ChannelMapper(in_channels=[192], out_channels=32, kernel_size=1, activation=None)
    return model


@torch.no_grad()
def test_padding_does_not_change_what_is_seen():
    """With positions and attention cut to the image, only the backbone sees the padding."""
    model = small_detr().eval()
    x = torch.randn(1, 32, 4, 5)
    whole = model.transform(x, torch.ones(1, 4, 5), None)
    padded = torch.nn.functional.pad(x, (0, 3, 0, 2), value=7.0)
    inside = torch.zeros(1, 6, 8, dtype=torch.bool)
    inside[:, :4, :5] = True
    for got, want in zip(model.transform(padded, inside, ~inside.flatten(1)), whole, strict=True):
        assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_cells_inside_by_hand():
    inside = inside_cells((2, 4), (64, 128), tensor([[64, 128], [32, 65]]))
    assert inside[0].all()
    assert inside[1].int().tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


@torch.no_grad()
def test_boxes_of_a_smaller_image_are_parts_of_it():
    head = DETRHead(num_classes=1, embed_dims=4)
    raw = torch.zeros(1, 1, 1, 2), tensor([[[[0.5, 0.5, 0.5, 1.2]]]])
    (found,) = head.predict(raw, [Frame((32, 48), (32, 48))])
    assert_close(found.boxes, tensor([[12.0, 0, 36, 32]]))
    assert_close(found.scores, tensor([0.5]))


def test_positions_by_hand():
    # One row of two cells: rows at 1 of 1, columns at 1 and 2 of 2, all times 2 pi.
    waves = SinePositions(4, temperature=100.0)(torch.ones(1, 1, 2))[0, :, 0]
    turn = 2 * torch.pi
    assert_close(waves[:, 0], tensor([0.0, 1.0, 0.0, -1.0]), atol=1e-4, rtol=0)
    assert_close(waves[:, 1], tensor([0.0, 1.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    eight = SinePositions(8, temperature=100.0)(torch.ones(1, 1, 2))[0, 4:, 0, 0]
    want = [np.sin(turn / 2), np.cos(turn / 2), np.sin(turn / 20), np.cos(turn / 20)]
    assert_close(eight, tensor(want).float(), atol=1e-4, rtol=0)


def test_loss_by_hand():
    """Two queries; the second is the object, and both say nothing about the class."""
    head = DETRHead(num_classes=1, embed_dims=4)
    boxes = tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.5]])[None, None]
    raw = (torch.zeros(1, 1, 2, 2), boxes)
    target = Target(boxes=tensor([[0.0, 16, 64, 48]]), labels=tensor([0]))
    losses = head.loss(raw, [target], [(64, 128)])
    ln2 = tensor(2.0).log()
    assert_close(losses["loss_cls"], (1 * ln2 + 0.1 * ln2) / 1.1)
    assert_close(losses["loss_bbox"], tensor(0.0))
    assert_close(losses["loss_iou"], tensor(0.0))


def test_every_layer_is_judged_and_the_last_has_the_plain_names():
    losses = small_detr().loss(
        torch.randn(1, 3, 64, 64), [Target(torch.rand(0, 4), tensor([]).long())]
    )
    assert list(losses) == [
        *("d0.loss_cls", "d0.loss_bbox", "d0.loss_iou"),
        *("loss_cls", "loss_bbox", "loss_iou"),
    ]


@pytest.mark.rounding
def test_learns_one_image():
    model = small_detr()
    target = Target(boxes=tensor([[8.0, 8, 32, 36], [30.0, 20, 62, 50]]), labels=tensor([0, 1]))
    images = drawn(target, (64, 64))
    learn(model, images, [target], steps=60, lr=3e-3)
    assert_found(model.eval().predict(Batch(images))[0], target, overlap=0.6)


def test_heads_must_divide_the_channels():
    with pytest.raises(ConfigError, match="multiple of num_heads, got 30 and 4"):
        DetrEncoder(embed_dims=30, num_heads=4)
