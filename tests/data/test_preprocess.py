"""Preprocessing: from one model's input to another's, exactly."""

from dataclasses import replace

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
        preprocess=replace(preprocess, pad_multiple=16),
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


RESIZE = {"type": "Resize", "size": [24, 32]}


def test_transforms_travel_as_plain_blocks():
    whole = Preprocess(mean=(1, 2, 3), pad_multiple=16, transforms=(RESIZE,))
    assert Preprocess.from_dict(whole.to_dict()) == whole
    assert whole.to_dict()["transforms"] == [RESIZE]
    assert "transforms" not in Preprocess().to_dict()  # not known is not the same as none
    assert Preprocess.from_dict(Preprocess(transforms=()).to_dict()).transforms == ()


@pytest.mark.parametrize("blocks", [(3,), ({"size": [1, 2]},), ("Resize",)])
def test_transforms_that_are_no_blocks_are_refused(blocks):
    with pytest.raises(ConfigError, match="transforms are blocks"):
        Preprocess(transforms=blocks)


def test_transforms_of_wrong_arguments_are_refused_when_they_are_made():
    with pytest.raises(ConfigError, match="sise"):
        Preprocess(transforms=({"type": "Resize", "sise": 3},)).image_transforms()


def test_loaders_use_the_transforms_of_the_preprocessing():
    dataset = ShapesDataset(num_images=1, size=(48, 64), seed=1)
    rule = Preprocess(transforms=(RESIZE,), pad_multiple=16)
    (by_rule,) = build_loader(dataset, preprocess=rule, training=False)
    (by_hand,) = build_loader(
        dataset,
        transforms=[Resize(size=(24, 32))],
        preprocess=Preprocess(pad_multiple=16),
        training=False,
    )
    assert by_rule.images.shape == (1, 3, 32, 32)
    assert by_rule.image_sizes() == [(24, 32)]
    assert torch.equal(by_rule.images, by_hand.images)
