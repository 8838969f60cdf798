"""Batches whose inputs are a tensor or a mapping, and what models are run on without data."""

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.structures import (
    Batch,
    Detections,
    Frame,
    Target,
    example_inputs,
    images_of,
    map_images,
    with_noise,
)


def target(**more):
    return Target(torch.zeros(0, 4), torch.zeros(0).long(), **more)


def test_a_batch_of_images_is_whole_unless_something_is_known():
    images = torch.zeros(2, 3, 4, 6)
    assert Batch(images).frames() == [Frame((4, 6), (4, 6))] * 2
    assert Batch(images, sizes=((4, 5), (3, 6))).image_sizes() == [(4, 5), (3, 6)]
    known = Batch(images, [target(size=(3, 5), original_size=(9, 15)), target()])
    assert known.frames() == [Frame((3, 5), (9, 15)), Frame((4, 6), (4, 6))]
    assert known.image_sizes() == [(3, 5), (4, 6)]


def test_a_batch_of_a_mapping_moves_as_one():
    inputs = {"matrices": torch.zeros(2, 6, 4, 4), "images": torch.zeros(2, 6, 3, 8, 10)}
    batch = Batch(inputs, tensor([1, 2]))
    assert len(batch) == 2
    assert batch.images.shape == (2, 6, 3, 8, 10)
    assert batch.image_sizes() == [(8, 10)] * 2
    moved = batch.to("meta")
    assert all(value.is_meta for value in [*moved.inputs.values(), moved.targets])
    assert Batch(inputs).to("meta").targets is None


def test_images_of_a_mapping_are_told_by_their_names():
    inputs = {"points": torch.ones(1), "images_left": torch.ones(2), "images": torch.ones(3)}
    changed = map_images(lambda value: value + 1, inputs)
    assert {name: float(value[0]) for name, value in changed.items()} == {
        "points": 1, "images_left": 2, "images": 2,
    }  # fmt: skip
    assert images_of(inputs) is inputs["images_left"]
    assert images_of({"points": torch.ones(1)}) is None
    with pytest.raises(AttributeError, match="no images among its inputs"):
        _ = Batch({"points": torch.ones(1, 3)}).images


class Lidar(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def example(self, shape):
        return {"points": torch.zeros(1, 5, 3), "pose": torch.eye(4)[None], "ids": tensor([[7]])}


def test_examples_are_the_models_own_in_its_precision():
    inputs = example_inputs(Lidar(), (8, 8), count=3)
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "points": (3, 5, 3), "pose": (3, 4, 4), "ids": (3, 1),
    }  # fmt: skip
    assert inputs["pose"].dtype == torch.float64
    assert inputs["ids"].tolist() == [[7]] * 3
    assert all(value.is_meta for value in example_inputs(Lidar(), (8, 8), device="meta").values())
    assert not any(
        value.is_meta for value in example_inputs(Lidar().to("meta"), (8, 8), device="cpu").values()
    )


def test_any_other_model_takes_images():
    images = example_inputs(nn.Conv2d(3, 1, 1).half(), (8, 6), count=2)
    assert images.shape == (2, 3, 8, 6)
    assert images.dtype == torch.float16
    assert not images.any()


def test_noise_takes_the_place_of_zeros_alone():
    noisy = with_noise(example_inputs(Lidar(), (8, 8), count=2), torch.Generator().manual_seed(0))
    expected = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    assert_close(noisy["points"], expected.double())
    assert torch.equal(noisy["pose"][1], torch.eye(4).double())
    assert noisy["ids"].tolist() == [[7], [7]]


def test_only_copies_to_an_accelerator_may_still_be_under_way(monkeypatch):
    asked = []
    copy = torch.Tensor.to

    def noted(tensor, device, *args, non_blocking=False, **kwargs):
        asked.append((str(device), non_blocking))
        return copy(tensor, device, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    detections = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    batch = Batch(torch.zeros(1, 3, 4, 4), [detections])
    for record in (detections, batch):
        record.to("cpu")  # read at once: nothing waits for a copy
        assert set(asked) == {("cpu", False)}
        asked.clear()
        record.to("meta")
        assert set(asked) == {("meta", True)}
        asked.clear()
