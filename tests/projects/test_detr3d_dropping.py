"""Queries and decoder layers of a DETR3D go by the budget that channels go by."""

import pytest
import torch
from torch.testing import assert_close

from razorlite.cost import count
from razorlite.models.queries import QueryModel
from razorlite.prune import Budget, Channels, Pruner, Trial
from razorlite.prune.parts import without_parts
from razorlite.structures import Batch
from tests.projects.detr3d_toys import SHAPE, inputs_of, objects_of, tiny

KEPT = [0, 2, 3, 5, 8, 11]
GONE = {"queries": (1, 4, 6, 7, 9, 10)}


def test_the_slim_model_is_the_whole_one_with_dropped_queries_masked():
    model, inputs = tiny().eval(), inputs_of()
    assert isinstance(model, QueryModel)
    raw = without_parts(model, GONE)(inputs)
    dropped = torch.ones(1, 12, dtype=torch.bool)
    dropped[:, KEPT] = False
    for layer in model.pts_bbox_head.transformer.decoder.layers:
        layer.attentions[0].attn.register_forward_pre_hook(
            lambda module, args, settings: (args, {**settings, "key_padding_mask": dropped}),
            with_kwargs=True,
        )
    for got, masked in zip(raw, model(inputs), strict=True):
        assert_close(got, masked[:, :, KEPT])


def test_the_last_layers_go_with_their_branches():
    model, inputs = tiny().eval(), inputs_of()
    slim = without_parts(model, {"layers": (1,)})
    for got, whole in zip(slim(inputs), model(inputs), strict=True):
        assert torch.equal(got, whole[:1])
    assert len(slim.pts_bbox_head.cls_branches) == len(slim.pts_bbox_head.reg_branches) == 1
    assert slim.loss(inputs, [objects_of()]).keys() == {"loss_cls", "loss_bbox"}
    assert (slim.num_decoder_layers, model.num_decoder_layers) == (1, 2)


def test_queries_that_are_never_found_go_without_a_trace():
    model, inputs = tiny(max_per_frame=4).eval(), inputs_of()
    for layer in model.pts_bbox_head.transformer.decoder.layers:
        torch.nn.init.zeros_(layer.attentions[0].attn.out_proj.weight)  # each stands for itself
    scores = Trial([Batch(inputs)]).query_scores(model)
    assert_close(scores.float(), model(inputs)[0][-1, 0].sigmoid().amax(-1))
    worst = tuple(sorted(scores.argsort()[:6].tolist()))
    (before,), (after,) = (
        m.predict(Batch(inputs)) for m in (model, without_parts(model, {"queries": worst}))
    )
    assert len(before) == 4
    assert torch.equal(before.labels, after.labels)
    assert_close(after.boxes, before.boxes)


@pytest.mark.slow
def test_channels_queries_and_layers_meet_one_budget():
    model = tiny().eval()
    trial = Trial([Batch(inputs_of(), [objects_of()])])
    parts = ["channels", "queries", "layers"]
    channels = Channels(model, SHAPE)
    subnet = Pruner(budget=Budget(macs="70%"), round_to=2, parts=parts, trial=trial).plan(channels)
    slim = channels.slim(subnet)
    assert count(slim, SHAPE).macs == subnet.cost["macs"] <= 0.7 * channels.cost.whole["macs"]
    gone = subnet.dropped
    assert slim.num_queries == 12 - len(gone.get("queries", ()))
    assert slim.num_decoder_layers == 2 - len(gone.get("layers", ()))
