"""Blocks, decoder layers and queries dropped by the command, with channels, by one budget."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.engine.checkpoint import load_weights, read_checkpoint
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.prune import Trial
from razorlite.recipes.checking import check_config
from razorlite.space import Subnet
from tests.engine.toys import assert_same
from tests.recipes.runs import detector, split, write
from tests.recipes.test_classes import PLAIN
from tests.recipes.test_prune_resume import MODEL

SIZES = {"embed_dims": 16, "num_heads": 2, "feedforward_channels": 32}
DETR = {
    "type": "DETR",
    "backbone": {"type": "tests.prune.test_parts.Maps"},
    "neck": {"type": "ChannelMapper", "in_channels": [8], "out_channels": 16, "kernel_size": 1},
    "encoder": {"type": "DetrEncoder", "num_layers": 1, **SIZES},
    "decoder": {"type": "DetrDecoder", "num_layers": 2, **SIZES},
    "bbox_head": {"type": "DETRHead", "num_classes": 3, "embed_dims": 16},
    "num_queries": 8,
}
PARTS = ["channels", "blocks", "layers", "queries"]
IGNORED = ["backbone.layer1.0.conv1", "backbone.layer1.1.conv1"]


def tree(model=DETR, **prune):
    block = {"budget": {"macs": "60%"}, "round_to": 2, "batches": 1, **prune}
    data = {"train": split(4, 0)}
    return detector({"mutator": None, "model": model, "data": data, "prune": block})


@pytest.fixture(scope="module")
def weights(module_path):
    torch.manual_seed(0)
    path = module_path / "weights.pt"
    save_checkpoint(path, {"model": recipes.build_model(tree()).state_dict(), "meta": {}})
    return path


@pytest.fixture(scope="module")
def whole(weights, module_path):
    """Settings that let parts of all kinds go in two rounds, and the folder of their run."""
    train = {"max_steps": 1, "optimizer": {"type": "SGD", "lr": 0.01}}
    ignore = ["decoder.layers.*"]  # whose blocks stay
    more = {"budget": {"macs": "80%"}, "min_keep": 0.5, "rounds": 2, "ignore": ignore}
    settings = {**tree(parts=PARTS, **more), "train": train}
    folder = module_path / "run"
    recipes.prune(settings, weights, folder)
    return settings, folder


def weights_of(folder):
    return read_checkpoint(folder / "checkpoints/last.pt")["model"]


@pytest.mark.slow
def test_the_slim_detr_is_rebuilt_and_pruned_again(whole, tmp_path):
    _, folder = whole
    early, late = (Subnet.load(folder / name) for name in ("round_1/subnet.yaml", "subnet.yaml"))
    assert late.dropped
    for kind, gone in early.dropped.items():
        assert set(gone) <= set(late.dropped[kind])
    config, last = folder / "config.yaml", folder / "checkpoints/last.pt"
    slim = recipes.build_model(config).eval()
    load_weights(slim, last)
    before = count(recipes.build_model(tree()), (64, 64)).macs
    assert count(slim, (64, 64)).macs == late.cost["macs"] <= 0.8 * before
    more = {"prune.parts": ["queries"], "prune.budget.macs": "99.5%", "prune.min_keep": 0.1}
    more |= {"prune.rounds": 1, "train": None}
    again = recipes.prune(config, last, tmp_path / "again", more)
    assert sum(map(len, again.dropped.values())) > sum(map(len, late.dropped.values()))
    for kind, gone in late.dropped.items():
        assert set(gone) <= set(again.dropped[kind])
    slimmer = recipes.build_model(tmp_path / "again/config.yaml").eval()
    load_weights(slimmer, tmp_path / "again/checkpoints/last.pt")
    assert count(slimmer, (64, 64)).macs == again.cost["macs"] <= 0.995 * late.cost["macs"]


@pytest.mark.slow
def test_interrupted_pruning_goes_on_as_if_nothing_had_happened(
    whole, weights, tmp_path, monkeypatch
):
    settings, folder = whole
    loss, seen = Trial.loss, []

    def failing(trial, model):
        if (tmp_path / "run/round_1/checkpoints/last.pt").exists():
            seen.append(model)
            if len(seen) == 2:
                raise RuntimeError("as if the power had failed")
        return loss(trial, model)

    monkeypatch.setattr(Trial, "loss", failing)
    with pytest.raises(RuntimeError, match="power"):
        recipes.prune(settings, weights, tmp_path / "run")
    assert not (tmp_path / "run/subnet.yaml").exists()
    found = recipes.prune(settings, weights, tmp_path / "run", resume=True)
    expected = Subnet.load(folder / "subnet.yaml")
    assert (found.dropped, found.channels) == (expected.dropped, expected.channels)
    assert_same(weights_of(tmp_path / "run"), weights_of(folder))


@pytest.mark.slow
def test_a_file_of_a_detr_without_a_block_a_layer_and_queries_is_compared(tmp_path):
    gone = {"blocks": ("encoder.layers.0.self_attn",), "layers": (1,), "queries": (0, 3)}
    Subnet(dropped=gone).save(tmp_path / "subnet.yaml")
    config = {**tree(), "prune": None, "subnet": str(tmp_path / "subnet.yaml")}
    model = recipes.build_model(config)
    assert (model.num_decoder_layers, model.num_queries) == (1, 6)
    save_checkpoint(tmp_path / "slim.pt", {"model": model.state_dict(), "meta": {}})
    path = write(config, tmp_path)
    exported = recipes.export(path, tmp_path / "slim.pt", out=tmp_path / "slim.onnx")
    assert exported.agreement.found > 0  # detections, which are those of PyTorch


def test_check_refuses_parts_that_cannot_go():
    assert check_config(tree(parts=["channels", "queries"]), imports=True) == []
    with pytest.raises(ConfigError, match=r"prune\.parts: FCOS has no queries that can be dropped"):
        check_config(tree(MODEL, parts=["channels", "queries"]), imports=True)
    with pytest.raises(ConfigError, match="layers are worth is found on training images"):
        check_config({**tree(parts=["layers"]), "data": None}, imports=True)


@pytest.mark.slow
def test_a_block_goes_with_what_is_ignored_in_it(tmp_path):
    backbone = {"type": "ResNet", "depth": 18, "out_indices": [1]}
    model = {**PLAIN, "backbone": backbone, "neck": {**PLAIN["neck"], "in_channels": [128]}}
    more = {"parts": ["channels", "blocks"], "budget": {"macs": "70%"}, "rounds": 2}
    train = {"max_steps": 1, "optimizer": {"type": "SGD", "lr": 0.01}}
    config = {**tree(model, ignore=IGNORED, **more), "train": train}
    weights = recipes.build_model(config).state_dict()
    save_checkpoint(tmp_path / "whole.pt", {"model": weights, "meta": {}})
    found = recipes.prune(config, tmp_path / "whole.pt", tmp_path / "run")
    assert found.dropped["blocks"] == ("backbone.layer1.0",)
