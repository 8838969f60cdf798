"""Whatever a model does beside its layers: it prunes right, or its channels stay and are named."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from razorlite.core.errors import BudgetError, ExportError
from razorlite.models.detectors.single_stage import FCOS
from razorlite.prune import Budget, Pruner, apply
from razorlite.space.subnet import Subnet
from razorlite.trace import channel_graph
from tests.prune.odd_modules import LEFT, PRUNED, pair
from tests.trace.zoo import conv, network, stirred

SHAPE = (8, 8)


def dropped_channels_zeroed(model, subnet):
    """A copy with hooks behind its layers, and its own parameters, that give zero for what goes."""
    zeroed = copy.deepcopy(model)
    for group in channel_graph(model, SHAPE).prunable:
        kept = torch.zeros(group.size + 1, dtype=torch.bool)
        kept[[*subnet.channels[group.name], -1]] = True
        for member in group.members:
            if member.counted:
                continue
            if member.bare:
                (name, dim), dropped = member.tensors[0], ~kept[list(member.index)]
                tensor = getattr(zeroed.get_submodule(member.module), name)
                tensor.data.movedim(dim, 0)[dropped] = 0
            elif member.side == "out":
                stays = kept[list(member.index)]
                zeroed.get_submodule(member.module).register_forward_hook(_zero(stays))
    return zeroed


def _zero(stays):
    def hook(module, inputs, out):
        dim = -1 if isinstance(module, nn.Linear) else 1
        return out * stays.reshape([-1 if d == dim % out.dim() else 1 for d in range(out.dim())])

    return hook


def outputs(model, training):
    model = copy.deepcopy(model).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout2d | nn.RReLU):
            module.eval()
    images = torch.randn(2, 3, *SHAPE, dtype=torch.double, generator=torch.manual_seed(1))
    with torch.no_grad():
        return tree_leaves(model(images))


@pytest.mark.parametrize("what", PRUNED)
def test_prunes_right(what):
    torch.manual_seed(0)
    model = stirred(PRUNED[what]().eval())
    plan = Pruner(budget=Budget(params="80%"), round_to=1).plan(model, SHAPE)
    assert any(len(kept) < 16 for kept in plan.channels.values())
    slim, zeroed = apply(model, plan, shape=SHAPE), dropped_channels_zeroed(model, plan)
    trains = what not in ("targets in training", "dropout")
    for training in (False, True) if trains else (False,):
        expected, given = outputs(zeroed, training), outputs(slim, training)
        assert len(expected) == len(given)
        for a, b in zip(expected, given, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("what", LEFT)
def test_channels_stay_and_are_named(what, caplog):
    torch.manual_seed(0)
    model = LEFT[what]().eval()
    with pytest.raises(BudgetError) as caught:
        Pruner(budget=Budget(params="80%"), round_to=1).plan(model, SHAPE)
    names = ["s.0"] if what == "hook on a block" else ["a", "b", "m"]
    reasons = [f"({name}: " for name in names] + [f"; {name}: " for name in names]
    left = any(f"pruning leaves the channels of {name} alone" in caplog.text for name in names)
    assert left or any(reason in str(caught.value) for reason in reasons)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size of a layer", "b gives something else in evaluation mode"),
        ("losses with a head of their own", "aux fails in its losses"),
    ],
)
def test_subnet_that_changes_outputs_is_refused(what, message):
    torch.manual_seed(0)
    model = LEFT[what]().eval()
    with pytest.raises(ExportError, match=message) as caught:
        apply(model, Subnet(channels={"a": (0, 2, 5)}), shape=SHAPE)
    assert "name the module that makes the channels in `ignore`" in str(caught.value)


def test_forward_set_on_the_model_is_refused():
    model = nn.Sequential(conv(3, 16), conv(16, 4))
    model.forward = lambda x: x
    with pytest.raises(ExportError, match="a forward of its own"):
        Pruner(budget=Budget(params="80%")).plan(model, SHAPE)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_model_that_cannot_be_copied_is_refused():
    model = nn.Sequential(nn.utils.weight_norm(conv(3, 16)), conv(16, 4))
    with pytest.raises(ExportError, match="cannot be copied: "):
        Pruner(budget=Budget(params="80%")).plan(model, SHAPE)


def test_other_groups_shrink_in_the_place_of_one_that_cannot():
    torch.manual_seed(0)
    model = pair(lambda m, x: m.b(m.c(m.a(x) / m.a.out_channels)), c=conv(16, 16))
    channels = Pruner(budget=Budget(macs="70%"), round_to=1).plan(model, SHAPE).channels
    assert len(channels["a"]) == 16
    assert len(channels["c"]) < 16


def test_rounding_that_grows_in_training_is_no_difference(caplog):
    def swings(m, x):
        rounding = 1 + 1e-15 * m.a.out_channels
        return torch.sin((1e16 if m.training else 1.0) * rounding * m.b(m.a(x)))

    torch.manual_seed(0)
    assert len(Pruner(budget=Budget(params="80%")).plan(pair(swings), SHAPE).channels["a"]) < 16
    assert "rounding grows from layer to layer in training mode" in caplog.text


def test_check_leaves_statistics_random_state_and_mode_alone():
    model = network("resnet18").train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    apply(model, Subnet(channels={"layer1.0.conv1": (0, 5)}), shape=(64, 64))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_losses_are_compared():
    """A detector whose losses read a size of a layer, which `forward` does not."""

    class Odd(FCOS):
        def loss(self, images, targets):
            losses = super().loss(images, targets)
            return {k: v * self.neck.fpn_convs[0].conv.in_channels for k, v in losses.items()}

    parts = network("fcos_resnet18")
    model = Odd(backbone=parts.backbone, neck=parts.neck, bbox_head=parts.bbox_head)
    subnet = Subnet(channels={"neck.lateral_convs.0.conv": tuple(range(32))})
    with pytest.raises(ExportError, match="something else in its losses"):
        apply(model, subnet, shape=(64, 64))
