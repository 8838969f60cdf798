"""Every command computes as the `train` block says."""

import numpy as np
import pytest
import torch

from razorlite.models import layers
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.recipes.scored import scored_with
from razorlite.recipes.searching import supernet_score
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import build_runner, describe
from razorlite.search import SearchConfig
from tests.engine.toys import assert_same
from tests.recipes.runs import detector, split

TRAIN = {"max_steps": 1, "optimizer": {"type": "SGD", "lr": 1e-3}}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@pytest.fixture
def maps(monkeypatch):
    """What comes out of the neck's convolutions: (in training?, type, layout)."""
    seen = set()
    forward = layers.ConvModule.forward

    def watched(self, x):
        result = forward(self, x)
        named = {n for n, kind in LAYOUTS.items() if result.is_contiguous(memory_format=kind)}
        if len(x) > 1:  # costs are counted on one image
            seen.add((self.training, result.dtype, *sorted(named)))
        return result

    monkeypatch.setattr(layers.ConvModule, "forward", watched)
    return seen


@pytest.mark.parametrize(
    ("amp", "memory_format", "dtype"),
    [("bf16", "channels_last", torch.bfloat16), (None, "contiguous", torch.float32)],
)
def test_training_evaluation_and_search_compute_alike(amp, memory_format, dtype, maps, tmp_path):
    data = {"train": split(6, 0, 2), "val": split(2, 1, 2)}
    train = {**TRAIN, "amp": amp, "memory_format": memory_format}
    config = detector({"data": data, "train": train})
    merged, experiment = read(config)
    built, splits = build(experiment), Splits(experiment, torch.device("cpu"))
    card = describe(merged, experiment, built, splits.classes)
    build_runner(experiment, built, splits, tmp_path, card).run()  # and evaluates
    assert maps == {(mode, dtype, memory_format) for mode in (True, False)}
    maps.clear()
    score = supernet_score(built.space, splits, SearchConfig(recalibrate_batches=1))
    score(built.space.random(np.random.default_rng(0)))
    assert {seen[1:] for seen in maps} == {(dtype, memory_format)}


def test_without_calibration_a_search_scores_with_the_checkpoints_statistics():
    data = {"train": split(2, 0, 2), "val": split(1, 1, 1)}
    search = {"recalibrate_batches": 0, "constraints": {"macs": "90%"}}
    config = detector({"data": data, "search": search})
    experiment = read(config)[1]
    built, splits = build(experiment), Splits(experiment, torch.device("cpu"))
    score = supernet_score(built.space, splits, experiment.search)
    before = {k: v.clone() for k, v in built.model.state_dict().items()}
    score(built.space.random(np.random.default_rng(0)))
    assert_same(before, built.model.state_dict())


def test_a_lower_precision_is_part_of_what_scores_depend_on():
    def facts(train):
        merged, experiment = read(detector(train))
        splits = Splits(experiment, torch.device("cpu"))
        return scored_with(merged, experiment, splits, torch.nn.Identity())

    plain = facts({})
    assert plain == facts({"train": TRAIN})
    assert facts({"train": {**TRAIN, "amp": "bf16"}}) == {**plain, "amp": "bfloat16"}
