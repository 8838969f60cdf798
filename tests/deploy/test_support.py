"""docs/support.md lists what tests/deploy/test_formats.py writes and runs."""

from pathlib import Path

from tests.deploy.test_formats import NAMES, WITH_MASKS

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
TITLES = {
    "retina": "RetinaNet",
    "fcos": "FCOS",
    "atss": "ATSS",
    "gfl": "GFL",
    "rtmdet": "RTMDet",
    "rtmdet_ins": "RTMDet-Ins",
    "faster": "Faster R-CNN",
    "cascade": "Cascade R-CNN",
    "mask": "Mask R-CNN",
    "detr": "DETR",
    "deformable": "FCOS with a deformable convolution",
    "pruned": "pruned RetinaNet",
    "searched": "searched FCOS",
    "torchvision_retinanet": "torchvision's RetinaNet",
    "torchvision_fcos": "torchvision's FCOS",
    "torchvision_fasterrcnn": "torchvision's Faster R-CNN",
    "torchvision_maskrcnn": "torchvision's Mask R-CNN",
}


def _row(name: str) -> str:
    task = "boxes, masks" if name in WITH_MASKS else "boxes"
    return f"| {TITLES[name]} | {task} | yes | yes | yes |"


def test_the_page_lists_every_model_that_is_tested():
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert table[1:] == [_row(name) for name in NAMES]
