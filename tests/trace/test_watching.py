"""One watched run finds what the graph finds, and more where there is no graph."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from razorlite.core.errors import ExportError
from razorlite.trace import channel_graph, channel_groups
from tests.prune.odd_modules import LEFT, PRUNED
from tests.prune.test_slim import MODELS
from tests.trace.zoo import Net, conv, network

SHAPE = (64, 64)


def plain(graph):
    """A graph without the words of its reasons."""
    return replace(graph, groups=tuple(replace(g, fixed=str(bool(g.fixed))) for g in graph.groups))


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "fcos_shufflenet", "rtmdet", "plain_fpn", "spos_mobilenet"]
)
def test_networks_have_the_same_groups_both_ways(name):
    model = network(name)
    graph = channel_graph(model, SHAPE, how="graph")
    assert plain(channel_graph(model, SHAPE, how="run")) == plain(graph)


@pytest.mark.parametrize("what", MODELS)
def test_small_models_have_the_same_groups_both_ways(what):
    model = MODELS[what]().eval()
    graph = channel_graph(model, (8, 8), how="graph")
    assert plain(channel_graph(model, (8, 8), how="run")) == plain(graph)


ODD = {**PRUNED, **LEFT}


@pytest.mark.parametrize("what", ODD)
def test_odd_models_shrink_nowhere_else(what):
    """What the run leaves free, the graph does, too, or the graph cannot be had."""
    model = ODD[what]().eval()
    free = {g.name for g in channel_groups(model, (8, 8), how="run") if not g.fixed}
    assert free <= {g.name for g in channel_groups(model, (8, 8)) if not g.fixed}


class Loop(nn.Module):
    """A list of images of different sizes, a loop over them, a branch on data, results in dicts."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.deep = conv(3, 8, 3), conv(8, 6, 3), conv(6, 6, 3)
        self.head, self.bright = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        results = []
        for image in images:
            x = self.body(self.stem(image[None]).relu())
            for _ in range(image.shape[-1] // 8):
                x = x + self.deep(x).relu()
            if float(image.mean()) > 0.5:
                x = x * 2
            results.append({"score": self.bright(self.head(x.mean((2, 3))).relu())})
        return results


IMAGES = ([torch.rand(3, 8, 8), torch.rand(3, 16, 24)],)


def test_lists_loops_and_branches_are_followed():
    with pytest.raises(ExportError, match="cannot be traced"):
        channel_graph(Loop(), (8, 8), how="graph")
    stem, body, head, last = channel_groups(Loop(), IMAGES)
    assert [(m.module, m.side) for m in stem.members] == [("stem", "out"), ("body", "in")]
    assert [(m.module, m.side) for m in body.members] == [
        ("body", "out"),
        ("deep", "in"),
        ("deep", "out"),
        ("head", "in"),
    ]
    assert (stem.size, body.size, head.size) == (8, 6, 5)
    assert (stem.fixed, body.fixed, head.fixed) == ("", "", "")
    assert last.fixed == "output of the model"


def run_groups(run, shape=(8, 8), **layers):
    groups = channel_groups(Net(run, **layers), shape, how="run")
    return {group.name: group.fixed for group in groups}


def test_reading_of_values_is_named_with_its_line():
    def run(m, x):
        y = m.a(x)
        return m.b(y * 2) if y.sum() > 0 else m.b(y * float(y.max()))

    fixed = run_groups(run, a=conv(3, 4), b=conv(4, 1))
    assert fixed["a"].startswith("mixed over channels by max at test_watching.py:")

    def item(m, x):
        y = m.a(x)
        return m.b(y * y[0, 0, 0, 0].item())

    assert "getitem" in run_groups(item, a=conv(3, 4), b=conv(4, 1))["a"]

    def values(m, x):
        return m.b(m.a(x)) + len(m.a(x).tolist())

    assert "values are read by tolist" in run_groups(values, a=conv(3, 4), b=conv(4, 1))["a"]


def test_sizes_remember_where_they_come_from():
    def halves(m, x):
        y = m.a(x)
        half = y.shape[1] // 2
        return m.b(y[:, :half] + y[:, half:])

    def written(m, x):
        return m.b(m.a(x)[:, :2] + m.a(x)[:, 2:])

    def number(m, x):
        return m.b(m.a(x) * m.a(x).shape[1] ** -0.5)

    layers = {"a": conv(3, 4), "b": conv(2, 1)}
    assert not run_groups(halves, **layers)["a"]
    assert "set places" in run_groups(written, **layers)["a"]
    assert "reckoned with" in run_groups(number, a=conv(3, 4), b=conv(4, 1))["a"]


def test_what_is_written_into_parts_of_a_tensor_is_followed():
    def run(m, x, size):
        y = m.a(x)
        out = torch.zeros((2, size(y), 8, 8))
        out[torch.tensor([1])] = y
        out[0] = m.c(x)[0]
        return m.b(out)

    layers = {"a": conv(3, 4), "b": conv(4, 1), "c": conv(3, 4)}
    model = Net(lambda m, x: run(m, x, lambda y: y.shape[1]), **layers)
    group = channel_groups(model, (8, 8), how="run")[0]
    assert not group.fixed
    assert [m.module for m in group.members] == ["a", "c", "b"]
    assert "set size" in run_groups(lambda m, x: run(m, x, lambda y: 4), **layers)["a"]


def test_unread_channels_stay():
    def run(m, x):
        m.last = m.a(x)  # for whoever looks
        return m.b(x)

    fixed = run_groups(run, a=conv(3, 4), b=conv(3, 1))
    assert fixed["a"] == "nothing that was seen reads them"


def test_run_leaves_model_and_random_state_alone():
    model, state = network("resnet18").train(), torch.get_rng_state()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    channel_groups(model, SHAPE, how="run")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_graph_of_several_inputs_is_refused():
    model = Net(lambda m, x: m.b(m.a(x)), a=conv(3, 8), b=conv(8, 2))
    with pytest.raises(ExportError, match=r'not of lists; give how="run"'):
        channel_groups(model, [torch.rand(3, 8, 8)], how="graph")
