"""Other transforms in the last epochs: what a configuration says, and what the loader does."""

import pytest
import torch

from razorlite.core.errors import ConfigError
from razorlite.recipes.experiment import read
from razorlite.recipes.splits import Splits
from tests.recipes.runs import detector, split

LAST = {"epochs": 2, "transforms": [{"type": "Resize", "size": [32, 32]}]}
TRAIN = {"max_epochs": 5, "optimizer": {"type": "SGD", "lr": 0.1}}


def config(train=TRAIN, last=LAST):
    parts = {"train": split(8, 0, last_epochs=last), "val": split(4, 1)}
    return detector({"train": train, "data": parts, "mutator": None})


def test_the_last_epochs_look_different():
    loader = Splits(read(config())[1], torch.device("cpu")).train_loader()
    sizes = [{target.size for batch in loader for target in batch.targets} for _ in range(5)]
    assert sizes == [{(56, 56)}] * 3 + [{(32, 32)}] * 2


@pytest.mark.parametrize(
    ("train", "last", "message"),
    [
        ({"max_epochs": None, "max_steps": 9}, {}, "counts back from train.max_epochs"),
        ({"max_epochs": 2}, {}, "wants less than train.max_epochs, got 2 of 2"),
        ({}, {"epochs": 0}, "epochs: wants a whole number of at least 1, got 0"),
        ({}, {"transforms": 3}, "data.train.last_epochs.transforms: "),
        ({}, {"transform": []}, "did you mean 'transforms'"),
    ],
)
def test_wrong_blocks_are_told_in_one_line(train, last, message):
    with pytest.raises(ConfigError) as caught:
        read(config({**TRAIN, **train}, {**LAST, **last}))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_training_before_pruning_is_named():
    tree = config()
    train = {**TRAIN, "max_epochs": None, "max_steps": 9}
    tree["prune"] = {"budget": "50%", "before": {"train": train, "step": {"type": "SparseStep"}}}
    with pytest.raises(ConfigError, match=r"from prune\.before\.train\.max_epochs, which is not"):
        read(tree)


def test_only_training_has_last_epochs():
    tree = config()
    tree["data"]["val"]["last_epochs"] = LAST
    with pytest.raises(ConfigError, match=r"data\.val\.last_epochs: unknown key"):
        read(tree)
