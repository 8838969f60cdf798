"""Every head through every format, at several sizes and numbers of images."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError, ExportError
from razorlite.data import Preprocess
from razorlite.deploy import Deployed, FileModel, calibrate, export, open_file
from razorlite.models.deformable import DeformableConv2d
from razorlite.models.detectors.single_stage import Detector, SingleStageDetector
from razorlite.models.detectors.torchvision_detector import TorchvisionDetector
from razorlite.models.detectors.two_stage import TwoStageDetector
from razorlite.models.heads.atss_head import ATSSHead
from razorlite.models.heads.cascade_roi_head import CascadeRoIHead
from razorlite.models.heads.dense import DenseHead
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.gfl_head import GFLHead
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.roi_head import StandardRoIHead
from razorlite.models.heads.rpn_head import RPNHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.models.heads.rtmdet_ins_head import RTMDetInsSepBNHead
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.prune import Channels
from razorlite.space import Choices, Mutator, Placeholder, Subnet
from razorlite.structures import Batch
from tests.models.learning import marked
from tests.models.test_detr import small_detr
from tests.models.torchvision_zoo import KINDS, torchvision_model

SHARED = {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1, "norm": "GN"}
KEEP = PostProcess(score_thr=0.3, nms_pre=30, iou_threshold=0.5, max_per_img=20)
SQUARES = AnchorGenerator(strides=(8, 16), ratios=(1.0,), scales=(4.0,))
TWO = {"anchor_generator": SQUARES, "post_process": KEEP, **SHARED}
HEADS = {
    "retina": lambda: RetinaHead(
        anchor_generator=AnchorGenerator(strides=(8, 16), scales=(2.0, 4.0)),
        post_process=KEEP,
        **SHARED,
    ),
    "fcos": lambda: FCOSHead(strides=(8, 16), post_process=KEEP, **SHARED),
    "atss": lambda: ATSSHead(**TWO),
    "gfl": lambda: GFLHead(**TWO),
    "rtmdet": lambda: RTMDetSepBNHead(strides=(8, 16), post_process=KEEP, **SHARED),
    "rtmdet_ins": lambda: RTMDetInsSepBNHead(strides=(8, 16), post_process=KEEP, **SHARED),
}


def _box_head(per_class: bool) -> Shared2FCBBoxHead:
    head = Shared2FCBBoxHead(
        num_classes=3, in_channels=8, fc_out_channels=16, reg_class_agnostic=not per_class
    )
    nn.init.normal_(head.fc_cls.weight, std=0.5)
    nn.init.normal_(head.fc_reg.weight, std=0.2)
    return head


def _mask_head() -> FCNMaskHead:
    return FCNMaskHead(num_classes=3, in_channels=8, num_convs=1, conv_out_channels=8)


ROI_HEADS = {
    "faster": lambda: StandardRoIHead(
        bbox_head=_box_head(True), strides=(8, 16), post_process=KEEP
    ),
    "cascade": lambda: CascadeRoIHead(
        bbox_head=[_box_head(i == 0) for i in range(3)], strides=(8, 16), post_process=KEEP
    ),
    "mask": lambda: StandardRoIHead(
        bbox_head=_box_head(True), mask_head=_mask_head(), strides=(8, 16), post_process=KEEP
    ),
}
WITH_MASKS = ("rtmdet_ins", "mask", "torchvision_maskrcnn")
OTHERS = ("detr", "deformable", "pruned", "searched", *(f"torchvision_{kind}" for kind in KINDS))
NAMES = [*HEADS, *ROI_HEADS, *OTHERS]
PARTS = {"retina", "fcos", "atss", "rtmdet", "faster"}  # of pruned, searched, gfl, rtmdet_ins, mask
SLOWER = {"rtmdet_ins", "mask", *OTHERS} - {"detr", "deformable", "searched"}
BACKGROUND = {"fc_cls": (-1, 1.0), "cls_score": (0, 3.0)}  # to background's row, and its logit
ZEROED = re.compile(r"^backbone|convs|conv\.|fc")  # layers between the pixels and the scores
SETTINGS = Preprocess(channels="bgr", pad_multiple=16)


class Two(nn.Module):
    """Two layers, of strides 8 and 16: convolutions if the second is not given."""

    def __init__(self, second: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 9, 8, 4), second or nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(images)
        return first, self.second(first)


def needs_onnx() -> None:
    """Skip the test where ONNX cannot be written."""
    pytest.importorskip("onnxruntime")
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        pytest.skip("PyTorch is older than 2.6")


def _detector(head: DenseHead, second: nn.Module | None = None) -> Detector:
    model = SingleStageDetector(backbone=Two(second), bbox_head=head)
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d) and "_cls" in name and "convs" not in name:
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.zeros_(layer.bias)
        if "rtm_kernel" in name and isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.2)
            nn.init.normal_(layer.bias, std=0.2)
    return model.eval()


def _pruned() -> Detector:
    """A RetinaNet of which half the channels of its first convolution are gone."""
    channels = Channels(_detector(HEADS["retina"]()), (64, 96))
    first = next(group for group in channels.graph.prunable if "backbone.first" in group.name)
    slim: Detector = channels.slim(Subnet(channels={first.name: tuple(range(first.size // 2))}))
    assert slim.backbone.first.out_channels == first.size // 2
    return slim.eval()


def _halving(kernel: int) -> Callable[[int], nn.Module]:
    return lambda channels: nn.Conv2d(channels, channels, kernel, 2, kernel // 2)


def _searched() -> Detector:
    """An FCOS of one path through a supernet: its second convolution is the larger of two."""
    choices = Choices(choices={"conv3": _halving(3), "conv5": _halving(5)})
    model = _detector(HEADS["fcos"](), Placeholder("ops", "second", channels=8))
    space = Mutator(placeholder_mapping={"ops": choices}).prepare(model)
    plain = cast(Detector, space.export(Subnet(choices={"second": "conv5"})))
    assert cast(Any, plain.backbone).second.kernel_size == (5, 5)
    return plain.eval()


def _deformable() -> Detector:
    """An FCOS whose second convolution looks up to some cells away."""
    second = DeformableConv2d(8, 8, 3, stride=2, padding=1, deform_groups=2)
    nn.init.normal_(second.conv_offset.weight, std=0.2)
    return _detector(HEADS["fcos"](), second)


def _two_stage(name: str, proposals: int = 50) -> Detector:
    rpn = RPNHead(
        in_channels=8,
        feat_channels=8,
        anchor_generator=AnchorGenerator(strides=(8, 16), scales=(2.0, 4.0)),
        test_proposals=PostProcess(
            score_thr=0.0, nms_pre=100, iou_threshold=0.7, max_per_img=proposals
        ),
    )
    nn.init.normal_(rpn.rpn_cls.weight, std=0.3)
    nn.init.normal_(rpn.rpn_reg.weight, std=0.1)
    return TwoStageDetector(backbone=Two(), rpn_head=rpn, roi_head=ROI_HEADS[name]()).eval()


def _built(name: str) -> Detector:
    torch.manual_seed(0)
    if name in ROI_HEADS:
        return _silent(_two_stage(name))
    if name.startswith("torchvision_"):
        kind = name.partition("_")[2]
        return _silent(TorchvisionDetector.of(_louder(torchvision_model(kind))).eval())
    model = MADE[name]() if name in MADE else _detector(HEADS[name]())
    return model if name == "detr" else _silent(model)


MADE = {
    "detr": lambda: small_detr().eval(),
    "deformable": _deformable,
    "pruned": _pruned,
    "searched": _searched,
}


def _louder(model: nn.Module) -> nn.Module:
    """Return a detector whose scores differ more, so that some are well above background's."""
    for name, layer in model.named_modules():
        tower = "classification_head.conv" in name and isinstance(layer, nn.Conv2d)
        if tower or name.endswith(("cls_logits", "cls_score")):
            layer.weight.data.mul_(8)
    return model


def _silent(model: Detector) -> Detector:
    """Return a detector that finds nothing where all maps are zero: on its mean colour."""
    for name, layer in model.named_modules():
        last = name.rpartition(".")[2]
        if last in BACKGROUND:
            nn.init.zeros_(layer.bias)
            row, logit = BACKGROUND[last]
            nn.init.constant_(layer.bias[row], logit)
        elif "_cls" in name or last == "cls_logits":
            for scores in layer.modules():
                if isinstance(scores, nn.Conv2d):
                    nn.init.constant_(scores.bias, -4.0 if last == "cls_logits" else -1.5)
        elif ZEROED.search(name) and isinstance(getattr(layer, "bias", None), nn.Parameter):
            nn.init.zeros_(layer.bias)
    return model


def _images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(n, 3, h, w) * 255 for n, h, w in ((2, 64, 96), (1, 80, 72), (4, 50, 70))]


def _plain() -> Tensor:
    """Return (1, 3, 56, 88) pixels of the mean colour."""
    return tensor(SETTINGS.mean).flip(0).view(1, 3, 1, 1).expand(1, 3, 56, 88)


def _exported(name: str, path: Path, form: str) -> None:
    images = [*_images(), torch.cat((_plain(), torch.rand(1, 3, 56, 88) * 255))]
    result = export(Deployed(_built(name), SETTINGS), path, format=form, images=images)
    assert path.stat().st_size > 1000
    assert result.agreement.found > 20
    assert (result.agreement.mask is not None) == (name in WITH_MASKS)
    if name != "detr":  # which finds as many as it has queries
        _finds_nothing(path, name in WITH_MASKS)


def _finds_nothing(path: Path, masks: bool) -> None:
    """Check that a file finds nothing in a plain image, alone and as `predict` runs it."""
    _, scores, _, *drawn = open_file(path, 1)(_plain())
    assert not scores.any()
    assert [tuple(x.shape) for x in drawn] == [(1, 1, 56, 88)] * masks
    (found,) = FileModel(path).predict(Batch(_plain()))
    assert len(found) == 0
    assert (found.masks is not None) == masks


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOWER)) for n in NAMES]
)
def test_torchscript(name, tmp_path):
    _exported(name, tmp_path / "model.torchscript", "torchscript")


@pytest.mark.parametrize("name", marked(NAMES, PARTS))
def test_onnx_of_every_head(name, tmp_path):
    needs_onnx()
    path, out = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    _exported(name, path, "onnx")
    calibrate(path, _images()).write(out)
    for images in _images():
        exact, close = open_file(path)(images), open_file(out)(images)
        assert [x.shape for x in exact[:3]] == [x.shape for x in close[:3]]
        assert (exact[1] - close[1]).abs().mean() < 0.02
    if name != "detr":
        _finds_nothing(out, name in WITH_MASKS)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOWER)) for n in NAMES]
)
def test_padded_images_show_what_predict_finds(name):
    settings = replace(SETTINGS, pad_multiple=32)  # more than the strides of the maps
    deployed, images = Deployed(_built(name), settings), _images()[2]
    padded = deployed._normalised(images)
    assert padded.shape > images.shape
    size = (images.shape[2], images.shape[3])
    found = deployed.model.predict(Batch(padded, sizes=(size,) * len(images)))
    boxes, scores, labels = (x[0, : len(found[0])] for x in deployed(images)[:3])
    assert len(found[0])
    assert_close(scores, found[0].scores)
    assert_close(boxes, found[0].boxes, atol=1e-3, rtol=1e-4)
    assert torch.equal(labels, found[0].labels)


def test_nothing_found_is_nothing_in_the_file(tmp_path):
    model = _built("fcos")
    nn.init.constant_(model.bbox_head.conv_cls.bias, -20)
    path = tmp_path / "model.torchscript"
    result = export(Deployed(model, Preprocess()), path, format="torchscript", images=_images())
    assert result.agreement.found == 0


def test_settings_that_no_file_can_hold_are_refused():
    model = _built("fcos")
    model.bbox_head.post_process = PostProcess(soft_nms="linear")
    with pytest.raises(ConfigError, match="soft_nms cannot be exported"):
        Deployed(model, None)


@pytest.mark.parametrize("name", ROI_HEADS)
def test_two_stages_find_nothing_in_the_file_either(name, tmp_path):
    model = _built(name)
    model.roi_head.post_process = PostProcess(score_thr=1.0, max_per_img=20)
    path = tmp_path / "model.torchscript"
    result = export(Deployed(model, Preprocess()), path, format="torchscript", images=_images())
    assert result.agreement.found == 0


@pytest.mark.parametrize("proposals", [50, 500])  # fewer than there are, and more
@pytest.mark.parametrize("name", ROI_HEADS)
def test_fixed_shapes_hold_what_two_stages_predict(name, proposals):
    torch.manual_seed(0)
    model = _two_stage(name, proposals)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        decoded = model.decode(images, tensor([[64, 96], [64, 96]]))
        boxes, scores, labels = model.post_process.keep_fixed(*decoded)
        found = model.predict(Batch(images))
    assert decoded[0].shape == (2, 3 * min(proposals, 200), 4)
    for i, one in enumerate(found):
        assert len(one) > 5
        assert (scores[i, len(one) :] == 0).all()
        assert_close(boxes[i, : len(one)], one.boxes)
        assert_close(scores[i, : len(one)], one.scores)
        assert torch.equal(labels[i, : len(one)], one.labels)


def test_detectors_without_fixed_shapes_are_refused_by_name():
    class Bare(Detector):
        """Gives lists of detections alone."""

    with pytest.raises(ExportError, match="Bare cannot be exported: it has no `decode`"):
        Deployed(Bare(), None)
