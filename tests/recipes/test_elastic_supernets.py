"""Supernets of choices, elastic layers and channel widths, through the whole pipeline."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.engine.checkpoint import read_state_dict
from razorlite.recipes.building import build, load_into
from razorlite.recipes.checking import check_config
from razorlite.recipes.experiment import read
from razorlite.space import Subnet
from tests.recipes.conftest import TRAIN
from tests.recipes.runs import detector, write

BLOCK = "backbone.layers.0.*.choices.shuffle_3x3.branch2"
ELASTIC = {
    f"{BLOCK}.0.conv": {"out_channels": [0.5, 1.0]},
    f"{BLOCK}.0.bn": {"out_channels": "{parent}.conv.out_channels"},
}


def small(config: dict) -> dict:
    """Return a detector of four blocks and one map."""
    tree = detector(config)
    tree["model"]["backbone"]["out_indices"] = [0]
    tree["model"]["neck"] |= {"in_channels": [16], "num_outs": 1}
    tree["model"]["bbox_head"]["strides"] = [4]
    return tree


def config() -> dict:
    """Return a detector whose choices, a layer of the neck and the head's widths vary."""
    tree = small({"train": {**TRAIN, "max_steps": 2}})
    widths = {"type": "ChannelWidths", "round_to": 4, "shares": [0.5]}
    neck = {"neck.fpn_convs.*.conv": {"kernel_size": [1, 3]}}
    mapping = tree["mutator"]["placeholder_mapping"]
    tree["mutator"] = [
        {"type": "Mutator", "placeholder_mapping": mapping},
        {"type": "ElasticLayers", "layers": neck},
        widths,
    ]
    searcher = {"type": "RandomSearcher", "max_trials": 3}
    search = {"searcher": searcher, "constraints": {"macs": "80%"}, "recalibrate_batches": 1}
    search |= {"retraining": None, "trust": 0}
    return {**tree, "search": search}


@pytest.fixture(scope="module")
def pipeline(module_path) -> SimpleNamespace:
    """Supernet, search and retrained subnet, in folders of one `root`."""
    supernet = write(config(), module_path, "supernet.yaml")
    recipes.train(supernet, module_path / "supernet")
    weights = module_path / "supernet/checkpoints/last.pt"
    found = recipes.search(supernet, weights, module_path / "search")
    chosen = {"subnet": str(module_path / "search/subnet.yaml"), "load_from": str(weights)}
    subnet = write({**config(), **chosen}, module_path, "subnet.yaml")
    recipes.train(subnet, module_path / "subnet")
    return SimpleNamespace(
        root=module_path, supernet=supernet, weights=weights, found=found, subnet=subnet
    )


def test_the_space_has_dimensions_of_all_preparers(pipeline):
    space = build(read(pipeline.supernet)[1]).space
    kinds = {d.name: d.values for d in space.dimensions}
    assert kinds["stage_0_block_1"] == ("shuffle_3x3", "shuffle_xception")
    assert kinds["neck.fpn_convs.0.conv.kernel_size"] == (1, 3)
    assert kinds["bbox_head.cls_convs.0.conv.width"] == (8, 16)
    assert Subnet.load(pipeline.root / "search/subnet.yaml").choices == pipeline.found.choices


def test_the_found_subnet_costs_what_it_says(pipeline):
    whole = recipes.cost(pipeline.supernet, as_json=True)
    exact = recipes.cost(pipeline.subnet, as_json=True)
    assert exact["macs"] == pipeline.found.cost["macs"] <= 0.8 * whole["macs"]
    assert exact["params"] == pipeline.found.cost["params"]
    assert whole["range"]["macs"][0] <= exact["macs"] < whole["range"]["macs"][1] == whole["macs"]


def test_a_subnet_takes_its_part_of_the_supernets_weights(pipeline):
    built = build(read(pipeline.subnet)[1])
    report = load_into(built, pipeline.weights)
    assert report.complete
    state = read_state_dict(pipeline.weights)
    small = built.model.state_dict()
    width = pipeline.found.choices["bbox_head.cls_convs.0.conv.width"]
    name = "bbox_head.cls_convs.0.conv.weight"
    assert torch.equal(small[name], state[name][:width])
    plain = built.space.chosen_weights(state, built.subnet)
    assert all(torch.equal(plain[key], value) for key, value in small.items())


def test_a_retrained_subnet_is_a_plain_model_of_its_own(pipeline):
    trained = pipeline.root / "subnet/checkpoints/last.pt"
    built = build(read(pipeline.subnet)[1])
    assert load_into(built, trained).complete
    # the supernet's weights on the same path, after refreshing its statistics
    figures = recipes.test(pipeline.subnet, pipeline.weights, as_json=True)
    assert figures["params"] == pipeline.found.cost["params"]


def test_purely_elastic_checkpoints_are_told_from_plain_ones_by_shapes(tmp_path):
    tree = detector({})
    tree["model"]["backbone"] = {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [1, 2]}
    tree["model"]["neck"]["in_channels"] = [96, 192]
    plain = build(read({**tree, "mutator": None})[1]).model
    tree["mutator"] = {"type": "ChannelWidths", "shares": [0.5], "round_to": 4}
    supernet = build(read(tree)[1])
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    assert load_into(supernet, tmp_path / "plain.pt").complete  # names are those of the plain model
    choices = {d.name: d.values[0] for d in supernet.space.dimensions}
    small = build(read(tree)[1], Subnet(choices=choices))
    assert load_into(small, tmp_path / "plain.pt").complete  # its part
    torch.save(small.model.state_dict(), tmp_path / "small.pt")
    again = build(read(tree)[1], Subnet(choices=choices))
    assert load_into(again, tmp_path / "small.pt").complete  # as it is
    for name, value in supernet.space.chosen_weights(plain.state_dict(), small.subnet).items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_config_check_runs_the_forms_of_elastic_layers():
    tree = config()
    tree["mutator"].insert(1, {"type": "ElasticLayers", "layers": ELASTIC})
    with pytest.raises(ConfigError) as caught:
        check_config(tree)
    assert "branch2.1.conv cannot take what it is given" in str(caught.value)
    assert "mutator" in str(caught.value)
    whole = copy.deepcopy(ELASTIC)
    for name in ("1.conv", "1.bn"):
        whole[f"{BLOCK}.{name}"] = {"out_channels": f"{BLOCK}.0.conv.out_channels"}
    tree["mutator"][1]["layers"] = whole
    with pytest.raises(ConfigError, match=r"follows 'backbone.* which is no dimension"):
        check_config(tree)


@pytest.mark.parametrize(("stride", "stands"), [(4, True), (8, False)])
def test_strides_are_compared_with_the_images_that_the_backbone_sees(stride, stands):
    tree = small({"mutator": {"type": "InputScales", "scales": [0.5]}})
    tree["model"]["backbone"] = {"type": "ResNet", "depth": 18, "out_indices": [0]}
    tree["model"]["neck"]["in_channels"] = [64]
    tree["model"]["bbox_head"]["strides"] = [stride]
    with (
        nullcontext()
        if stands
        else pytest.raises(ConfigError, match=r"strides: are \[8\], but the maps have .* \[4\]")
    ):
        check_config(tree)


@pytest.mark.parametrize(
    ("mutator", "message"),
    [
        ([], "mutator: wants "),
        ([{"type": "ElasticLayer", "layers": {}}], "no type 'ElasticLayer'; did you mean 'Elastic"),
        (
            {"type": "ElasticLayers", "layers": {"neck": {"out_chanels": [1]}}},
            "out_chan",
        ),
        (
            {"type": "ChannelWidths", "shares": [1.5]},
            r"mutator\.shares\.0: wants a number .*got 1\.5",
        ),
        ({"placeholder_mapping": {"a": {"choices": {}}}}, "group 'a' has no choices"),
        ({"type": "FPN"}, "mutator"),
    ],
)
def test_wrong_mutators_are_named(mutator, message):
    with pytest.raises(ConfigError, match=message):
        read({**detector({}), "mutator": mutator})


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"costs": [{"type": "LatencyTable"}]}, "search.costs.0: LatencyTable needs 'file'"),
        (
            {"searcher": {"type": "ExhaustiveSearcher", "max_trials": 5}},
            "the space has 16 points, max_trials is 5",
        ),
        (
            {"searcher": {"type": "EvolutionSearcher", "population_size": 5}},
            "must fit into population_size 5",
        ),
    ],
)
def test_the_check_builds_searchers_and_costs(search, message):
    with pytest.raises(ConfigError) as caught:
        check_config(small({"search": search}))
    assert message in str(caught.value)
