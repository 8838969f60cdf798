"""The data sets on real images."""

import json

import pytest
import torch
from torch.testing import assert_close

from razorlite.core.errors import DataError
from razorlite.data import CifarTarDataset, CocoDataset, ConcatDataset, VocDataset, split_holdout

CLASSES = ["RBC", "WBC", "Platelets"]


def bccd(test_data, *splits, **kwargs):
    return VocDataset(
        root=str(test_data / "bccd_voc" / "BCCD"),
        split=[f"ImageSets/Main/{name}.txt" for name in splits],
        classes=CLASSES,
        **kwargs,
    )


def test_blood_cells_have_their_official_split_and_two_faults(test_data):
    parts = {name: bccd(test_data, name) for name in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [205, 87, 72]
    faults = [fault for part in parts.values() for fault in part.faults]
    assert [fault.kind for fault in faults] == ["zero-area box"] * 2
    named = " ".join(fault.file for fault in faults)
    assert "BloodImage_00338.jpg" in named
    assert "BloodImage_00343.jpg" in named
    keys = [set(part.keys) for part in parts.values()]
    assert len(set.union(*keys)) == 364


def test_strict_blood_cells_raise(test_data):
    with pytest.raises(DataError, match=r"1 faults \(1 x zero-area box\)(.|\n)*BloodImage_00343"):
        bccd(test_data, "train", strict=True)
    assert len(bccd(test_data, "test", strict=True)) == 72


def test_two_splits_are_read_as_one(test_data):
    both = bccd(test_data, "train", "val")
    assert len(both) == 292
    assert both.keys == bccd(test_data, "train").keys + bccd(test_data, "val").keys


def test_voc_and_coco_annotations_agree(test_data):
    voc = bccd(test_data, "test")
    coco = CocoDataset(
        annotation=str(test_data / "bccd_voc" / "derived_coco_test.json"),
        images=str(test_data / "bccd_voc" / "BCCD" / "JPEGImages"),
    )
    assert coco.classes == voc.classes == tuple(CLASSES)
    assert coco.keys == voc.keys
    for index in range(0, 72, 9):
        one, other = voc[index][1], coco[index][1]
        assert_close(one.boxes, other.boxes)
        assert torch.equal(one.labels, other.labels)


def coco_part(test_data, name, **kwargs):
    folder = test_data / "coco_permissive"
    part = "train2017" if "train" in name else "val2017"
    return CocoDataset(
        annotation=str(folder / "annotations" / f"{name}.json"),
        images=str(folder / "images" / part),
        **kwargs,
    )


PARTS = [
    f"instances{kind}_{part}2017" for kind in ("", "_from_panoptic") for part in ("train", "val")
]


def test_coco_images_are_all_there(test_data):
    parts = [coco_part(test_data, name) for name in PARTS]
    assert [len(part) for part in parts] == [13, 20, 26, 26]
    assert all(not part.faults for part in parts)
    assert all(len(part.classes) == 80 for part in parts)
    joined = ConcatDataset(datasets=parts)
    assert len(set(joined.keys)) == 85
    targets = [joined[index][1] for index in range(85)]
    assert sum(len(target) for target in targets) == 74 + 110 + 181 + 173
    assert [target.image_id for target in targets] == list(range(85))
    assert sum(len(target) == 0 for target in targets) == 3
    assert sum(int(target.crowd.sum()) for target in targets) >= 2


def test_greyscale_coco_image_becomes_rgb(test_data):
    parts = [coco_part(test_data, name) for name in PARTS]
    part = next(p for p in parts if any("000000000086" in key for key in p.keys))
    index = next(i for i, key in enumerate(part.keys) if "000000000086" in key)
    image, _ = part[index]
    assert image.shape[0] == 3
    assert torch.equal(image[0], image[1])


@pytest.mark.parametrize("name", [PARTS[1], PARTS[3]])
def test_coco_masks_fill_their_boxes(test_data, name):
    part = coco_part(test_data, name, masks=True)
    entries = json.loads((test_data / "coco_permissive/annotations" / f"{name}.json").read_text())
    areas = {entry["id"]: entry["area"] for entry in entries["annotations"]}
    seen = 0
    for index in range(len(part)):
        image, target = part[index]
        assert target.masks.shape == (len(target), *image.shape[1:])
        for box, mask in zip(target.boxes, target.masks, strict=True):
            ys, xs = torch.nonzero(mask, as_tuple=True)
            around = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (around - box).abs().max() <= 2.0
        seen += len(target)
        target = target.without_crowd()  # one crowd's stated area is not that of its run lengths
        if len(target) == 0:
            continue
        painted = target.masks.flatten(1).sum(1).float()
        assert (painted - target.area).abs().le(0.05 * target.area + 60).all()
    assert seen == len(areas)


def test_category_subset_keeps_the_given_order(test_data):
    part = coco_part(test_data, PARTS[1], classes=["person", "bicycle"])
    swapped = coco_part(test_data, PARTS[1], classes=["bicycle", "person"])
    labels = torch.cat([part[index][1].labels for index in range(len(part))])
    other = torch.cat([swapped[index][1].labels for index in range(len(part))])
    assert (labels == 0).sum() > 0
    assert torch.equal(labels, 1 - other)
    assert not part.faults


def test_holding_out_is_deterministic_and_disjoint(test_data):
    train = bccd(test_data, "train")
    kept, held = split_holdout(train, 0.2, seed=3)
    assert 20 <= len(held) <= 62  # 41 expected, each image drawn on its own
    assert sorted(kept + held) == list(range(205))
    assert split_holdout(bccd(test_data, "train"), 0.2, seed=3) == (kept, held)
    assert split_holdout(train, 0.2, seed=4)[1] != held
    assert not set(train.subset(kept).keys) & set(train.subset(held).keys)


@pytest.mark.slow
def test_cifar_is_read_from_its_archive(test_data):
    archive = str(test_data / "cifar10_jpeg" / "cifar10_jpeg_full.tar.gz")
    test = CifarTarDataset(archive=archive, split="test", per_class=20)
    assert len(test) == 200
    assert len(test.classes) == 10
    assert [test[i][1] for i in (0, 19, 20, 199)] == [0, 0, 1, 9]
    assert test[7][0].shape == (3, 32, 32)
