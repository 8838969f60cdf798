"""Weights of one subnet are not those of another, where their shapes do not tell."""

import pytest

from razorlite import recipes
from razorlite.core.errors import CheckpointError
from razorlite.space import Subnet
from tests.recipes.test_classes import plain


@pytest.fixture(scope="module")
def runs(module_path):
    """A detector trained on whole images, and files of it and of one for halves."""
    config = plain(mutator={"type": "InputScales", "scales": [0.5]})
    whole, half = module_path / "whole.yaml", module_path / "half.yaml"
    Subnet(choices={"image_scale": 1.0}).save(whole)
    Subnet(choices={"image_scale": 0.5}).save(half)
    recipes.train(config, module_path / "run", subnet=whole)
    return config, module_path / "run", whole, half


TOLD = r"trained as a subnet with image_scale 1\.0, and the one given has 0\.5"


def test_weights_are_not_tested_as_another_subnet(runs):
    config, folder, whole, half = runs
    last = folder / "checkpoints/last.pt"
    with pytest.raises(CheckpointError, match=TOLD):
        recipes.test(config, last, subnet=half, as_json=True)
    assert "AP" in recipes.test(config, last, subnet=whole, as_json=True)


def test_a_training_goes_on_with_its_own_subnet_only(runs):
    config, folder, whole, half = runs
    more = {"train.max_steps": 2}
    with pytest.raises(CheckpointError, match=TOLD):
        recipes.train(config, folder, more, subnet=half, resume=True)
    recipes.train(config, folder, more, subnet=whole, resume=True)
