"""Training that learns widths: exact resume, and the subnet that it leaves."""

import pytest
import torch

from razorlite.core.errors import ConfigError
from razorlite.cost import tabulate
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_config
from razorlite.recipes.experiment import read
from razorlite.space import Subnet
from tests.recipes.own_steps import stop_and_resume
from tests.recipes.runs import detector, last, split, write

LEARNT = {"type": "MarkovStep", "budget": "60%", "random_paths": 1, "start": 0.2}
TRAIN = {
    "max_steps": 6,
    "optimizer": {"type": "AdamW", "lr": 1e-2},
    "param_options": {"patterns": {"step.*chains.*": {"decay_mult": 0.0}}},
    "save_every": 1,
    "eval_every": 100,
}
FIRST = {"student": "bbox_head.conv_cls", "loss": {"type": "SigmoidKL"}}


def config(**more):
    tree = detector({"train": TRAIN, "step": [{"type": "DistilledStep"}, LEARNT]})
    backbone = {"type": "ResNet", "depth": 18, "out_indices": [0]}
    tree["model"]["backbone"] = backbone
    tree["model"]["neck"] |= {"in_channels": [64], "num_outs": 1}
    tree["model"]["bbox_head"]["strides"] = [4]
    tree["mutator"] = {"type": "ChannelWidths", "shares": [0.5]}
    tree["distiller"] = {"teacher": "largest_path", "pairs": [FIRST]}
    tree["data"] = {"train": split(8, 0), "val": split(2, 1)}
    return {**tree, **more}


@pytest.mark.slow
def test_the_budget_is_checked_before_work():
    tree = config(step=[{"type": "DistilledStep"}, {**LEARNT, "budget": "1%"}])
    with pytest.raises(ConfigError, match=r"MarkovStep.budget wants macs from .* got"):
        check_config(tree)


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_one_and_leaves_a_subnet_within_the_budget(tmp_path):
    stopping = {"type": "tests.recipes.own_steps.LearntFactor", "start": 1.0}
    file = write(config(step=[stopping, {"type": "DistilledStep"}, LEARNT]), tmp_path)
    stop_and_resume(file, tmp_path)
    chosen = tmp_path / "run" / "subnet.yaml"
    subnet = Subnet.load(chosen)
    assert subnet.choices == Subnet.load(tmp_path / "whole" / "subnet.yaml").choices
    space = build(read(file)[1]).space
    costs = tabulate(space, (64, 64))
    assert subnet.cost == costs(subnet)
    assert subnet.cost["macs"] <= 0.6 * costs.bounds()["macs"][1]
    chains = last(tmp_path / "run")["step"]["base"]["base"]["chains"]
    assert any(not torch.equal(x, torch.zeros_like(x)) for x in chains.values())
    alone = build(read(file, {"step": None, "distiller": None})[1], chosen).model
    assert alone.backbone.layer1[0].conv1.out_channels == next(
        value for name, value in subnet.choices.items() if "layer1.0.conv1" in name
    )
