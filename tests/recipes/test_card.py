"""What every checkpoint says of its model."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import CheckpointError
from razorlite.data import Preprocess
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.recipes.card import ModelCard
from razorlite.space import Subnet

CLASSES = ["circle", "square", "triangle"]
CARD = ModelCard(
    model="FCOS",
    classes=("cat", "dog"),
    preprocess=Preprocess(
        mean=(103.5, 116.0, 123.7),
        std=(1, 1, 1),
        channels="bgr",
        transforms=({"type": "Resize", "size": [64, 96]},),
    ),
    subnet=Subnet(choices={"stage1": "k3"}, channels={"conv": (0, 2)}, fingerprint="abc"),
    data={"data.train": "0f"},
    config="model: {type: FCOS}\n",
)


def test_a_card_survives_the_file(tmp_path):
    torch.save({"meta": CARD.to_meta()}, tmp_path / "a.pt")
    meta = read_checkpoint(tmp_path / "a.pt")["meta"]
    assert ModelCard.from_meta(meta, "a.pt") == CARD


@pytest.mark.parametrize("meta", [None, 3, {}, {"step": 7, "AP": 0.5}, {"CLASSES": ("cat",)}])
def test_files_without_a_card_tell_nothing(meta):
    card = ModelCard.from_meta(meta, "a.pt")
    assert (card.classes, card.preprocess, card.subnet) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "cat"},
        {"classes": [1, 2]},
        {"preprocess": 3},
        {"preprocess": {"mean": [1, 2]}},
        {"preprocess": {"std": [0, 1, 1]}},
        {"preprocess": {"mean": ["a", "b", "c"]}},
        {"preprocess": {"transforms": [3]}},
        {"data": 3},
        {"subnet": 3},
        {"subnet": {"channels": {"conv": 3}}},
    ],
)
def test_edited_cards_are_told(change):
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        ModelCard.from_meta({**CARD.to_meta(), **change}, "a.pt")


@pytest.mark.parametrize("name", ["supernet", "subnet", "distill", "prune"])
def test_every_command_writes_one(pipeline, name):
    path = pipeline.root / name / "checkpoints/last.pt"
    card = ModelCard.from_meta(read_checkpoint(path)["meta"], path)
    assert list(card.classes) == CLASSES
    assert card.preprocess == Preprocess(pad_multiple=32, transforms=())
    assert "bbox_head" in card.config
    assert card.data.keys() == {"data.train", "data.val"}
    assert (card.subnet is None) == (name == "supernet")
    assert card.subnet is None or bool(card.subnet.channels) == (name == "prune")


def test_a_run_goes_on_with_the_images_it_began_with(pipeline):
    folder, other = pipeline.root / "subnet", ["data.train.dataset.seed=7"]
    before = read_checkpoint(folder / "checkpoints/last.pt")["meta"]
    recipes.train(pipeline.subnet, folder, resume=True)
    with pytest.raises(CheckpointError, match=r"other images or annotations of data\.train; "):
        recipes.train(pipeline.subnet, folder, other, resume=True)
    assert read_checkpoint(folder / "checkpoints/last.pt")["meta"] == before
