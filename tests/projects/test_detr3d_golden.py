"""DETR3D gives the reference's numbers, and does not where a part is wrong.

Tolerances are those that the golden values come with: several times what two ways of computing the
reference differ by.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.detr3d import boxes, head, sampling
from projects.detr3d.sampling import Views, locate, look_up, sample, to_metres
from tests.models import golden
from tests.projects.detr3d_golden import FOLDER, Case, apart, case, losses_of, raw_errors

FEATURES, REFERENCES, QUERIES = 2e-3, 1e-4, 5e-3
CLASSES, MOST_CLASSES, BOXES, LOSSES, GRADIENTS = 1e-2, 2e-3, 1e-2, 1e-4, 1.5e-2


@pytest.fixture(scope="module")
def light() -> Case:
    return case("detr3d_r50_light")


def check(one: Case) -> None:
    """Compare all that the golden file of a model has."""
    known, layers = one.known, range(6)
    for i, maps in enumerate(one.views.maps):
        by_camera = maps.unflatten(0, (1, 6))
        assert apart(by_camera.mean((0, 1, 3, 4))[:64], known[f"feat.{i}.mean"]) < FEATURES
        assert apart(by_camera[:, :, :8, :3, :3], known[f"feat.{i}.corner"]) < FEATURES
    queries, references, _ = one.decoded
    for i in range(7):
        far = np.abs(references[i].detach().numpy() - known[f"ref.{i}"]).max()
        assert far < REFERENCES
    for i in layers:
        assert apart(queries[i].flatten()[::39], known[f"query.{i}@stride39"]) < QUERIES
        expected = known[f"raw.cls.{i}"]
        far = np.abs(one.raw[0][i].numpy() - expected).max(-1) / np.abs(expected).max()
        assert np.quantile(far, 0.99) < MOST_CLASSES
    classes, codes = raw_errors(one.raw, known)
    assert classes < CLASSES
    assert codes < BOXES
    got = {name: value.item() for name, value in one.losses.items()}
    assert got == pytest.approx(losses_of(known), rel=LOSSES)
    pairs = one.model.pts_bbox_head.assign(one.raw, [one.target])
    for i in layers:
        query, number = pairs[i][0]
        assert query[number.argsort()].tolist() == known[f"match.{i}.0"].tolist()
    weights = dict(one.model.named_parameters())
    norms = [key for key in known if key.startswith("grad.")]
    assert len(norms) >= 13
    for key in norms:
        gradient = weights[key.removeprefix("grad.").removesuffix(".norm")].grad
        assert float(gradient.norm()) == pytest.approx(float(known[key]), rel=GRADIENTS)
    check_found(one)


def check_found(one: Case) -> None:
    (found,) = one.model.pts_bbox_head.predict(one.raw)
    known = one.known
    assert len(found) == int(known["pred.0.count"])
    for box, low, score, label in zip(
        *(known[f"pred.0.{k}"] for k in ("boxes", "boxes_bottom", "scores", "labels")), strict=True
    ):
        close = np.abs(found.boxes.numpy() - box).max(1) < 5e-3
        close &= np.abs(boxes.standing(found.boxes).numpy() - low).max(1) < 5e-3
        close &= np.abs(found.scores.numpy() - score) < 3e-4
        assert (close & (found.labels.numpy() == label)).any()


def check_sampling(one: Case) -> None:
    points = torch.from_numpy(one.known["sampling.points"])[None]
    metres = to_metres(points, head.SPACE)
    places, visible = locate(metres, one.views)
    assert visible.transpose(1, 2).numpy().tolist() == one.known["sampling.mask"].tolist()
    seen = places * visible[..., None]
    assert np.abs(seen.transpose(1, 2).numpy() - one.known["sampling.uv"]).max() < 1e-5
    features, _ = sample(metres, one.views)  # (B, N, C, Q, L) for (B, C, Q, N, L)
    first = features[:, :, :16].permute(0, 2, 3, 1, 4)
    assert apart(first, one.known["sampling.feats"]) < 2e-3


def test_features_are_sampled_as_in_the_reference():
    known = golden.metrics("detr3d_r50_light", FOLDER)
    rng = np.random.default_rng(24)
    sizes = [(20, 32), (10, 16), (5, 8), (3, 4)]
    maps = [rng.standard_normal((1, 6, 8, *s)).astype(np.float32) for s in sizes]
    lidar2img = torch.from_numpy(known["input.lidar2img"])
    views = Views([torch.from_numpy(x).flatten(0, 1) for x in maps], lidar2img, (160, 256))
    points = to_metres(torch.from_numpy(known["sampling.points"])[None], head.SPACE)
    features, visible = sample(points, views)
    assert apart(features.permute(0, 2, 3, 1, 4), known["sampling_random.feats"]) < 5e-5
    assert visible.transpose(1, 2).numpy().tolist() == known["sampling.mask"].tolist()
    unpadded, _ = sample(points, replace(views, size=(144, 256)))
    assert apart(unpadded.permute(0, 2, 3, 1, 4), known["sampling_random.feats"]) > 0.1


@pytest.mark.slow
def test_light_variant(light):
    assert {(k, tuple(v.shape)) for k, v in light.model.state_dict().items()} == set(
        golden.keys("detr3d_r50_light", FOLDER)
    )
    check(light)
    check_sampling(light)


@pytest.mark.slow
def test_deformable_variant():
    one = case("detr3d_r101")
    assert {(k, tuple(v.shape)) for k, v in one.model.state_dict().items()} == set(
        golden.keys("detr3d_r101", FOLDER)
    )
    check(one)
    check_sampling(one)


def _swapped_cameras(views: Views, _: Any) -> Views:
    maps = [x.unflatten(0, (1, 6)).roll(1, 1).flatten(0, 1) for x in views.maps]
    return replace(views, maps=maps)


def _size_without_padding(views: Views, _: Any) -> Views:
    return replace(views, size=(144, 256))


def _levels_in_another_order(views: Views, _: Any) -> Views:
    return replace(views, maps=views.maps[::-1])


def _sampled(**settings: Any) -> Callable[[Views, Any], Views]:
    def spoil(views: Views, monkeypatch: Any) -> Views:
        def other(maps: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
            return grid_sample(maps, grid, **{"align_corners": align_corners, **settings})

        grid_sample = F.grid_sample
        monkeypatch.setattr(sampling.F, "grid_sample", other)
        return views

    return spoil


def _everything_in_sight(views: Views, monkeypatch: Any) -> Views:
    def all_seen(points: Tensor, seen: Views) -> tuple[Tensor, Tensor]:
        places, visible = locate(points, seen)
        return places, torch.ones_like(visible)

    monkeypatch.setattr("projects.detr3d.transformer.locate", all_seen)
    return views


def _softmax(views: Views, monkeypatch: Any) -> Views:
    monkeypatch.setattr(
        Tensor, "sigmoid", lambda x: x.softmax(-1) if x.shape[-1] == 24 else x.exp() / (1 + x.exp())
    )
    return views


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        _swapped_cameras,
        _size_without_padding,
        _levels_in_another_order,
        _sampled(align_corners=True),
        _sampled(padding_mode="border"),
        _everything_in_sight,
        _softmax,
    ],
)
@torch.no_grad()
def test_logits_leave_the_tolerance_where_a_part_is_wrong(light, monkeypatch, spoil):
    raw = light.model.pts_bbox_head(spoil(light.views, monkeypatch))
    classes, _ = raw_errors(raw, light.known)
    assert classes > 5 * CLASSES


@pytest.mark.slow
@torch.no_grad()
def test_halves_of_queries_are_position_and_content(light):
    weight = light.model.pts_bbox_head.query_embedding.weight
    before = weight.clone()
    weight.copy_(before.roll(256, 1))
    raw = light.model.pts_bbox_head(light.views)
    weight.copy_(before)
    assert raw_errors(raw, light.known)[0] > 5 * CLASSES


def _width_before_length(target: Any, _: Any) -> Any:
    order = [0, 1, 2, 4, 3, 5, 6, 7, 8]
    return target.with_boxes(target.boxes[:, order])


def _from_the_bottom(target: Any, _: Any) -> Any:
    return target.with_boxes(boxes.standing(target.boxes))


def _velocity_of_full_weight(target: Any, model: Any) -> Any:
    model.pts_bbox_head.code_weights.fill_(1.0)
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", [_width_before_length, _from_the_bottom, _velocity_of_full_weight]
)
@torch.no_grad()
def test_losses_leave_the_tolerance_where_targets_are_wrong(light, spoil):
    detector = light.model.pts_bbox_head
    weights = detector.code_weights.clone()
    losses = detector.loss(light.raw, [spoil(light.target, light.model)])
    detector.code_weights.copy_(weights)
    expected = losses_of(light.known)
    far = [abs(v.item() / expected[k] - 1) for k, v in losses.items() if "bbox" in k]
    assert max(far) > 1e-2


@pytest.mark.slow
def test_no_gradient_goes_through_refined_points(light, monkeypatch):
    one = light.model.pts_bbox_head.reg_branches[0][4].weight
    before = one.grad.norm()
    monkeypatch.setattr(Tensor, "detach", lambda x: x)
    views = replace(light.views, maps=[x.data for x in light.views.maps])
    losses = light.model.pts_bbox_head.loss(light.model.pts_bbox_head(views), [light.target])
    (gradient,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), one)
    assert gradient.norm() > 10 * before


def test_places_beyond_a_map_are_zero():
    maps = torch.ones(2, 1, 2, 2)
    places = torch.tensor([[[[0.25, 0.25], [0.5, 1.5]]] * 2])
    found = look_up(maps, places)
    assert found.shape == (1, 2, 1, 2)
    assert found[0, :, 0].tolist() == [[1, 0], [1, 0]]
