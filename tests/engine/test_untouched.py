"""An evaluation leaves training equal, to the bit, to a run without it."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from razorlite.engine.ema import EmaConfig
from razorlite.engine.hooks import Hook
from razorlite.engine.random_state import seed_everything
from razorlite.engine.untouched import untouched
from tests.engine.toys import Toy, assert_same, make_runner, noisy_step, weights


class Deep(nn.Module):
    """A convolution laid out channels last, batch norm, dropout, a frozen layer and frozen norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.still = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.frozen, self.drop = nn.Conv2d(4, 4, 1), nn.Dropout(0.5)
        self.frozen.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def train(self, mode=True):
        super().train(mode)
        self.still.eval()
        return self

    def loss(self, images, targets):
        maps = images[:, :, None, None].expand(-1, -1, 4, 4)
        found = self.drop(self.still(self.frozen(self.norm(self.conv(maps))))).mean((1, 2, 3))
        return {"loss_fit": (found - targets).pow(2).mean()}


def rough(model):
    """Do to a model all that an evaluation may do, and more."""
    torch.rand(3), np.random.rand(3), random.random()
    for module in model.modules():
        module.training = random.random() < 0.5
    model(torch.rand(4, 3)) if isinstance(model, Toy) else model.train()
    for buffer in model.buffers():
        buffer.add_(1)
    for parameter in model.parameters():
        parameter.requires_grad_(not parameter.requires_grad)
        parameter.grad = torch.ones_like(parameter)
    return {"AP": 0.5}


KINDS = {
    "plain": lambda: Toy(),
    "batch norm": lambda: Toy(norm=True),
    "frozen and dropped": Deep,
}


@pytest.mark.parametrize("ema", [None, EmaConfig(decay=0.5, warmup_steps=2)], ids=["raw", "ema"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_equal_to_the_bit(tmp_path, kind, ema):
    ends = []
    for every in (None, 1, 3):
        seed_everything(1)
        settings = {"model": KINDS[kind](), "step": noisy_step, "ema": ema}
        if every:
            settings |= {"evaluate": rough, "eval_every": every}
        runner = make_runner(tmp_path / str(every), **settings)
        runner.run()
        average = runner.state.ema.state_dict() if ema else {}
        draws = torch.rand(2), random.random(), float(np.random.rand())
        optimizer = runner.state.update.optimizer.state_dict()
        ends.append([weights(runner.state.model), average, optimizer, draws])
    assert_same(ends[1], ends[0])
    assert_same(ends[2], ends[0])


def test_modes_that_a_hook_has_set_stay(tmp_path):
    modes = []

    class Freeze(Hook):
        def before_step(self, run):
            if run.step_number == 2:
                run.model.norm.eval()
            modes.append(run.model.norm.training)

    settings = {"hooks": [Freeze()], "evaluate": lambda model: {"AP": 1.0}, "eval_every": 1}
    make_runner(tmp_path, norm=True, max_steps=4, **settings).run()
    assert modes == [True, True, False, False]


def test_all_comes_back_after_an_error():
    model = Deep()
    before = weights(model)
    strides = [p.stride() for p in model.parameters()]
    expected = [p.requires_grad for p in model.parameters()]
    with pytest.raises(ZeroDivisionError), untouched(model):
        rough(model)["AP"] / 0
    assert_same(weights(model), before)
    assert [p.requires_grad for p in model.parameters()] == expected
    assert [p.stride() for p in model.parameters()] == strides
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert model.norm.training
