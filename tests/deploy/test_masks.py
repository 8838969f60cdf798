"""Detectors with masks as functions of tensors: what files for other runtimes hold and give."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ExportError
from razorlite.data import Preprocess
from razorlite.deploy import Deployed, FileModel, Predictor, agreement
from razorlite.models.detectors.single_stage import Detector
from razorlite.structures import Batch, Target
from tests.models.test_detectors import _cascade_mask, _mask_rcnn, _rtmdet_ins


def _instances() -> Detector:
    model = _rtmdet_ins()
    head = model.bbox_head
    for layers, std in ((head.rtm_cls, 0.5), (head.rtm_reg, 0.5), (head.rtm_kernel, 0.2)):
        for layer in layers:
            nn.init.normal_(layer.weight, std=std)
            nn.init.normal_(layer.bias, std=std)
    head.post_process = replace(head.post_process, score_thr=0.05, max_per_img=12)
    return model.eval()


def _regions(build: Callable[[], Detector]) -> Detector:
    model = build()
    for head in model.roi_head.bbox_heads:
        nn.init.normal_(head.fc_cls.weight, std=0.2)
        nn.init.normal_(head.fc_reg.weight, std=0.1)
    model.roi_head.post_process = replace(
        model.roi_head.post_process, score_thr=0.1, max_per_img=12
    )
    return model.eval()


BUILDERS = {
    "rtmdet_ins": _instances,
    "mask_rcnn": lambda: _regions(_mask_rcnn),
    "cascade_mask_rcnn": lambda: _regions(_cascade_mask),
}


@pytest.fixture(params=BUILDERS)
def model(request: pytest.FixtureRequest) -> Detector:
    torch.manual_seed(0)
    return BUILDERS[request.param]()


def _pixels(*shape: int) -> torch.Tensor:
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_masks_in_tensors_are_those_of_predict(model):
    """Two images of 50 x 70 in a batch of 64 x 96."""
    deployed = Deployed(model, Preprocess(pad_multiple=32))
    images = _pixels(2, 3, 50, 70)
    none = torch.zeros(0, 4), torch.zeros(0).long()
    targets = [Target(*none, size=(50, 70), original_size=(50, 70))] * 2
    with torch.no_grad():
        outputs = deployed(images)
        found = model.predict(Batch(deployed._normalised(images), targets))
    assert deployed.outputs == ("boxes", "scores", "labels", "masks")
    assert outputs[3].dtype == torch.bool
    assert outputs[3].shape == (2, max(map(len, found)), 50, 70)
    for i, one in enumerate(found):
        assert len(one) > 3
        got = [x[i : i + 1] for x in outputs]
        wanted = [one.boxes[None], one.scores[None], one.labels[None], one.masks[None]]
        got[:3] = [x[:, : len(one)] for x in got[:3]]
        assert agreement(wanted, got, "x").mask < 0.01
    assert outputs[3].any()


def test_an_image_without_detections_has_one_empty_mask(model):
    head = getattr(model, "roi_head", None) or model.bbox_head
    head.post_process = replace(head.post_process, score_thr=1.0)
    with torch.no_grad():
        _, scores, _, masks = Deployed(model, Preprocess(pad_multiple=32))(_pixels(2, 3, 40, 64))
    assert not scores.any()
    assert masks.shape == (2, 1, 40, 64)
    assert not masks.any()


def test_masks_that_differ_are_told_apart():
    boxes, scores, labels = tensor([[[0.0, 0, 10, 10]]]), tensor([[0.9]]), tensor([[0]])
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    mask[..., :10, :10] = True
    close, far = mask.clone(), mask.clone()
    close[..., 9, 8:10] = False  # 2 of 100 pixels: few enough
    far[..., 9, :] = False
    pair = [boxes, scores, labels]
    assert agreement([*pair, mask], [*pair, close], "x").mask == pytest.approx(0.02)
    assert agreement(pair, pair, "x").mask is None
    with pytest.raises(ExportError, match="x, image 0: a mask differs in 10 of 100 pixels"):
        agreement([*pair, mask], [*pair, far], "x")
    with pytest.raises(ExportError, match="PyTorch gives"):
        agreement([*pair, mask], [*pair, mask[..., :10]], "x")


class _Fixed(nn.Module):
    """Finds the left half of what it gets."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n, _, height, width = images.shape
        mask = torch.zeros(n, 1, height, width, dtype=torch.bool)
        mask[..., : width // 2] = True
        box = tensor([[[0.0, 0.0, width / 2, float(height)]] * 2]).expand(n, -1, -1)
        return box, tensor([[0.9, 0.0]]).expand(n, -1), tensor([[1, 0]]).expand(n, -1), mask


def test_masks_of_files_come_at_the_size_of_the_image(monkeypatch):
    monkeypatch.setattr("razorlite.deploy.runtimes.open_file", lambda path: _Fixed())
    predictor = Predictor(FileModel("x"), classes=("a", "b"), preprocess=Preprocess())
    predictor.transforms = Preprocess(
        transforms=({"type": "Resize", "size": [10, 20]},)
    ).image_transforms()
    (found,) = predictor(torch.zeros(3, 30, 64, dtype=torch.uint8))
    masks = found.found().masks
    assert masks.shape == (1, 30, 64)
    assert masks[0, :, :32].all()
    assert not masks[0, :, 32:].any()
    assert_close(found.found().boxes, tensor([[0.0, 0, 32, 30]]))
