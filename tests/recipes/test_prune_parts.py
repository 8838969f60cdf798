"""Blocks, decoder layers and queries dropped by the command, with channels, by one budget."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.cost import count
from razorlite.engine.checkpoint import load_weights
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes.checking import check_config
from razorlite.space import Subnet
from tests.recipes.runs import detector, split
from tests.recipes.test_prune_resume import MODEL

SIZES = {"embed_dims": 16, "num_heads": 2, "feedforward_channels": 32}
DETR = {
    "type": "DETR",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [1]},
    "neck": {"type": "ChannelMapper", "in_channels": [96], "out_channels": 16, "kernel_size": 1},
    "encoder": {"type": "DetrEncoder", "num_layers": 1, **SIZES},
    "decoder": {"type": "DetrDecoder", "num_layers": 3, **SIZES},
    "bbox_head": {"type": "DETRHead", "num_classes": 3, "embed_dims": 16},
    "num_queries": 12,
}
PARTS = ["channels", "blocks", "layers", "queries"]


def tree(model=DETR, **prune):
    block = {"budget": {"macs": "60%"}, "round_to": 2, "batches": 1, **prune}
    data = {"train": split(8, 0)}
    return detector({"mutator": None, "model": model, "data": data, "prune": block})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    save_checkpoint(path, {"model": recipes.build_model(tree()).state_dict(), "meta": {}})
    return path


@pytest.mark.slow
def test_the_slim_detr_is_rebuilt_exported_and_pruned_again(weights, tmp_path):
    settings = tree(parts=["layers", "queries"], budget={"macs": "95%"})
    first = recipes.prune(settings, weights, tmp_path / "a")
    assert first.dropped
    config, last = tmp_path / "a/config.yaml", tmp_path / "a/checkpoints/last.pt"
    slim = recipes.build_model(config).eval()
    load_weights(slim, last)
    assert count(slim, (64, 64)).macs == first.cost["macs"]
    whole = count(recipes.build_model(tree()), (64, 64)).macs
    assert first.cost["macs"] <= 0.95 * whole
    more = {"prune.parts": PARTS, "prune.budget.macs": "60%"}
    second = recipes.prune(config, last, tmp_path / "c", more)
    assert Subnet.load(tmp_path / "c/subnet.yaml").dropped == second.dropped
    for kind, gone in first.dropped.items():
        assert set(gone) <= set(second.dropped[kind])
    slimmer = recipes.build_model(tmp_path / "c/config.yaml").eval()
    load_weights(slimmer, tmp_path / "c/checkpoints/last.pt")
    assert count(slimmer, (64, 64)).macs == second.cost["macs"] <= 0.6 * first.cost["macs"]
    exported = recipes.export(tmp_path / "c", format="onnx", out=tmp_path / "slim.onnx")
    assert (tmp_path / "slim.onnx").stat().st_size > 0
    assert exported


def test_check_refuses_parts_that_cannot_go():
    assert check_config(tree(parts=["channels", "queries"])) == []
    with pytest.raises(ConfigError, match=r"prune\.parts: FCOS has no queries that can be dropped"):
        check_config(tree(MODEL, parts=["channels", "queries"]))
    with pytest.raises(ConfigError, match="layers are worth is found on training images"):
        check_config({**tree(parts=["layers"]), "data": None})
