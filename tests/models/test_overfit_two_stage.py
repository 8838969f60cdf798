"""Detectors of two or more stages learn eight real images by heart: their boxes and masks.

Those without masks are made of the same parts less the masks' heads.
"""

import pytest

from razorlite.models.detectors.two_stage import (
    CascadeRCNN,
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
from razorlite.structures import Batch
from tests.models import test_detectors as small
from tests.models.learning import Course, assert_overfits, eight_photos, marked

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


def mask_rcnn() -> TwoStageDetector:
    head = StandardRoIHead(bbox_head=box_head(), mask_head=mask_head(), **REGIONS)
    return two_stage(head, MaskRCNN)


def cascade_mask_rcnn() -> TwoStageDetector:
    boxes = [box_head(reg_class_agnostic=True) for _ in range(3)]
    masks = [mask_head() for _ in boxes]
    head = CascadeRoIHead(bbox_head=boxes, mask_head=masks, **REGIONS)
    return two_stage(head, CascadeRCNN)


COURSES = {
    "mask_rcnn": Course(mask_rcnn),
    "cascade_mask_rcnn": Course(cascade_mask_rcnn, steps=200),
}


@pytest.fixture(scope="module")
def eight(test_data) -> Batch:
    return eight_photos(test_data)


@pytest.mark.rounding
@pytest.mark.parametrize("name", marked(COURSES, ("mask_rcnn",)))
def test_overfits_eight_real_images(name, eight):
    assert_overfits(COURSES[name], eight)
