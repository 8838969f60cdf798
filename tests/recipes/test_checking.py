"""What training refuses, the check refuses: shapes, classes, metrics, budgets, files."""

import copy

import pytest

from razorlite.core.config import ConfigError
from razorlite.recipes.checking import check_config
from tests.recipes.runs import detector, split

TRAIN = {"max_steps": 4, "optimizer": {"type": "SGD", "lr": 0.01}}
PLAIN = {
    "type": "RetinaNet",
    "backbone": {"type": "ResNet", "depth": 18},
    "neck": {
        "type": "FPN",
        "in_channels": [64, 128, 256, 512],
        "out_channels": 8,
        "num_outs": 5,
        "start_level": 1,
        "add_extra_convs": "on_input",
    },
    "bbox_head": {
        "type": "RetinaHead",
        "num_classes": 3,
        "in_channels": 8,
        "feat_channels": 8,
        "stacked_convs": 1,
    },
}


def supernet(**changes) -> dict:
    return detector({"train": copy.deepcopy(TRAIN), **changes})


def plain(**changes) -> dict:
    tree = supernet(model=copy.deepcopy(PLAIN), shape=[256, 256], **changes)
    del tree["mutator"]
    return tree


def faults(tree: dict, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_config(tree, overrides)
    return str(caught.value).split("\n")


def test_sound_ones_pass_without_a_remark():
    assert check_config(supernet(search={"constraints": {"macs": "90%"}})) == []
    several = {"metric": {"AP": "max", "macs": "min"}, "searcher": {"type": "RandomSearcher"}}
    assert check_config(supernet(search=several)) == []
    assert check_config(plain(prune={"budget": {"macs": "70%"}, "round_to": 2})) == []


@pytest.mark.parametrize(
    ("elastic", "searcher", "message"),
    [
        ({"share": 1.0}, "RandomSearcher", "search.elastic.share"),
        ({"keep": 0}, "RandomSearcher", "search.elastic.keep"),
        ({"part": 0.1}, "RandomSearcher", "part"),
        ({}, "PredictorSearcher", "search.elastic.keep 0.3 of the 1 candidates"),
    ],
)
def test_elastic_scoring_that_leaves_nobody_out_is_refused(elastic, searcher, message):
    search = {"elastic": elastic, "searcher": {"type": searcher}}
    assert message in "".join(faults(supernet(search=search)))


ANCHORS = "{anchor_generator: {ratios: [1.0], scales: [4.0], strides: %s}}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.bbox_head.in_channels=16",
            "--set model.bbox_head.in_channels: bbox_head.cls_convs.0.conv takes 16 ch",
        ),
        ("model.neck.out_channels=16", "takes 8 channels"),
        ("model.neck.in_channels=[64, 128, 256, 500]", "the backbone gives [64, 128, 256, 512]"),
        ("model.neck.in_channels=[64, 128, 256]", "the backbone gives [64, 128, 256, 512]"),
        ("model.backbone.out_indices=[0, 1, 2]", "the backbone gives [64, 128, 256]"),
        ("model.neck.num_outs=3", "has 5 strides"),
        (f"model.bbox_head={ANCHORS % '[8, 16, 32]'}", "has 3 strides, [8, 16, 32], but gets 5"),
        (f"model.bbox_head={ANCHORS % '[4, 8, 16, 32, 64]'}", "have the strides [8, 16, 32"),
        ("model.bbox_head.num_classes=2", "data.train has 3 classes"),
        ("data.val.dataset.classes=[circle, square, hexagon]", "data.val"),
        ("train.best_metric=APP", "'APP' is not among the metrics"),
        ("train.best_metric=AP/circle", "'AP/circle' is not among the metrics"),
        ("metric={type: Accuracy}", "metric is for classification, but the model, RetinaNet, is"),
        ("metric={type: CocoMetric, classes: [circle]}", "metric.classes is ['circle']"),
        ("metric=null", "the configuration has no `metric`"),
        ("data=null", "the configuration has no `data` block"),
        ("data.train=null", "the configuration has no data.train"),
        ("model.backbone.pretrained=none.pth", "no file 'none.pth'"),
        ("train.optimizer={type: SGD, lr: 1.0e+40}", "train.optimizer: cannot take a step"),
        ("train.optimizer={type: SparseAdam, lr: 0.1}", "does not support dense gradients"),
        ("train.max_epochs=3", "exactly one of max_epochs and max_steps"),
        ("data.holdout=0", "wants a number above 0 and below 1"),
        ("train.param_options.patterns.nekc.lr_mult=2", "matches no parameter"),
        ("train.optimizer={type: SGD, lr: 0.1, nesterov: true}", "Nesterov momentum requires"),
        ("train.optimizer.lr=-1", "--set train.optimizer.lr: wants a number of at least 0"),
        ("train.schedule={type: MultiStep, milestones: [3, 2]}", "that rises, got [3, 2]"),
        ("load_from=none.pt", "--set load_from: no file 'none.pt'"),
        ("subnet=none.yaml", "--set subnet: no file 'none.yaml'"),
        ("prune={budget: {macs: 1000}}", "reach"),
        ("prune={budget: {}}", "budget limits nothing"),
        ("prune={budget: {macs: 50%}, ignore: [nekc]}", "no module matches 'nekc'"),
        ("search={metric: APP}", "'APP' is not among the metrics"),
        ("search={metric: [AP, AP]}", "metric names 'AP' twice"),
        ("search={metric: {AP: more}}", "metric.AP: wants one of 'max', 'min'"),
        ("search={metric: [AP, APs]}", "EvolutionSearcher understands one objective"),
        (
            "search={metric: {AP: max, APP: min}, searcher: {type: RandomSearcher}}",
            "'APP' is not among the metrics",
        ),
        ("data.train.dataset={type: ShapesDataset, classes: [blob]}", "no shape 'blob'"),
        (
            "data.val.transforms=[{type: CenterCrop, size: [48, 48]}]",
            "--set data.val.transforms: CenterCrop of data.val cuts, mirrors or moves images",
        ),
        ("model.backbone.frozen_stages=7", "frozen_stages must be a number of stages"),
        ("model.backbone.strides=[8]", "need 4 numbers"),
    ],
)
def test_refuses(override, message):
    lines = faults(plain(), override)
    assert message in lines[0]
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.constraints.flops=1", "constraints know macs, params, got 'flops'"),
        ("search.constraints.macs=1000", "reachable"),
        ("search.constraints.macs=lots", "wants a number, text such as"),
        ("mutator.placeholder_mapping.other={choices: {a: {type: Skip}}}", "names 'other'"),
        ("mutator=null", "the model has placeholders"),
        ("model.backbone={type: ResNet, depth: 18}", "no placeholders"),
        ("model.bbox_head.strides=[8]", "has 1 strides, [8], but gets 2 maps"),
        (
            "search.searcher={type: EvolutionSearcher, top_k: 0}",
            "top_k: wants a whole number of at",
        ),
    ],
)
def test_refuses_of_a_supernet(override, message):
    lines = faults(supernet(), override)
    assert message in lines[0]
    assert len(lines) == 1


def test_all_at_once():
    tree = plain(load_from="none.pt", prune={"budget": {"macs": 1000}})
    lines = faults(tree, "train.best_metric=APP", "model.bbox_head.num_classes=2")
    assert [line.split(": ")[1] for line in lines] == [
        "load_from",
        "train.best_metric",
        "prune",
        "data.train",
    ]


def test_remarks_are_no_faults():
    tree = plain()
    tree["data"]["train"] = split(3, 0, batch_size=4)
    tree["data"]["test"]["dataset"] = {
        "type": "CocoDataset",
        "annotation": "no/none.json",
        "images": "no/none",
    }
    schedule = {"type": "MultiStep", "milestones": [9], "unit": "step", "warmup_steps": 4}
    tree["train"]["schedule"] = schedule
    remarks = check_config(tree)
    assert [r.split(": ")[1] for r in remarks] == [
        "train.schedule.warmup_steps",
        "train.schedule.milestones",
        "data.train.batch_size",
        "data.test",
    ]
    assert "there is no" in remarks[3]


def test_a_search_on_images_of_another_size_is_odd():
    tree = plain()
    resize = [{"type": "Resize", "size": [32, 32]}]
    tree["data"]["val"]["transforms"] = resize
    tree["data"]["search"] = {**split(4, 3), "transforms": []}
    [remark] = check_config(tree)
    assert "data.search: no transforms, which data.val has" in remark
    tree["data"]["search"]["transforms"] = resize
    assert check_config(tree) == []


def test_single_values_under_a_batch_norm():
    tree = plain()
    tree["data"]["train"] = split(1, 0, batch_size=4)
    data = tree["data"]["train"]
    data["transforms"], data["dataset"] = [], {**data["dataset"], "size": [32, 32]}
    assert "one value per channel" in faults(tree)[0]
    assert faults(tree)[0].count("data.train") == 1  # the entry is named once
    data["dataset"]["size"], tree["shape"] = [64, 64], [32, 32]  # training sees the images' size
    assert [r.split(": ")[1] for r in check_config(tree)] == ["data.train.batch_size"]


def test_foreign_code_runs_only_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spy.py").write_text("open('sprung', 'w').close()\n")
    (tmp_path / "mine.py").write_text(
        "open('sprung', 'w').close()\n"
        "from razorlite.models.necks.fpn import FPN\n"
        "class Neck(FPN): ...\n"
        "def loose(): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tree = plain()
    tree["model"]["neck"]["type"] = "mine.Neck"
    tree["custom_imports"] = ["spy"]
    assert any("'mine.Neck' is not checked" in remark for remark in check_config(tree))
    assert not (tmp_path / "sprung").exists()
    assert check_config(tree, imports=True) == []
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "'os' has no class or function 'system'"),
        ("shutil.rmtree", "'shutil.rmtree' is not surely a Module"),
        ("subprocess.Popen", "'subprocess.Popen' is not surely a Module"),
        ("no_such_module.Neck", "cannot import 'no_such_module'"),
        ("torch.nn.NoSuchLayer", "has no class or function 'NoSuchLayer'"),
        ("torch._C.Size", "a dotted path is that of a public class"),
        ("torch..nn", "a dotted path is that of a public class"),
        ("torch.nn", "has no class or function 'nn'"),
    ],
)
def test_dotted_types_are_public_classes_of_the_wanted_kind(path, message):
    with pytest.raises(ConfigError) as caught:
        check_config(plain(), [f"model.neck={{type: {path}}}"], imports=True)
    assert message in str(caught.value)


def test_a_name_that_is_not_in_a_folder_is_a_fault_and_a_missing_folder_a_remark(tmp_path):
    (tmp_path / "cells").mkdir()
    tree = plain()
    for root, expected in (
        ("cels", None),
        ("else/where/cells", f"there is no {tmp_path / 'else/where'}"),
    ):
        part = {"dataset": {"type": "VocDataset", "root": str(tmp_path / root), "classes": ["a"]}}
        tree["data"]["train"] = part
        if expected is None:
            assert any("did you mean 'cells'" in fault for fault in faults(tree))
        else:
            assert any(expected in remark for remark in check_config(tree))
