"""Held-out images: whole groups of one image, and the same ones wherever and however many lie."""

import os
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data import (
    ClassBalancedDataset,
    CocoDataset,
    ConcatDataset,
    Dataset,
    ImageFolderDataset,
    RepeatDataset,
    ShapesDataset,
    dataset_digest,
    image_hashes,
    split_holdout,
    split_names,
)
from razorlite.data.splitting import image_hash
from tests.data.helpers import write_shapes


class Listed(Dataset):
    """Nothing but keys, as a data set that knows no names."""

    classes = ("one",)
    faults = []  # noqa: RUF012

    def __init__(self, keys):
        self.keys = list(keys)

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        return torch.zeros(3, 4, 4, dtype=torch.uint8), 0


def sides(dataset, fraction=0.3):
    """Return the names on both sides of a split."""
    kept, held = split_holdout(dataset, fraction)
    assert sorted(kept + held) == list(range(len(dataset)))
    return ({dataset.names[i] for i in kept}, {dataset.names[i] for i in held})


def test_hash_by_hand():
    expected = sha256(b"7/train/a.jpg").hexdigest()[:16]
    assert image_hash("train/a.jpg", 7) == int(expected, 16)
    # one letter, written as one sign or as two
    assert image_hash("caf\u00e9.jpg") == image_hash("cafe\u0301.jpg")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: RepeatDataset(dataset=d, times=4),
        lambda d: ConcatDataset(datasets=[d, d.subset(range(5, len(d)))]),
        lambda d: ClassBalancedDataset(dataset=d, threshold=1.0),
        lambda d: RepeatDataset(dataset=ConcatDataset(datasets=[d, d]), times=2).subset(range(50)),
    ],
)
def test_copies_of_an_image_are_on_one_side(wrap):
    dataset = wrap(ShapesDataset(num_images=20, size=(16, 16)))
    kept, held = sides(dataset)
    assert kept
    assert held
    assert not kept & held


def test_one_file_reached_by_two_ways_is_one_image(tmp_path):
    annotation = write_shapes(tmp_path / "set", num_images=12, size=(16, 16))
    (tmp_path / "linked").symlink_to(tmp_path / "set" / "images")
    parts = [
        CocoDataset(annotation=str(annotation), images=str(folder))
        for folder in (tmp_path / "set" / "images", tmp_path / "linked")
    ]
    both = ConcatDataset(datasets=parts)
    assert both.keys == parts[0].keys * 2
    kept, held = split_holdout(both, 0.5)
    assert not {i % 12 for i in kept} & {i % 12 for i in held}


def test_a_lost_image_leaves_the_others_where_they_are():
    names = [f"{i}.jpg" for i in range(300)]
    kept, held = sides(Listed(names))
    assert 60 <= len(held) <= 120  # 90 expected
    for lost in (0, 17, 299):
        rest = [name for name in names if name != names[lost]]
        assert sides(Listed(rest[::-1])) == (kept - {names[lost]}, held - {names[lost]})


def test_a_moved_data_set_keeps_its_split(tmp_path):
    annotation = write_shapes(tmp_path / "here", num_images=15, size=(16, 16))
    first = CocoDataset(annotation=str(annotation), images=str(tmp_path / "here" / "images"))
    split, digest, hashes = sides(first), dataset_digest(first), image_hashes(first)
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = CocoDataset(
        annotation=str(tmp_path / "there" / "annotations.json"),
        images=str(tmp_path / "there" / "images"),
    )
    assert not set(first.keys) & set(moved.keys)
    assert (sides(moved), dataset_digest(moved), image_hashes(moved)) == (split, digest, hashes)


def test_names_of_class_folders(tmp_path):
    for name in ("cat/a.png", "dog/deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    dataset = ImageFolderDataset(root=str(tmp_path))
    assert dataset.names == ["cat/a.png", "dog/deep/b.png"]
    assert dataset.keys == [os.path.realpath(tmp_path / name) for name in dataset.names]


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_each_side_gets_an_image(fraction):
    for count in (2, 3, 5):
        kept, held = split_names([f"{i}.png" for i in range(count)], fraction)
        assert kept
        assert held


def test_one_image_many_times_cannot_be_split():
    dataset = RepeatDataset(dataset=ShapesDataset(num_images=1, size=(16, 16)), times=9)
    with pytest.raises(DataError, match="data set of 1; expected 2 or more different ones"):
        split_holdout(dataset, 0.5)


def test_digest_tells_classes_images_and_annotations_apart(tmp_path):
    annotation = write_shapes(tmp_path, num_images=3, size=(32, 32))
    images = str(tmp_path / "images")

    def digest(text):
        (tmp_path / "other.json").write_text(text)
        return dataset_digest(CocoDataset(annotation=str(tmp_path / "other.json"), images=images))

    text = annotation.read_text()
    same = digest(text)
    assert same == digest(text)
    changes = {
        '"name": "circle"': '"name": "disc"',
        '"category_id": 1': '"category_id": 2',
        '"iscrowd": 0': '"iscrowd": 1',
        '"area": ': '"area": 9',
        '"bbox": [1': '"bbox": [2',
    }
    others = [digest(text.replace(old, new)) for old, new in changes.items() if old in text]
    assert len(others) >= 3
    whole = CocoDataset(annotation=str(annotation), images=images)
    assert same not in [*others, dataset_digest(whole.subset([1, 0, 2]))]
