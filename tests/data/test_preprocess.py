"""Preprocessing: from one model's input to another's, exactly."""

import pytest
import torch

from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess, Resize, ShapesDataset, build_loader
from razorlite.data.preprocess import Renormalise

IMAGENET = Preprocess()
CAFFE = Preprocess(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), channels="bgr")
RAW = Preprocess(mean=(0, 0, 0), std=(255, 255, 255))
TINY = Preprocess(mean=(0.4, 128.5, 200.1), std=(0.017, 0.02, 1000.0))


def batch(preprocess):
    loader = build_loader(
        ShapesDataset(num_images=4, size=(48, 64), seed=1),
        transforms=[Resize(short=[20, 40])],
        batch_size=4,
        mean=preprocess.mean,
        std=preprocess.std,
        channels=preprocess.channels,
        pad_multiple=16,
    )
    return next(iter(loader))


@pytest.mark.parametrize("own", [IMAGENET, CAFFE, RAW, TINY])
@pytest.mark.parametrize("other", [IMAGENET, CAFFE, RAW, TINY])
def test_equal_to_the_bit_with_what_the_other_loader_gives(own, other):
    given = batch(own)
    sizes = [target.size for target in given.targets]
    made = Renormalise(own, other, "cpu")(given.images, sizes)
    assert torch.equal(made, batch(other).images)
    assert torch.equal(given.images, batch(own).images)  # the student's own are left alone


def test_same_pixels_are_told_from_rounded_numbers():
    rounded = Preprocess(mean=(123.68, 116.28, 103.53), pad_multiple=64)
    assert IMAGENET.same_pixels(rounded)
    assert not IMAGENET.same_pixels(Preprocess(mean=(123.68, 116.78, 103.94)))
    assert not IMAGENET.same_pixels(Preprocess(channels="bgr"))
    assert not IMAGENET.same_pixels(CAFFE)


def test_plain_values_and_back():
    assert Preprocess.from_dict(CAFFE.to_dict()) == CAFFE
    assert Preprocess.from_dict({**CAFFE.to_dict(), "from_the_future": 3}) == CAFFE


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (1, 2)},
        {"std": (1, 0, 1)},
        {"std": (1, float("nan"), 1)},
        {"channels": "grey"},
        {"pad_multiple": 0},
        {"mean": ("a", "b", "c")},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError):
        Preprocess.from_dict(wrong)
