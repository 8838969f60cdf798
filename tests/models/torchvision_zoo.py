"""Small detectors of torchvision's classes with weights that find something everywhere."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection import faster_rcnn, mask_rcnn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

KINDS = ("retinanet", "fcos", "fasterrcnn", "maskrcnn")


class Pyramid(nn.Module):
    """Two convolutions, of strides 8 and 16, the first with a batch norm behind it."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 9, 8, 4), nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 32, 3, 2, 1)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        first = self.norm(self.first(images)).relu()
        return OrderedDict([("0", first), ("1", self.second(first))])


def torchvision_model(kind: str) -> nn.Module:
    """Return a detector of three classes."""
    torch.manual_seed(0)
    model = _dense(kind) if kind in ("retinanet", "fcos") else _regions(kind)
    for name, layer in model.named_modules():
        last = name.rpartition(".")[2]
        if last in ("cls_logits", "cls_score"):
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.normal_(layer.bias, std=0.1)
        elif last in ("bbox_reg", "bbox_pred"):
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.constant_(layer.bias, 0.2)
    return model.eval()


def _anchors(*ratios: float) -> AnchorGenerator:
    return AnchorGenerator(sizes=((16,), (32,)), aspect_ratios=(ratios,) * 2)


def _dense(kind: str) -> nn.Module:
    settings: dict[str, Any] = {"detections_per_img": 20, "topk_candidates": 60}
    if kind == "fcos":
        return detection.FCOS(Pyramid(), 3, anchor_generator=_anchors(1.0), **settings)
    return detection.RetinaNet(Pyramid(), 3, anchor_generator=_anchors(0.5, 1.0), **settings)


def _regions(kind: str) -> nn.Module:
    settings: dict[str, Any] = {
        "box_head": faster_rcnn.TwoMLPHead(32 * 49, 32),
        "box_predictor": faster_rcnn.FastRCNNPredictor(32, 4),
        "rpn_anchor_generator": _anchors(0.5, 1.0),
        "box_roi_pool": MultiScaleRoIAlign(["0", "1"], 7, 2),
        "rpn_post_nms_top_n_test": 50,
        "box_detections_per_img": 20,
    }
    if kind == "fasterrcnn":
        return detection.FasterRCNN(Pyramid(), **settings)
    settings["mask_roi_pool"] = MultiScaleRoIAlign(["0", "1"], 14, 2)
    settings["mask_head"] = mask_rcnn.MaskRCNNHeads(32, (16,), 1)
    settings["mask_predictor"] = mask_rcnn.MaskRCNNPredictor(16, 16, 4)
    return detection.MaskRCNN(Pyramid(), **settings)
