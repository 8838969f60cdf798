"""torchvision's detectors behind our face: losses and detections are torchvision's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.testing import assert_close
from torchvision.models.detection.image_list import ImageList

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.deploy import Deployed, agreement
from razorlite.models.detectors.torchvision_detector import TorchvisionDetector
from razorlite.structures import Batch, Target
from tests.models.torchvision_zoo import KINDS, torchvision_model

SIZES = [(60, 90), (64, 96)]  # of two images in a batch of 64 x 96


def _images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def _target(size: tuple[int, int]) -> Target:
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 4:30, 4:30], masks[1, 10:60, 40:80] = True, True
    boxes = tensor([[4.0, 4, 30, 30], [40, 10, 80, 60]])
    return Target(boxes, tensor([0, 2]), masks=masks, size=size, original_size=size)


def _dense(model: Any) -> bool:
    return hasattr(model, "head")


def _found_by_torchvision(model: Any, images: Tensor) -> list[dict[str, Tensor]]:
    """Return what its own post-processing finds, without its transform."""
    batch, maps = ImageList(images, SIZES), model.backbone(images)
    if not _dense(model):
        proposals, _ = model.rpn(batch, maps)
        return model.roi_heads(maps, proposals, SIZES)[0]
    levels = list(maps.values())
    outputs, anchors = model.head(levels), model.anchor_generator(batch, levels)
    cells = [m.shape[2] * m.shape[3] for m in levels]
    counts = [c * anchors[0].shape[0] // sum(cells) for c in cells]
    split = {name: list(value.split(counts, 1)) for name, value in outputs.items()}
    return model.postprocess_detections(split, [list(a.split(counts)) for a in anchors], SIZES)


def _losses_of_torchvision(model: Any, images: Tensor) -> list[Tensor]:
    background = 0 if _dense(model) else 1
    objects = [
        {"boxes": t.boxes, "labels": t.labels + background, "masks": t.masks}
        for t in map(_target, SIZES)
    ]
    batch, maps = ImageList(images, SIZES), model.backbone(images)
    if not _dense(model):
        proposals, first = model.rpn(batch, maps, objects)
        second = model.roi_heads(maps, proposals, SIZES, objects)[1]
        return [*first.values(), *second.values()]
    levels = list(maps.values())
    counts = [[m.shape[2] * m.shape[3] for m in levels]] if "FCOS" in str(type(model)) else []
    anchors = model.anchor_generator(batch, levels)
    return list(model.compute_loss(objects, model.head(levels), anchors, *counts).values())


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_those_of_torchvision(kind):
    model = torchvision_model(kind)
    detector = TorchvisionDetector.of(model)
    frames = [Target(torch.zeros(0, 4), torch.zeros(0).long(), size=s) for s in SIZES]
    with torch.no_grad():
        ours = detector.predict(Batch(_images(), frames))
        theirs = _found_by_torchvision(model, _images())
    background = 0 if _dense(model) else 1
    for mine, own in zip(ours, theirs, strict=True):
        assert len(mine) > 5
        some = [own["boxes"][None], own["scores"][None], own["labels"][None] - background]
        assert agreement(some, [x[None] for x in (mine.boxes, mine.scores, mine.labels)], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_torchvision_in_either_mode(kind):
    model = torchvision_model(kind)
    detector, targets = TorchvisionDetector.of(model), list(map(_target, SIZES))
    for mode in (True, False):
        detector.train(mode)
        torch.manual_seed(0)
        ours = detector.loss(_images(), targets)
        assert all(module.training == mode for module in detector.modules())
        for part in (model.rpn, model.roi_heads) if not _dense(model) else ():
            part.training = True
        torch.manual_seed(0)
        theirs = _losses_of_torchvision(model, _images())
        assert_close(list(ours.values()), theirs)
    assert all(name.startswith("loss_") for name in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_fixed_shapes_hold_what_predict_finds(kind):
    detector = TorchvisionDetector.of(torchvision_model(kind))
    deployed = Deployed(detector, None)
    with torch.no_grad():
        outputs, found = deployed(_images()), detector.predict(Batch(_images()))
    assert deployed.outputs[:3] == ("boxes", "scores", "labels")
    assert len(outputs) == (4 if kind == "maskrcnn" else 3)
    for i, one in enumerate(found):
        parts = [one.boxes, one.scores, one.labels, *([] if one.masks is None else [one.masks])]
        got = [x[i : i + 1] for x in outputs]
        got[:3] = [x[:, : len(one)] for x in got[:3]]
        agreement([x[None] for x in parts], got, kind)


def test_names_of_tensors_are_torchvisions():
    for kind in KINDS:
        model = torchvision_model(kind)
        assert list(TorchvisionDetector.of(model).state_dict()) == list(model.state_dict())


def test_models_that_are_none_are_named():
    with pytest.raises(ConfigError, match="RetinaNet, FCOS, FasterRCNN and MaskRCNN, got Linear"):
        TorchvisionDetector.of(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="did you mean 'retinanet_resnet50_fpn'"):
        TorchvisionDetector(name="retinanet_resnet50_fnp", num_classes=3)


def test_weights_of_other_classes_leave_the_last_layer(tmp_path, monkeypatch):
    file, built = tmp_path / "weights.pth", torchvision_model("fasterrcnn")
    weights = {name: torch.ones_like(value) for name, value in built.state_dict().items()}
    weights["roi_heads.box_predictor.cls_score.weight"] = torch.ones(91, 32)
    torch.save(weights, file)
    monkeypatch.setattr(
        "razorlite.models.detectors.torchvision_detector.zoo.get_model", lambda *_, **__: built
    )
    settings = {"name": "fasterrcnn_resnet50_fpn", "num_classes": 3, "pretrained": str(file)}
    model = TorchvisionDetector(**settings, frozen=["backbone.first"], norm_eval=True)
    assert (model.backbone.first.weight == 1).all()
    assert not (model.roi_heads.box_predictor.cls_score.weight == 1).any()
    assert not model.backbone.first.weight.requires_grad
    assert not model.backbone.norm.training
    assert model.backbone.second.weight.requires_grad
    del weights["backbone.first.weight"]
    torch.save(weights, file)
    with pytest.raises(CheckpointError, match=r"backbone.first.weight is missing, expected \(32"):
        TorchvisionDetector(**settings)
    with pytest.raises(ConfigError, match="fpn has no module 'backbone"):
        TorchvisionDetector(name=settings["name"], num_classes=3, frozen=["backbone.frist"])
