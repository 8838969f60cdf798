"""What a `train` block asks for in vain is refused or told before work."""

import pytest

from razorlite.core.errors import ConfigError
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.experiment import read
from razorlite.recipes.training_check import check_evaluations
from tests.recipes.runs import detector, split

SGD = {"optimizer": {"type": "SGD", "lr": 0.1}}
BEFORE = {"train": {"max_steps": 9, **SGD, "best_metric": "AP"}, "step": {"type": "SparseStep"}}


def experiment(train, data, **more):
    tree = detector({"train": {"max_steps": 9, **SGD, **train}, "data": data, **more})
    return read(tree)[1]


@pytest.mark.parametrize(
    ("train", "more", "key"),
    [
        ({"eval_every": 3, "patience": 2}, {}, "train.eval_every"),
        ({"best_metric": "AP"}, {}, "train.best_metric"),
        ({}, {"prune": {"budget": "50%", "before": BEFORE}}, "prune.before.train.best_metric"),
    ],
)
def test_evaluations_want_images(train, more, key):
    one = experiment(train, {"train": split(8, 0)}, mutator=None, **more)
    with pytest.raises(ConfigError, match=rf"is of evaluations on data.val.*{key}=null") as caught:
        check_evaluations(one)
    assert caught.value.key == key


def test_evaluations_on_images_that_are_there_pass():
    train, val = split(8, 0), split(4, 1)
    check_evaluations(experiment({}, {"train": train}, mutator=None))  # none are asked for
    check_evaluations(experiment({"eval_every": 3}, {"train": train, "val": val}, mutator=None))
    check_evaluations(experiment({"eval_every": 3}, {"train": train}))  # some are held out


def test_the_check_before_work_refuses_evaluations_without_images():
    data = {"train": split(8, 0), "search": split(4, 1)}  # which training is not watched on
    tree = detector({"train": {"max_steps": 9, **SGD, "eval_every": 3}, "data": data})
    with pytest.raises(ConfigError, match=r"train.eval_every: is of evaluations on data.val"):
        check_before_work(*read(tree))
