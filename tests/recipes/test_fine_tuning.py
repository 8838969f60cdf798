"""Starting from weights of a model for other classes, and how `load_from` says it."""

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.models.heads.class_head import ClassLayer
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.heads.linear_head import LinearHead
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.recipes.experiment import read
from razorlite.recipes.fine_tuning import OtherClasses
from tests.recipes.runs import write
from tests.recipes.test_classes import PLAIN, TRAIN, plain, shapes

CLS = "bbox_head.conv_cls.weight"


def test_rows_of_anchors_boxes_and_background_by_hand():
    assert ClassLayer("a").rows(6, 3).tolist() == [[0, 3], [1, 4], [2, 5]]  # two anchors
    assert ClassLayer("a", each=4).rows(8, 2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert ClassLayer("a", others=1).rows(4, 3).tolist() == [[0], [1], [2]]
    assert ClassLayer("a", each=4).per_class(4, 2) is None  # boxes without classes
    assert ClassLayer("a", others=1).per_class(4, 3) == 1


class Model(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head


def boxes(classes, **more):
    return Shared2FCBBoxHead(
        num_classes=classes, in_channels=2, fc_out_channels=3, roi_feat_size=2, **more
    )


HEADS = {
    "linear": lambda n: LinearHead(num_classes=n, in_channels=3),
    "boxes": boxes,
    "agnostic boxes": lambda n: boxes(n, reg_class_agnostic=True),
    "anchors": lambda n: RetinaHead(num_classes=n, in_channels=4, feat_channels=4, stacked_convs=1),
    "set": lambda n: DETRHead(num_classes=n, embed_dims=8),
    "shared": lambda n: RTMDetSepBNHead(
        num_classes=n, in_channels=4, feat_channels=4, stacked_convs=1, strides=[8, 16]
    ),
}


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_rows_are_taken_over_by_name(build):
    """Each row of the weights has the number of its class; so have the rows that are taken."""
    old, new = ["cat", "dog", "cow", "pig"], ["cow", "owl", "cat"]
    theirs, model = Model(build(4)), Model(build(3))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.fill_(100)
        for parameter in model.parameters():
            parameter.fill_(-1)
        _number(theirs.head)
    adapt = OtherClasses(model, new, old)
    model.load_state_dict(adapt(theirs.state_dict()))
    _, background = _numbers(model.head)
    assert _numbers(model.head)[0] == [[2.0], [-1.0], [0.0]]
    assert background in ([], [100.0])
    note = adapt.note()
    assert "4 classes apart, ['cat', 'dog', 'cow', 'pig'], the data have ['cow', 'owl'" in note
    assert "the rows of ['cow', 'cat'] are taken over, all others are left at init" in note


def _layers(head):
    for layer in head.class_layers:
        for parameter in head.get_submodule(layer.name).parameters():
            if layer.per_class(len(parameter), head.num_classes):
                yield layer, parameter


def _number(head):
    for layer, parameter in _layers(head):
        for label, rows in enumerate(layer.rows(len(parameter), head.num_classes)):
            parameter[rows] = label


def _numbers(head):
    """Return the values in the rows of each class, and in those of none."""
    found, others = [set() for _ in range(head.num_classes)], set()
    for layer, parameter in _layers(head):
        for values, rows in zip(found, layer.rows(len(parameter), head.num_classes), strict=True):
            values |= set(parameter[rows].flatten().tolist())
        if layer.others:
            others |= set(parameter[-layer.others :].flatten().tolist())
    return [sorted(values) for values in found], sorted(others)


def test_unknown_classes_keep_rows_only_of_as_many():
    theirs, model = Model(HEADS["linear"](5)), Model(HEADS["linear"](2))
    before = model.head.fc.weight.clone()
    adapt = OtherClasses(model, ["cat", "dog"], None)
    model.load_state_dict(adapt(theirs.state_dict()))
    assert torch.equal(model.head.fc.weight, before)
    assert "all rows are left at initialisation" in adapt.note()
    same = Model(HEADS["linear"](2))
    adapt = OtherClasses(model, ["cat", "dog"], None)
    model.load_state_dict(adapt(same.state_dict()))
    assert torch.equal(model.head.fc.weight, same.head.fc.weight)
    assert adapt.note() == ""


@pytest.fixture(scope="module")
def trained(module_path):
    """A checkpoint of the plain detector for circles, squares and triangles."""
    recipes.train(plain(), module_path)
    return module_path / "checkpoints" / "last.pt"


STILL = {**TRAIN, "optimizer": {"type": "SGD", "lr": 0.0}}
TWO = ["cross", "triangle"]


def two(**more):
    """Return a configuration for two classes that leaves its weights as they are loaded."""
    model = {**PLAIN, "bbox_head": {**PLAIN["bbox_head"], "num_classes": 2}}
    return plain(model=model, data={"train": shapes(classes=TWO)}, train=STILL, **more)


def weights(folder):
    return read_checkpoint(folder / "checkpoints" / "last.pt")["model"]


class TestLoadFrom:
    def test_other_classes_work_and_are_told_in_a_sentence(self, trained, tmp_path, caplog):
        recipes.train(two(load_from=str(trained)), tmp_path / "run")
        [note] = [m for m in caplog.messages if "initialisation" in m]
        assert note.endswith(
            "the weights tell 3 classes apart, ['circle', 'square', 'triangle'], the data have "
            "['cross', 'triangle']: of bbox_head.conv_cls the rows of ['triangle'] are taken over, "
            "all others are left at initialisation"
        )
        before, after = read_checkpoint(trained)["model"], weights(tmp_path / "run")
        assert torch.equal(after[CLS][1], before[CLS][2])
        assert all(torch.equal(after[k], before[k]) for k in after if "weight" in k and k != CLS)

    def test_a_wrong_shape_elsewhere_is_refused(self, trained, tmp_path):
        wide = ["model.neck.out_channels=8", "model.bbox_head.in_channels=8"]
        config = two(load_from=str(trained))
        with pytest.raises(CheckpointError, match=r"mis-shaped.*; leave names out by load_from.ig"):
            recipes.train(config, tmp_path / "run", wide)
        assert not (tmp_path / "run").exists()
        recipes.train(config, tmp_path / "run", [*wide, "load_from.strict=false"])

    def test_all_of_the_block(self, trained, tmp_path):
        content = read_checkpoint(trained)
        nested = {f"net.{k}": v for k, v in content["model"].items()}
        average = {k: v * 0 for k, v in nested.items()}
        path = tmp_path / "foreign.pt"
        save_checkpoint(path, {"weights": {"now": nested, "ema": average}, "meta": content["meta"]})
        block = {"checkpoint": str(path), "ema": False, "ignore": ["neck.*"], "prefix": "net."}
        recipes.train(plain(load_from=block, train=STILL), tmp_path / "run")
        after = weights(tmp_path / "run")
        same = {k for k in after if torch.equal(after[k], content["model"][k])}
        assert CLS in same
        assert "neck.fpn_convs.0.conv.weight" not in same
        recipes.train(plain(load_from=str(path), train=STILL), tmp_path / "averaged")
        assert not weights(tmp_path / "averaged")[CLS].any()

    def test_keys_may_be_set_where_a_path_was(self, tmp_path):
        config = write(plain(load_from="a.pt"), tmp_path)
        (tmp_path / "a.pt").touch()
        for overrides in (["load_from.strict=false"], {"load_from.strict": False}):
            loaded = read(config, overrides)[1].load_from
            assert (loaded.checkpoint, loaded.strict) == (str(tmp_path / "a.pt"), False)
        loaded = read(config, ["load_from=b.pt", "load_from.ema=false"])[1].load_from
        assert (loaded.checkpoint, loaded.ema) == ("b.pt", False)
        with pytest.raises(ConfigError, match="needs 'checkpoint'"):
            read(plain(), ["load_from.strict=false"])

    @pytest.mark.parametrize("command", ["test", "prune", "load_from"])
    def test_broken_weights_are_refused(self, trained, tmp_path, command):
        content = read_checkpoint(trained)
        content["model"][CLS][0, 0] = float("nan")
        path = tmp_path / "broken.pt"
        save_checkpoint(path, content)
        config = plain(prune={"budget": {"macs": "80%"}})
        calls = {
            "test": lambda: recipes.test(config, path, as_json=True),
            "prune": lambda: recipes.prune(config, path, tmp_path / "run"),
            "load_from": lambda: recipes.train(config, tmp_path / "run", [f"load_from={path}"]),
        }
        with pytest.raises(CheckpointError, match=rf"{CLS} is not finite"):
            calls[command]()
        assert not (tmp_path / "run").exists()

    def test_more_outputs_than_classes_are_told_and_judged(self, tmp_path, caplog):
        config = plain(data={"train": shapes(classes=TWO), "val": shapes(seed=1, classes=TWO)})
        config["model"] = {**PLAIN, "bbox_head": {**PLAIN["bbox_head"], "num_classes": 3}}
        recipes.train(config, tmp_path / "run")
        [note] = [m for m in caplog.messages if "tells 3 apart" in m]
        assert "set model.bbox_head.num_classes to 2" in note
