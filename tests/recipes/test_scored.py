"""A search goes on only with what it began with, and never on images that were trained on."""

import copy
import logging

import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError, DataError
from razorlite.data import image_hashes
from razorlite.recipes.card import ModelCard
from razorlite.recipes.experiment import read
from razorlite.recipes.scored import scored_with, weights_digest, without_folders
from razorlite.recipes.splits import Splits
from razorlite.search.records import _flat
from tests.data.helpers import write_shapes
from tests.recipes.runs import detector, split


def splits_of(tree):
    config, experiment = read(tree)
    return config, experiment, Splits(experiment, torch.device("cpu"))


def changed(tree, path, value):
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    place = tree
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return tree


def facts(tree):
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return _flat(scored_with(*splits_of(tree), model))


TREE = detector({"search": {"recalibrate_batches": 2}})
SMALL = [{"type": "Resize", "size": [48, 48]}]


@pytest.mark.parametrize(
    ("path", "value", "differs"),
    [
        ("data.train.dataset.seed", 7, {"data.search.images", "data.train"}),
        ("data.train.dataset.num_images", 23, {"data.train"}),
        ("data.train.batch_size", 2, {"recalibrate.batch_size"}),
        ("data.holdout", 0.5, {"data.search.holdout", "data.search.images", "data.search.count"}),
        ("data.mean", [1.0, 2.0, 3.0], {"data.mean"}),
        ("data.std", [1.0, 2.0, 3.0], {"data.std"}),
        ("data.channels", "bgr", {"data.channels"}),
        ("data.pad_multiple", 8, {"data.pad_multiple"}),
        ("data.val.transforms", SMALL, {"data.search.transforms"}),
        ("data.val.batch_size", 1, {"data.search.batch_size"}),
        ("data.search", split(4, 9), {"data.search.images", "data.search.count"}),
        ("search.recalibrate_batches", 3, {"recalibrate.batches"}),
        ("metric", {"type": "VocMetric"}, {"metric.type"}),
        ("model.bbox_head.norm_on_bbox", False, {"model.bbox_head.norm_on_bbox"}),
        ("shape", [96, 64], {"shape"}),
    ],
)
def test_what_decides_scores_is_in_the_journals_first_line(path, value, differs):
    before, after = facts(TREE), facts(changed(TREE, path, value))
    found = {n for n in {**before, **after} if before.get(n) != after.get(n)}
    assert differs <= found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.val.num_workers", 3),
        ("device", "auto"),
        ("work_dir", "elsewhere"),
        ("data.test.dataset.seed", 77),
        ("data.train.transforms", []),
    ],
)
def test_what_decides_nothing_may_change(path, value):
    assert facts(TREE) == facts(changed(TREE, path, value))


def test_a_moved_data_set_is_the_same(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text("{}")
    blocks = [
        {"annotation": str(tmp_path / name / "train.json"), "split": ["a/b.txt"], "n": 3}
        for name in ("here", "there")
    ]
    assert without_folders(blocks[0]) == without_folders(blocks[1])
    assert without_folders(blocks[0]) == {"annotation": "train.json", "split": ["a/b.txt"], "n": 3}
    assert without_folders(["a\0b", "x" * 5000]) == ["a\0b", "x" * 5000]


def test_images_that_cannot_be_read_are_told(tmp_path):
    annotation = write_shapes(tmp_path, num_images=4, size=(32, 32))
    block = {"type": "CocoDataset", "annotation": str(annotation), "images": f"{tmp_path}/images"}
    config, experiment, splits = splits_of(changed(TREE, "data.search", {"dataset": block}))
    model = nn.Linear(2, 1)
    assert scored_with(config, experiment, splits, model)["unreadable"] == []
    (tmp_path / "images" / "000002.png").write_bytes(b"lost")  # after its header was checked
    assert sum(len(b) for b in splits.eval_loader(splits.search, "search", alone=True)) == 3
    assert scored_with(config, experiment, splits, model)["unreadable"] == ["000002.png"]


def test_weights_are_told_apart_by_parameters_and_statistics():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(torch.bfloat16)
    digests = [weights_digest(model)]
    model[0].weight.data[0, 0] += 1
    digests.append(weights_digest(model))
    model[1].running_mean[0] += 1
    digests.append(weights_digest(model))
    assert len(set(digests)) == 3


class TestHeldOut:
    def test_images_that_were_trained_on_are_refused(self):
        _, _, trained = splits_of(TREE)
        card = ModelCard(trained_on=trained.trained_on(ModelCard()))
        trained.check_held_out(card, "last.pt")
        assert card.trained_on.isdisjoint(image_hashes(trained.search))
        for path, value in (("data.holdout", 0.9), ("mutator", None)):
            tree = TREE if path == "mutator" else changed(TREE, path, value)
            others = splits_of(tree)[2]
            known = card
            if path == "mutator":  # trained on all images, by a split of its own for the search
                explicit = splits_of(changed(TREE, "data.search", split(4, 9)))[2]
                known = ModelCard(trained_on=explicit.trained_on(ModelCard()))
            with pytest.raises(DataError, match=r"last.pt was trained on \d+ of the \d+ images th"):
                others.check_held_out(known, "last.pt")

    def test_a_lost_image_is_no_reason(self):
        card = ModelCard(trained_on=splits_of(TREE)[2].trained_on(ModelCard()))
        fewer = splits_of(changed(TREE, "data.train.dataset.num_images", 19))[2]
        fewer.check_held_out(card, "last.pt")

    def test_what_weights_started_from_counts(self):
        splits = splits_of(TREE)[2]
        held = frozenset(image_hashes(splits.search))
        card = ModelCard(trained_on=splits.trained_on(ModelCard(trained_on=held)))
        with pytest.raises(DataError, match=f"on {len(held)} of the {len(held)} images"):
            splits.check_held_out(card, "last.pt")

    def test_plain_models_keep_no_record(self):
        assert splits_of(changed(TREE, "mutator", None))[2].trained_on(ModelCard()) is None

    def test_a_checkpoint_that_does_not_tell_is_warned_of(self, caplog):
        with caplog.at_level(logging.WARNING, logger="razorlite"):
            splits_of(TREE)[2].check_held_out(ModelCard(), "other.pt")
        (message,) = caplog.messages
        assert message.startswith("other.pt does not say which images it was trained on")

    def test_a_split_for_the_search_has_no_training_images(self):
        same = splits_of(changed(TREE, "data.search", TREE["data"]["train"]))[2]
        with pytest.raises(DataError, match=r"data.search has 22 of the images that the supernet"):
            same.check_search_is_new()
        splits_of(changed(TREE, "data.search", split(4, 9)))[2].check_search_is_new()

    def test_the_record_goes_through_a_checkpoint(self):
        card = ModelCard(trained_on=frozenset([0, 5, 2**64 - 1]))
        assert ModelCard.from_meta(card.to_meta(), "a.pt").trained_on == card.trained_on
        for odd in ("AAAA", "not base64!", 3):
            with pytest.raises(CheckpointError, match=r"a.pt: what it says of its model makes no"):
                ModelCard.from_meta({**card.to_meta(), "trained_on": odd}, "a.pt")
