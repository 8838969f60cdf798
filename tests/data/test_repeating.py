"""Data sets whose items come several times."""

import math

import pytest
import torch
from torch import tensor

from razorlite.core.errors import ConfigError
from razorlite.data import (
    ClassBalancedDataset,
    CocoDataset,
    ConcatDataset,
    Dataset,
    RandomCrop,
    RepeatDataset,
    ShapesDataset,
    build_loader,
)
from razorlite.data.repeating import repeat_factors
from tests.data.helpers import coco, target
from tests.data.test_loader import Labelled


class Known(Dataset):
    """Images of known labels."""

    classes = ("common", "rare", "rarest")
    faults = []  # noqa: RUF012

    def __init__(self, labels):
        self.labels = labels
        self.keys = [str(i) for i in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        labels = self.labels[index]
        boxes = [[0, 0, 5, 5]] * len(labels)
        return torch.zeros(3, 8, 8, dtype=torch.uint8), target(
            boxes, labels=labels or tensor([]).long().tolist()
        )


def test_repeated_items_are_transformed_each_for_itself():
    dataset = RepeatDataset(dataset=ShapesDataset(num_images=3, size=(48, 64)), times=4)
    assert len(dataset) == 12
    assert dataset.keys == dataset.dataset.keys * 4
    assert torch.equal(dataset[1][0], dataset[7][0])
    (batch,) = build_loader(dataset, transforms=[RandomCrop(size=(30, 30))], batch_size=12)
    assert sorted(one.image_id for one in batch.targets) == list(range(12))
    copies = [
        image
        for image, one in zip(batch.images, batch.targets, strict=True)
        if one.image_id % 3 == 1
    ]
    assert len({tuple(image.flatten()[:50].tolist()) for image in copies}) == 4


def test_repeat_factors_by_hand():
    # of 16 images 16 show class 0, four class 1, one class 2: at 1, sqrt(16 / 4) and sqrt(16 / 1)
    labels = [[0]] * 11 + [[0, 1], [1, 0, 1], [0, 1], [1, 0, 2], [0]]
    assert repeat_factors(Known(labels), 1.0) == [1.0] * 11 + [2, 2, 2, 4, 1]
    # at half of the images: 1, sqrt(8 / 4) and sqrt(8 / 1)
    expected = [1.0] * 11 + [2**0.5, 2**0.5, 2**0.5, 8**0.5, 1]
    assert repeat_factors(Known(labels), 0.5) == pytest.approx(expected)


def test_whole_factors_are_exact():
    labels = [[0]] * 11 + [[0, 1], [1, 0, 1], [0, 1], [1, 0, 2], [0]]
    for seed in range(3):
        dataset = ClassBalancedDataset(dataset=Known(labels), threshold=1.0, seed=seed)
        counts = [dataset.indices.count(index) for index in range(16)]
        assert counts == [1] * 11 + [2, 2, 2, 4, 1]
        assert dataset.indices == sorted(dataset.indices)
    assert dataset[len(dataset) - 1][1].image_id == len(dataset) - 1


def test_parts_of_factors_are_drawn():
    labels = [[0]] * 11 + [[0, 1], [1, 0, 1], [0, 1], [1, 0, 2], [0]]
    counts = []
    for seed in range(400):
        dataset = ClassBalancedDataset(dataset=Known(labels), threshold=0.5, seed=seed)
        counts.append(dataset.indices.count(11))
    assert set(counts) == {1, 2}
    assert sum(counts) / 400 == pytest.approx(math.sqrt(2), abs=0.08)
    again = ClassBalancedDataset(dataset=Known(labels), threshold=0.5, seed=399)
    assert again.indices == dataset.indices


def test_images_without_objects_come_once():
    assert repeat_factors(Known([[], [0], [], [0]]), 1.0) == [1, math.sqrt(2), 1, math.sqrt(2)]


def test_labels_are_known_without_reading_images(tmp_path):
    places = coco(tmp_path, [(1, 1, 1, 9, 9), (2, 1, 1, 9, 9)], images=4)
    whole = CocoDataset(**places)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    joined = ConcatDataset(datasets=[whole.subset([2, 1]), whole])
    assert [joined.labels_of(i) for i in range(6)] == [set(), {1}, {1}, {1}, set(), set()]
    assert len(ClassBalancedDataset(dataset=joined, threshold=1.0)) >= 6


def test_labels_of_classifiers():
    assert repeat_factors(Labelled(), 1.0) == pytest.approx([math.sqrt(3)] * 6)


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_wrong_thresholds(threshold):
    with pytest.raises(ConfigError, match="threshold wants a number above 0 and at most 1, got"):
        ClassBalancedDataset(dataset=Known([[0]]), threshold=threshold)


def test_wrong_times():
    with pytest.raises(ConfigError, match="times wants a number of at least 1, got 0"):
        RepeatDataset(dataset=Known([[0]]), times=0)
