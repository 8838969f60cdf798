"""Every dense head and DETR through every format, at several sizes and numbers of images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError, ExportError
from razorlite.data import Preprocess
from razorlite.deploy import Deployed, export
from razorlite.models.detectors.single_stage import Detector, SingleStageDetector
from razorlite.models.heads.atss_head import ATSSHead
from razorlite.models.heads.dense import DenseHead
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.gfl_head import GFLHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.postprocess import PostProcess
from tests.models.test_detectors import _faster_rcnn, _mask_rcnn, _rtmdet_ins
from tests.models.test_detr import small_detr

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
}


class Two(nn.Module):
    """Two convolutions, of strides 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 9, 8, 4), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(images)
        return first, self.second(first)


def needs_onnx() -> None:
    """Skip the test where ONNX cannot be written."""
    pytest.importorskip("onnxruntime")
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        pytest.skip("PyTorch is older than 2.6")


def _detector(head: DenseHead) -> Detector:
    model = SingleStageDetector(backbone=Two(), bbox_head=head)
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d) and "_cls" in name and "convs" not in name:
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.zeros_(layer.bias)
    return model.eval()


def _built(name: str) -> Detector:
    torch.manual_seed(0)
    return small_detr().eval() if name == "detr" else _detector(HEADS[name]())


def _images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(n, 3, h, w) * 255 for n, h, w in ((2, 64, 96), (1, 80, 72), (4, 50, 70))]


def _exported(name: str, path: Path, form: str) -> None:
    model = Deployed(_built(name), Preprocess(channels="bgr", pad_multiple=16))
    result = export(model, path, format=form, images=_images())
    assert path.stat().st_size > 1000
    assert result.agreement.found > 20


@pytest.mark.parametrize("name", [*HEADS, "detr"])
def test_torchscript(name, tmp_path):
    _exported(name, tmp_path / "model.torchscript", "torchscript")


def test_onnx(tmp_path):
    needs_onnx()
    _exported("fcos", tmp_path / "model.onnx", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEADS, "detr"])
def test_onnx_of_every_head(name, tmp_path):
    needs_onnx()
    _exported(name, tmp_path / "model.onnx", "onnx")


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


@pytest.mark.parametrize("build", [_rtmdet_ins, _faster_rcnn, _mask_rcnn])
def test_detectors_without_fixed_shapes_are_refused_by_name(build):
    model = build()
    with pytest.raises(ExportError, match=f"{type(model).__name__} cannot be exported"):
        Deployed(model, None)
