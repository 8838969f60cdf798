"""Splits: shares, balance, groups, and that they hang on names and seed alone."""

import math
import shutil

import pytest

from razorlite.core.errors import DataError
from razorlite.data.dividing import divide
from razorlite.data.recognising import recognise
from tests.data.helpers import save_image, voc

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def make(root, classes):
    """A VOC set of {image name: class names}."""
    made = {name: [(c, 8, 10, 32, 26, 0) for c in own] for name, own in classes.items()}
    voc(root, made)
    return recognise(root).open("train")


def per_split(dataset, parts, name):
    label = dataset.classes.index(name)
    return {
        split: sum(dataset.records[i].labels.tolist().count(label) for i in items)
        for split, items in parts.items()
    }


@pytest.fixture(scope="module")
def rare(module_path):
    classes = {f"{i:02}": ["cat"] * 3 + (["dog"] if i % 10 == 0 else []) for i in range(50)}
    return make(module_path, classes)


def test_every_class_is_dealt_in_the_shares(rare):
    # five images have the rare class: a plain random split often leaves val or test without
    for seed in range(5):
        parts = divide(rare, SHARES, seed=seed)
        assert sorted(i for items in parts.values() for i in items) == list(range(50))
        assert per_split(rare, parts, "dog") == {"train": 3, "val": 1, "test": 1}
        assert {split: len(items) for split, items in parts.items()} == {
            "train": 30, "val": 10, "test": 10,
        }  # fmt: skip


def test_the_seed_decides_and_repeats(rare):
    assert divide(rare, SHARES, seed=1) == divide(rare, SHARES, seed=1)
    assert divide(rare, SHARES, seed=1) != divide(rare, SHARES, seed=2)


def test_groups_stay_together(tmp_path):
    dataset = make(tmp_path, {f"film{f}_{i}": ["cat"] for f in range(10) for i in range(4)})
    parts = divide(dataset, SHARES, group="^(.*)_")
    owners = {}
    for split, items in parts.items():
        for i in items:
            assert owners.setdefault(dataset.names[i].split("_")[0], split) == split
    assert {split: len(items) for split, items in parts.items()} == {
        "train": 24, "val": 8, "test": 8,
    }  # fmt: skip


def test_equal_pictures_stay_together(tmp_path):
    dataset = make(tmp_path, {f"{i}": ["cat"] for i in range(8)})
    for i in range(1, 4):
        shutil.copy(tmp_path / "JPEGImages" / "0.jpg", tmp_path / "JPEGImages" / f"{i}.jpg")
    save_image(tmp_path / "JPEGImages" / "0.jpg", seed=99)
    parts = divide(dataset, {"train": 0.5, "val": 0.5})
    assert len({split for split, items in parts.items() if {1, 2, 3} & set(items)}) == 1


def test_no_split_stays_empty(tmp_path):
    dataset = make(tmp_path, {"a": ["cat"], "b": ["cat"], "c": ["cat"]})
    parts = divide(dataset, {"train": 0.98, "val": 0.01, "test": 0.01})
    assert sorted(map(len, parts.values())) == [1, 1, 1]


@pytest.mark.parametrize(
    ("fractions", "group", "match"),
    [
        ({"train": 0.8, "val": 0.1}, "", r"add up to 0\.9; expected numbers above 0, 1 in all"),
        ({"train": 1.5, "val": -0.5}, "", "expected numbers above 0"),
        ({}, "", "expected numbers above 0"),
        ({"train": math.nan, "val": 0.5}, "", "expected numbers above 0"),
        ({"train": math.inf, "val": 0.5}, "", "expected numbers above 0"),
        ({"train": 0.5, "val": 0.5}, "(", "no regular expression"),
        ({"train": 0.5, "val": 0.5}, "film", "finds nothing in"),
        (dict.fromkeys("abcd", 0.25), "", "cannot divide 3 groups of images among 4 splits"),
    ],
)
def test_refusals(tmp_path, fractions, group, match):
    dataset = make(tmp_path, {"x": ["cat"], "y": ["cat"], "z": ["cat"]})
    with pytest.raises(DataError, match=match):
        divide(dataset, fractions, group=group)
