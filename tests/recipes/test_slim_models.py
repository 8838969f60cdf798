"""A module of one's own comes back slim, in another process and after several prunings."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import razorlite
from razorlite.core.errors import SubnetError
from razorlite.prune import Budget, Channels, Pruner, compose

SHAPE = (16, 16)
SOURCE = """
import sys, torch, razorlite
from tests.recipes.test_slim_models import Own, SHAPE, images
torch.manual_seed(5)
slim = razorlite.load_slim(Own(), sys.argv[1], sys.argv[2], example=SHAPE).eval()
torch.save(slim(images()), sys.argv[3])
"""


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.left = nn.Conv2d(32, 48, 3, padding=1)
        self.right = nn.Conv2d(32, 48, 1)
        self.last = nn.Linear(48, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.last(torch.relu(self.left(x) + self.right(x)).mean((2, 3)))


def images():
    return torch.rand(2, 3, *SHAPE, generator=torch.Generator().manual_seed(1))


def pruned(model, budget="60%"):
    channels = Channels(model, SHAPE)
    subnet = Pruner(budget=Budget(macs=budget), round_to=1).plan(channels)
    return channels.slim(subnet).eval(), subnet


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return Own().eval()


@pytest.mark.slow
def test_a_fresh_process_computes_the_same(whole, tmp_path):
    slim, subnet = pruned(whole)
    nn.init.normal_(slim.last.weight)  # as if it had been fine-tuned
    subnet.save(tmp_path / "subnet.yaml")
    torch.save(slim.state_dict(), tmp_path / "slim.pt")
    files = [str(tmp_path / name) for name in ("subnet.yaml", "slim.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", SOURCE, *files], check=True)
    assert torch.equal(torch.load(files[-1]), slim(images()))


def test_without_weights_the_whole_models_are_cut(whole):
    slim, subnet = pruned(whole)
    again = razorlite.load_slim(whole, subnet, example=SHAPE).eval()
    assert torch.equal(again(images()), slim(images()))


def test_pruned_three_times(whole):
    models, subnets = [whole], []
    for _ in range(3):
        slim, subnet = pruned(models[-1], "70%")
        models.append(slim)
        subnets.append(subnet)
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    one = compose(compose(subnets[0], subnets[1]), subnets[2])
    for given in (subnets, one):
        torch.manual_seed(7)
        state = models[-1].state_dict()
        again = razorlite.load_slim(Own(), given, state, example=SHAPE).eval()
        assert torch.equal(again(images()), models[-1](images()))


def test_weights_of_the_whole_model_are_refused(whole):
    _, subnet = pruned(whole)
    with pytest.raises(SubnetError, match="not of the model that the subnet gives"):
        razorlite.load_slim(whole, subnet, whole.state_dict(), example=SHAPE)
