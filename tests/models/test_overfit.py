"""Every detector of one stage learns eight real images by heart."""

import pytest

from razorlite.structures import Batch
from tests.models import test_detectors as small
from tests.models.learning import Course, assert_overfits, eight_photos, marked
from tests.models.test_detr import detr_on_vit

COURSES = {
    "fcos": Course(small._fcos_modern),
    "retinanet": Course(small._retinanet),
    "atss": Course(small._atss),
    "gfl": Course(small._gfl),
    "rtmdet": Course(small._rtmdet, steps=350),
    "rtmdet_ins": Course(small._rtmdet_ins, steps=400, lr=6e-3),
    "detr_on_vit": Course(detr_on_vit, steps=700, lr=1e-3),  # no anchors or points to start from
}
# GFL has ATSS's assigner and RetinaNet's anchors; each learns one image in test_detectors.
RELEASE = ("retinanet", "atss", "rtmdet", "detr_on_vit")


@pytest.fixture(scope="module")
def eight(test_data) -> Batch:
    return eight_photos(test_data)


@pytest.mark.rounding
@pytest.mark.parametrize("name", marked(COURSES, RELEASE))
def test_overfits_eight_real_images(name, eight):
    assert_overfits(COURSES[name], eight)
