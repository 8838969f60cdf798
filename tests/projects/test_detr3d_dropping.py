"""Queries and decoder layers that go while a model is trained."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from projects.detr3d.dropping import DropQueries
from projects.detr3d.space import ElasticDETR3D
from razorlite.core.compute import Compute
from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import count
from razorlite.engine.ema import Ema, EmaConfig
from razorlite.engine.steps import WrappingStep
from razorlite.recipes.training import _PathScore
from razorlite.space import Subnet
from razorlite.structures import Batch
from tests.projects.detr3d_toys import SHAPE, inputs_of, objects_of, tiny

OPTIONS = {"queries": [12, 10, 8, 6, 4], "decoder_layers": [1, 2]}


class Table:
    """Costs that are quick to work out: 10 for each query in each layer."""

    def __init__(self, space, shape):
        self.space = space

    def many(self, points):
        chosen = [self.space.decode(point).choices for point in points]
        return {"macs": np.array([10 * c["queries"] * c["decoder_layers"] for c in chosen])}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("projects.detr3d.dropping.tabulate", Table)


def step_of(macs="50%", **settings):
    space = ElasticDETR3D(**OPTIONS).prepare(tiny(), SHAPE)
    settings = {"observe_steps": 2, "drop_every": 2, **settings}
    return DropQueries(space, macs=macs, shape=SHAPE, **settings)


def run(step, first, last, seen):
    """Train; `seen` gets the numbers of queries and layers of each step."""
    model = step.space.model.train()
    batch = Batch(inputs_of(), [objects_of()])
    for number in range(first, last):
        step.begin(number)
        metrics = step(model, batch, lambda loss: loss.backward())
        seen.append((metrics["queries"], metrics["decoder_layers"]))


def test_numbers_fall_to_the_budget_and_the_lowest_scores_go_first(quick):
    step, seen = step_of(), []
    run(step, 0, 2, seen)
    step._losses = torch.tensor([9.0, 1.0])  # both layers are needed
    scores = step.head.scores.clone()
    run(step, 2, 14, seen)
    assert seen[:2] == [(12, 2)] * 2
    assert seen[2:8] == [(10, 2), (10, 2), (8, 2), (8, 2), (6, 2), (6, 2)]
    assert set(seen[8:]) == {(6, 2)}
    assert step.target.choices == {"queries": 6, "decoder_layers": 2}
    dropped = step.head.order[10:]  # the first to go, by the scores of then
    assert set(dropped.tolist()) == set(scores.argsort()[:2].tolist())
    slim = step.space.export(step.target)
    assert slim.pts_bbox_head.query_embedding.num_embeddings == 6


@pytest.mark.slow
def test_the_budget_is_that_of_the_exported_model():
    step = step_of("98.5%")
    run(step, 0, 14, [])
    assert count(step.space.export(step.target), SHAPE).macs <= 0.985 * count(tiny(), SHAPE).macs


def test_the_layer_whose_loss_tells_least_apart_goes(quick):
    step = step_of()
    run(step, 0, 2, [])
    step._losses = torch.tensor([1.0, 1.0])  # the second layer adds nothing
    step.head.scores.fill_(1.0)
    step.begin(2)
    assert step.target.choices == {"queries": 12, "decoder_layers": 1}  # no score is lost
    other = step_of()
    run(other, 0, 2, [])
    other._losses = torch.tensor([5.0, 1.0])
    other.begin(2)
    assert other.target.choices["decoder_layers"] == 2


def ranked(model, queries):
    """Return the space of a model whose queries stand in the order of their scores on a frame."""
    space, inputs = ElasticDETR3D(**OPTIONS).prepare(model, SHAPE), inputs_of()
    model.loss(inputs, [objects_of()])
    with torch.no_grad():
        logits = model.eval()(inputs)[0]
        model.pts_bbox_head.scores.copy_(logits[-1, 0].sigmoid().amax(-1))
    model.pts_bbox_head.rank()
    return space, space.resolve(Subnet(choices={"queries": queries, "decoder_layers": 2})), inputs


def test_queries_that_are_never_found_go_without_a_trace():
    model = tiny(max_per_frame=4)
    for layer in model.pts_bbox_head.transformer.decoder.layers:
        torch.nn.init.zeros_(layer.attentions[0].attn.out_proj.weight)  # each stands for itself
    space, point, inputs = ranked(model, queries=6)
    assert model.pts_bbox_head.order.tolist() != list(range(12))
    (before,), (after,) = (m.predict(Batch(inputs)) for m in (model, space.export(point)))
    assert len(before) == 4
    assert torch.equal(before.labels, after.labels)
    assert_close(after.boxes, before.boxes)
    assert_close(after.scores, before.scores)


def test_the_exported_model_is_the_whole_one_with_dropped_queries_masked():
    model = tiny()
    space, point, inputs = ranked(model, queries=6)
    raw = space.export(point).eval()(inputs)
    dropped = torch.arange(12)[None] >= 6  # of the queries in their order
    for layer in model.pts_bbox_head.transformer.decoder.layers:
        layer.attentions[0].attn.register_forward_pre_hook(
            lambda module, args, settings: (args, {**settings, "key_padding_mask": dropped}),
            with_kwargs=True,
        )
    for got, masked in zip(raw, model(inputs), strict=True):
        assert got.shape[2] == 6
        assert_close(got, masked[:, :, :6])


def test_averaged_weights_keep_the_order_of_queries():
    model = tiny()
    space = ElasticDETR3D(**OPTIONS).prepare(model, SHAPE)
    ema = Ema(model=model, config=EmaConfig())
    head = model.pts_bbox_head
    head.scores.copy_(torch.arange(12.0))
    head.rank()
    with ema.swapped():
        point = space.resolve(Subnet(choices={"queries": 4, "decoder_layers": 1}))
        exported = space.export(point).pts_bbox_head.query_embedding.weight
        assert torch.equal(exported, head.query_embedding.weight[[11, 10, 9, 8]])


def test_the_model_that_training_ends_at_is_evaluated(quick):
    step = step_of()
    score = _PathScore(
        space=step.space,
        step=WrappingStep(step),
        shape=SHAPE,
        batches=[],
        compute=Compute(torch.device("cpu")),
        score=lambda model: dict(step.space.selected.choices),
    )
    score.largest = step.space.selected
    model = step.space.model
    assert score(model) == {"queries": 12, "decoder_layers": 2}
    run(step, 0, 3, [])
    assert score(model) == step.target.choices
    assert step.target.choices["queries"] * step.target.choices["decoder_layers"] <= 12


def test_resumed_goes_on_as_before(quick):
    whole, again, expected, got = step_of(), step_of(), [], []
    run(whole, 0, 5, expected)
    again.space.model.load_state_dict(whole.space.model.state_dict())
    again.load_state_dict(whole.state_dict())
    torch.manual_seed(1)
    run(whole, 5, 9, expected)
    torch.manual_seed(1)
    run(again, 5, 9, got)
    assert got == expected[5:]
    assert torch.equal(whole.head.order, again.head.order)
    assert torch.equal(whole.head.scores, again.head.scores)


def test_what_cannot_be_is_told(quick):
    with pytest.raises(
        BudgetError, match=r"macs <= 24 cannot be met: fewer queries and decoder layers reach 40"
    ):
        step_of("10%")
    space = ElasticDETR3D(blocks={"layer1": [1, 2]}).prepare(tiny(), SHAPE)
    with pytest.raises(ConfigError, match="wants queries or decoder layers that may vary"):
        DropQueries(space, macs="90%", shape=SHAPE)
