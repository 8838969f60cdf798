"""Predictions as others take them."""

import sys

import pytest
from torch import tensor

from razorlite.core.errors import DataError
from razorlite.deploy import Prediction, coco_dict
from razorlite.structures import Detections

FOUND = Detections(tensor([[1.0, 2, 4, 6], [0, 0, 2, 2]]), tensor([0.9, 0.2]), tensor([1, 0]))
ONE = Prediction("a.jpg", ("cat", "dog"), (10, 20), FOUND)


def test_coco_by_hand():
    broken = Prediction("b.jpg", ("cat", "dog"), fault="broken")
    tree = coco_dict([broken, ONE], 0.5)
    assert tree["images"] == [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 20}]
    (entry,) = tree["annotations"]
    assert entry.pop("score") == pytest.approx(0.9)
    assert entry == {
        "id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
    }  # fmt: skip
    assert tree["categories"][1] == {"id": 2, "name": "dog"}


def test_coco_masks_are_run_lengths():
    masks = tensor([[[True, False], [True, True]]])
    found = Detections(tensor([[0.0, 0, 2, 2]]), tensor([0.5]), tensor([0]), masks)
    (entry,) = coco_dict([Prediction("a", ("cat",), (2, 2), found)])["annotations"]
    assert entry["area"] == 3
    assert entry["segmentation"]["size"] == [2, 2]
    assert isinstance(entry["segmentation"]["counts"], str)


def test_supervision():
    pytest.importorskip("supervision")
    found = ONE.to_supervision(0.5)
    assert found.xyxy.tolist() == [[1, 2, 4, 6]]
    assert found.class_id.tolist() == [1]
    assert found.data["class_name"].tolist() == ["dog"]


def test_without_supervision(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DataError, match="pip install supervision"):
        ONE.to_supervision()
    with pytest.raises(DataError, match=r"no detections: it was classified"):
        Prediction("a.jpg", ("cat",), probabilities=tensor([1.0])).to_supervision()
