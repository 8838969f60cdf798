"""Queries, decoder layers, blocks and sizes of images as a search space."""

import pytest
import torch

from projects.detr3d.space import ElasticDETR3D
from razorlite.core.errors import ConfigError
from razorlite.cost import count, tabulate
from razorlite.space import Subnet
from tests.projects.detr3d_toys import SHAPE, inputs_of, tiny

OPTIONS = {
    "queries": [12, 6],
    "decoder_layers": [1, 2],
    "blocks": {"layer1": [1, 2]},
    "image_scales": [0.5, 1.0],
}
LEAST = {"queries": 6, "decoder_layers": 1, "layer1.blocks": 1, "image_scale": 0.5}


@pytest.fixture
def space():
    return ElasticDETR3D(**OPTIONS).prepare(tiny(), SHAPE)


def test_whole_space_is_the_plain_model():
    model, inputs = tiny().eval(), inputs_of()
    before, state = model(inputs), set(model.state_dict())
    space = ElasticDETR3D(**OPTIONS).prepare(model, SHAPE)
    assert space.size == 16
    for got, expected in zip(space.model(inputs), before, strict=True):
        assert torch.equal(got, expected)
    assert set(model.state_dict()) == state
    assert set(space.export(space.selected).state_dict()) == state


@pytest.mark.parametrize("change", [{}, *({name: value} for name, value in LEAST.items()), LEAST])
def test_selected_is_exported_and_costs_what_the_table_says(space, change):
    point = Subnet(choices={**space.selected.choices, **change})
    space.select(point)
    plain, inputs = space.export(point).eval(), inputs_of()
    raw = space.model.eval()(inputs)
    for got, expected in zip(plain(inputs), raw, strict=True):
        assert torch.equal(got, expected)
    assert len(raw[0]) == point.choices["decoder_layers"]
    assert raw[0].shape[2] == point.choices["queries"]
    chosen = space.chosen_weights(space.model.state_dict(), point)
    assert {k: v.shape for k, v in chosen.items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    for name, weight in plain.state_dict().items():
        assert torch.equal(chosen[name], weight)


@pytest.mark.slow
def test_costs_of_all_points_are_those_of_exported_models(space):
    table = tabulate(space, SHAPE)
    points = space.all_indices()
    costs = table.many(points)
    for i, point in enumerate(points):
        known = count(space.export(space.decode(point)), SHAPE)
        assert (int(costs["macs"][i]), int(costs["params"][i])) == (known.macs, known.params)


def test_images_of_half_the_size_are_looked_up_at_the_same_places(space):
    inputs = {**inputs_of(), "images": torch.ones(1, 6, 3, *SHAPE)}
    space.select(Subnet(choices={**space.selected.choices, "image_scale": 0.5}))
    maps = space.model.features(inputs["images"])
    assert maps[0].shape[-2:] == (SHAPE[0] // 8, SHAPE[1] // 8)
    views = space.model.views(inputs)
    assert views.size == SHAPE  # matrices are for images of the whole size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queries": [6, 8]}, r"queries may be \[6, 8\], but the model's own is 12"),
        ({"blocks": {"layer9": [1]}}, "no stage 'layer9': .*'layer1', 'layer2'"),
        ({"image_scales": [0.5]}, r"image_scale may be \[0.5\], but the model's own is 1"),
    ],
)
def test_what_does_not_fit_is_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        ElasticDETR3D(**settings).prepare(tiny(), SHAPE)
    with pytest.raises(ConfigError, match="is for a DETR3D, this is a Linear"):
        ElasticDETR3D(**settings).put(torch.nn.Linear(1, 1))
