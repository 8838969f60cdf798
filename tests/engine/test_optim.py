"""Parameter groups by pattern, and optimisers that see only active parameters."""

import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.engine.optim import (
    OPTIMIZERS,
    ActiveGroups,
    ParamOptions,
    ParamRule,
    build_optimizer,
    build_param_groups,
    load_optimizer,
    parameters_of_step,
)
from razorlite.engine.steps import Step


def network():
    """Two blocks of convolution and batch norm."""
    blocks = [
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2)),
    ]
    return nn.Sequential(*blocks)


def settings_of(model, options=None, **kwargs):
    """Return (learning rate, decay) by parameter name."""
    make = kwargs.pop("make", lambda g: torch.optim.AdamW(g, lr=1.0, weight_decay=0.5))
    optimizer = build_optimizer(make, model, options=options, **kwargs)
    return {
        name: (group["lr"], group.get("weight_decay"))
        for group in optimizer.param_groups
        for name in group["names"]
    }


def test_norms_and_biases_do_not_decay():
    assert settings_of(network()) == {
        "0.0.weight": (1.0, 0.5),
        "0.0.bias": (1.0, 0.0),
        "0.1.weight": (1.0, 0.0),
        "0.1.bias": (1.0, 0.0),
        "1.0.weight": (1.0, 0.5),
        "1.0.bias": (1.0, 0.0),
        "1.1.weight": (1.0, 0.0),
        "1.1.bias": (1.0, 0.0),
    }


def test_norms_and_biases_decay_as_asked_for():
    options = ParamOptions(norm_decay_mult=2.0, bias_decay_mult=1.0)
    found = settings_of(network(), options)
    assert found["0.1.bias"] == (1.0, 1.0)
    assert found["0.0.bias"] == (1.0, 0.5)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("1.0.weight", {"1.0.weight"}),
        ("1", {"1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"}),
        ("1.0", {"1.0.weight", "1.0.bias"}),
        ("*.0.bias", {"0.0.bias", "1.0.bias"}),
        ("re:^0.*weight$", {"0.0.weight", "0.1.weight"}),
    ],
)
def test_patterns(pattern, names):
    options = ParamOptions(patterns={pattern: ParamRule(lr_mult=0.1)})
    found = settings_of(network(), options)
    assert {name for name, (lr, _) in found.items() if lr == 0.1} == names


def test_longest_pattern_counts():
    patterns = {"0": ParamRule(lr_mult=0.1), "0.0": ParamRule(lr_mult=0.2, decay_mult=3.0)}
    found = settings_of(network(), ParamOptions(patterns=patterns))
    assert found["0.1.weight"] == (0.1, 0.0)
    assert found["0.0.weight"] == (0.2, 1.5)
    assert found["0.0.bias"] == (0.2, 1.5)  # a rule's decay stands in place of the biases' own


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("0.0.weigth", "'0.0.weigth' matches no parameter; did you mean '0.0.weight'"),
        ("zzz", "matches no parameter; there are 0.0.weight, 0.0.bias, 0.1.weight"),
        ("re:(", "is no regular expression"),
    ],
)
def test_pattern_faults(pattern, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_param_groups(network(), ParamOptions(patterns={pattern: ParamRule()}))
    assert "\n" not in str(caught.value)


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    assert set(settings_of(model)) == {"1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"}


def test_parameters_of_a_step_can_be_named():
    class LinearStep(nn.Linear, Step):
        pass

    assert parameters_of_step(Step()) == {}
    extra = parameters_of_step(LinearStep(1, 1))
    options = ParamOptions(patterns={"step": ParamRule(lr_mult=5.0)})
    found = settings_of(network(), options, extra=extra)
    assert found["step.weight"] == (5.0, 0.5)
    assert found["step.bias"] == (5.0, 0.0)


def test_every_optimizer_of_torch_takes_the_groups():
    for name, kind in OPTIMIZERS.items():
        if name not in ("SparseAdam", "Muon"):  # sparse gradients only, matrices only
            model = nn.Linear(2, 1)
            optimizer = build_optimizer(lambda g, kind=kind: kind(g, lr=0.01), model)
            before = model.weight.clone()
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            assert not torch.equal(model.weight, before), name


class TestActiveGroups:
    def test_the_optimizer_walks_active_parameters_alone(self):
        seen = []

        class Noting(torch.optim.SGD):
            def step(self, closure=None):
                seen.extend(p for group in self.param_groups for p in group["params"])
                return super().step(closure)

        model = network()
        optimizer = build_optimizer(lambda g: Noting(g, lr=0.1), model)
        whole = [list(group["params"]) for group in optimizer.param_groups]
        model[1](torch.ones(1, 2, 3, 3)).sum().backward()
        with ActiveGroups(optimizer).only(model[1].parameters()):
            optimizer.step()
        assert {id(p) for p in seen} == {id(p) for p in model[1].parameters()}
        after = [group["params"] for group in optimizer.param_groups]
        assert [[id(p) for p in g] for g in after] == [[id(p) for p in g] for g in whole]

    def test_groups_come_back_after_an_error(self):
        optimizer = build_optimizer(lambda g: torch.optim.SGD(g, lr=0.1), network())
        with pytest.raises(ZeroDivisionError), ActiveGroups(optimizer).only([]):
            raise ZeroDivisionError
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 8

    def test_momentum_of_a_passive_parameter_rests(self):
        model = network()
        optimizer = build_optimizer(lambda g: torch.optim.AdamW(g, lr=0.1), model)
        model(torch.ones(2, 1, 3, 3)).sum().backward()
        groups = ActiveGroups(optimizer)
        with groups.only(model.parameters()):
            optimizer.step()
        model.zero_grad()
        before = [p.clone() for p in model[0].parameters()]
        model[1](torch.ones(1, 2, 3, 3)).sum().backward()
        with groups.only(model[1].parameters()):
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(before, model[0].parameters(), strict=True))
        assert optimizer.state[model[0][0].weight]["step"] == 1
        assert optimizer.state[model[1][0].weight]["step"] == 2


class TestLoadOptimizer:
    def trained(self, model, options=None):
        optimizer = build_optimizer(
            lambda g: torch.optim.AdamW(g, lr=0.1), model, options=options or ParamOptions()
        )
        model(torch.ones(2, 1, 3, 3)).square().sum().backward()
        optimizer.step()
        return optimizer

    def test_state_moves_by_name_where_groups_have_changed(self):
        model = network()
        first = self.trained(model)
        options = ParamOptions(patterns={"1": ParamRule(lr_mult=0.1)})
        second = build_optimizer(lambda g: torch.optim.AdamW(g, lr=0.3), model, options=options)
        load_optimizer(second, first.state_dict())
        for parameter in model.parameters():
            assert torch.equal(
                second.state[parameter]["exp_avg"], first.state[parameter]["exp_avg"]
            )
        assert {round(group["lr"], 6) for group in second.param_groups} == {0.3, 0.03}

    def test_state_of_other_parameters_is_refused(self):
        state = self.trained(network()).state_dict()
        other = build_optimizer(lambda g: torch.optim.AdamW(g), nn.Linear(2, 1))
        with pytest.raises(CheckpointError, match="trains other parameters"):
            load_optimizer(other, state)
