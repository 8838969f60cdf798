"""Importance of channels of torchvision's nets, as Torch-Pruning 1.6.0 gave it.

Weights are drawn from their names; published_importance.npz holds float32 values as
NET/ROOT/KIND for five groups each.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from razorlite.prune import Channels, L1Importance, L2Importance, TaylorImportance
from razorlite.structures import Batch
from razorlite.trace import ChannelGroup
from tests.models.golden import fill

SHAPE = (2, 3, 96, 96)
# depth-wise roots are not counted there: the norms behind them are the first that are
FIRST = {f"features.{i}.conv.1.0": f"features.{i}.conv.1.1" for i in (16, 17)}
pytestmark = pytest.mark.slow


@cache
def values(net):
    with np.load(Path(__file__).with_name("published_importance.npz")) as archive:
        return {key: archive[key] for key in archive.files if key.startswith(net)}


@cache
def groups_of(net):
    """Return a net in float64, and its groups by the layers that make them."""
    model = getattr(torchvision.models, net)(weights=None)
    fill(model, {})
    groups = Channels(model, SHAPE[2:]).graph.prunable
    roots = {m.module: g for g in groups for m in g.members if m.side == "out"}
    return model.double().eval(), roots


def step(model, batch, backward):
    probe = np.random.default_rng(21).standard_normal((2, 1000)).astype(np.float32)
    backward((model(batch.inputs) * torch.from_numpy(probe).double()).mean())
    return {}


def taylor(net, joint):
    model, roots = groups_of(net)
    importance = TaylorImportance(scale="none", joint=joint, norms=False, depthwise=False)
    image = np.random.default_rng(20).standard_normal(SHAPE).astype(np.float32)
    model.zero_grad()
    groups = list({group.name: group for group in roots.values()}.values())
    importance.accumulate(model, groups, Batch(torch.from_numpy(image).double()), step=step)
    return importance


def check(net, kind, importance, tolerance, square=False, root_alone=False):
    model, roots = groups_of(net)
    entries = {k.split("/")[1]: x for k, x in values(net).items() if k.endswith(f"/{kind}")}
    assert len(entries) == 5
    for root, expected in entries.items():
        group = roots[root]
        if root_alone:
            first = FIRST.get(root, root)
            own = next(m for m in group.members if m.module == first and m.side == "out")
            group = ChannelGroup(group.name, group.size, (own,))
        found = importance(model, [group])[group.name].numpy()
        found = found**2 if square else found
        assert np.abs(found - expected).max() <= tolerance * expected.max(), root


@pytest.mark.parametrize("net", ["resnet18", "mobilenet_v2"])
def test_weights(net):
    both = L2Importance(scale="none", sides="both", norms=True, depthwise=False)
    check(net, "l2_sum_of_squares", both, 1e-5, square=True)
    check(net, "l1_first", L1Importance(scale="none", norms=True), 1e-5, root_alone=True)


class Squares(L2Importance):
    def finish(self, total):
        return total


@pytest.mark.parametrize("net", ["resnet18", "mobilenet_v2"])
def test_weights_on_a_common_scale(net):
    check(net, "l2_default", Squares(sides="both", norms=True, depthwise=False), 1e-5)


@pytest.mark.parametrize("net", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize(("kind", "joint"), [("sum", False), ("multivariable_sum", True)])
def test_gradients(net, kind, joint):
    check(net, f"taylor_{kind}", taylor(net, joint), 1e-4)
