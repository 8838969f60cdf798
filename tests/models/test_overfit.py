"""Every detector learns eight real images by heart."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from razorlite.data import build_loader
from razorlite.data.coco import CocoDataset
from razorlite.data.transforms.geometry import Pad, Resize
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.evaluate import eval_mode
from razorlite.models.detectors.two_stage import (
    CascadeRCNN,
    FasterRCNN,
    MaskRCNN,
    TwoStageDetector,
)
from razorlite.models.heads.cascade_roi_head import CascadeRoIHead
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.roi_head import RoIHead, StandardRoIHead
from razorlite.models.heads.rpn_head import RPNHead
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.structures import Batch, Detections, Target
from tests.models import test_detectors as small
from tests.models.learning import learn
from tests.models.test_detr import detr_on_vit, small_detr

SIDE = 128
REGIONS = {
    "strides": (8, 16, 32),
    "sampler": RandomSampler(num=48, pos_fraction=0.5, add_gt_as_proposals=True),
}


def box_head(**options: bool) -> Shared2FCBBoxHead:
    return Shared2FCBBoxHead(num_classes=3, in_channels=16, fc_out_channels=128, **options)


def mask_head() -> FCNMaskHead:
    return FCNMaskHead(num_classes=3, in_channels=16, num_convs=2, conv_out_channels=32)


def two_stage(head: RoIHead, detector: type[TwoStageDetector]) -> TwoStageDetector:
    """Return a detector whose proposals cover small objects, too."""
    proposals = PostProcess(nms_pre=200, iou_threshold=0.7, max_per_img=100)
    rpn = RPNHead(
        in_channels=16,
        feat_channels=16,
        anchor_generator=AnchorGenerator(strides=(8, 16, 32), scales=(2, 4)),
        sampler=RandomSampler(num=10**6, pos_fraction=1.0),
        train_proposals=proposals,
        test_proposals=proposals,
    )
    return detector(rpn_head=rpn, roi_head=head, **small._parts())


def faster_rcnn() -> TwoStageDetector:
    head = StandardRoIHead(bbox_head=box_head(), **REGIONS)
    return two_stage(head, FasterRCNN)


def mask_rcnn() -> TwoStageDetector:
    head = StandardRoIHead(bbox_head=box_head(), mask_head=mask_head(), **REGIONS)
    return two_stage(head, MaskRCNN)


def cascade_rcnn() -> TwoStageDetector:
    boxes = [box_head(reg_class_agnostic=True) for _ in range(3)]
    return two_stage(CascadeRoIHead(bbox_head=boxes, **REGIONS), CascadeRCNN)


def cascade_mask_rcnn() -> TwoStageDetector:
    boxes = [box_head(reg_class_agnostic=True) for _ in range(3)]
    masks = [mask_head() for _ in boxes]
    head = CascadeRoIHead(bbox_head=boxes, mask_head=masks, **REGIONS)
    return two_stage(head, CascadeRCNN)


@dataclass(frozen=True)
class Course:
    """How a detector is made to learn by heart."""

    build: Callable[[], nn.Module]
    steps: int = 300
    lr: float = 3e-3


COURSES = {
    "fcos": Course(small._fcos_modern),
    "retinanet": Course(small._retinanet),
    "atss": Course(small._atss),
    "gfl": Course(small._gfl),
    "rtmdet": Course(small._rtmdet, steps=500),
    "rtmdet_ins": Course(small._rtmdet_ins, steps=600, lr=6e-3),
    "faster_rcnn": Course(faster_rcnn),
    "mask_rcnn": Course(mask_rcnn),
    "cascade_rcnn": Course(cascade_rcnn, steps=200),
    "cascade_mask_rcnn": Course(cascade_mask_rcnn),
    "detr": Course(small_detr, steps=700, lr=1e-3),  # no anchors or points to start from
    "detr_on_vit": Course(detr_on_vit, steps=700, lr=1e-3),
}


@pytest.fixture(scope="module")
def eight(test_data) -> Batch:
    """Photographs with one to four objects, none small or behind another, and their masks."""
    folder = test_data / "coco_permissive"
    photos = CocoDataset(
        annotation=str(folder / "annotations/instances_from_panoptic_train2017.json"),
        images=str(folder / "images/train2017"),
        masks=True,
    )
    clear = [i for i in range(len(photos)) if is_clear(photos[i])][:8]
    shrink = [Resize(size=(SIDE, SIDE)), Pad(size=(SIDE, SIDE))]
    [batch] = build_loader(photos.subset(clear), transforms=shrink, training=False)
    return Batch(batch.images, [relabelled(t) for t in batch.targets])


def is_clear(item: tuple[Tensor, Target]) -> bool:
    target = item[1]
    areas = target.masks.flatten(1).float().mean(1)
    apart = box_iou(target.boxes, target.boxes).triu(1) < 0.4
    few = 1 <= len(target) <= 4 and not target.crowd.any()
    return few and bool((areas > 0.03).all() and apart.all())


def relabelled(target: Target) -> Target:
    """Fold the classes into the three that the small models have."""
    return Target(target.boxes, target.labels % 3, masks=target.masks, size=(SIDE, SIDE))


@pytest.mark.slow
@pytest.mark.rounding
@pytest.mark.usefixtures("all_cores")
@pytest.mark.parametrize("name", COURSES)
def test_overfits_eight_real_images(name, eight):
    torch.manual_seed(0)
    course = COURSES[name]
    model = course.build()
    learn(model, eight.images, eight.targets, steps=course.steps, lr=course.lr)
    with eval_mode(model), torch.no_grad():
        found = model.predict(Batch(eight.images))
    assert metrics(found, eight.targets, "bbox")["AP50"] >= 0.95
    if found[0].masks is not None:
        assert metrics(found, eight.targets, "segm")["AP50"] >= 0.95
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def metrics(found: list[Detections], targets: list[Target], kind: str) -> dict[str, float]:
    metric = CocoMetric(kind=kind)
    metric.update(found, targets)
    return metric.compute()
