"""One list of classes for model, data, metric and checkpoint."""

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import Dataset
from razorlite.evaluation import CocoMetric
from razorlite.models.heads.class_head import class_counts
from razorlite.models.heads.linear_head import LinearHead
from razorlite.recipes.classes import compare, compare_metric
from razorlite.recipes.experiment import read
from razorlite.recipes.splits import Splits
from tests.recipes.runs import SHAPES, detector, split

THREE = ("circle", "square", "triangle")
TURNED = ["triangle", "circle", "square"]
TRAIN = {"max_steps": 1, "optimizer": {"type": "SGD", "lr": 1e-3}}
PLAIN = {
    "type": "FCOS",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [0]},
    "neck": {"type": "FPN", "in_channels": [48], "out_channels": 16, "num_outs": 2},
    "bbox_head": {
        "type": "FCOSHead",
        "num_classes": 3,
        "in_channels": 16,
        "feat_channels": 16,
        "stacked_convs": 1,
        "strides": [8, 16],
    },
}  # fmt: skip


def plain(**more):
    return detector({"mutator": None, "model": PLAIN, "train": TRAIN, **more})


def shapes(images=4, seed=0, **more):
    return {"batch_size": 4, "dataset": {**SHAPES, "num_images": images, "seed": seed, **more}}


def _head(classes):
    return LinearHead(num_classes=classes, in_channels=4)


class Own(nn.Module):
    def __init__(self, **values):
        super().__init__()
        for name, value in values.items():
            setattr(self, name, value)


class Listed(Dataset):
    """Items of given labels."""

    def __init__(self, classes, labels):
        self.classes, self.labels = tuple(classes), labels
        self.keys = [str(index) for index in range(len(labels))]

    faults = ()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.zeros(3, 8, 8, dtype=torch.uint8), self.labels[index]


class TestComparing:
    def test_a_head_with_fewer(self):
        model = Own(num_classes=9, head=_head(2))
        assert class_counts(model) == {"head": 2}
        with pytest.raises(ConfigError, match=r"3 classes, \['circle'.*tells 2 apart") as caught:
            compare(model, THREE)
        assert "set model.head.num_classes to 3" in str(caught.value)
        compare(Own(head=_head(3)), THREE)

    def test_a_head_with_more_is_told(self, caplog):
        compare(Own(head=_head(3)), THREE, dataset=Listed(THREE, [0]))
        assert not caplog.messages
        compare(Own(head=_head(4)), THREE, dataset=Listed(THREE, [0]))
        assert "the model tells 4 apart" in caplog.messages[0]

    def test_models_of_ones_own(self):
        compare(nn.Linear(3, 3), THREE)
        compare(Own(num_classes=3), THREE)
        compare(Own(num_classes=4), THREE)  # with background
        with pytest.raises(ConfigError, match="tells 2 apart"):
            compare(Own(num_classes=2), THREE)

    def test_a_root_category_is_suggested_away(self):
        names = ["shapes", *THREE]
        with pytest.raises(ConfigError, match=r"\['shapes'\] has no object.*dataset.classes=\['c"):
            compare(Own(head=_head(3)), names, dataset=Listed(names, [1, 3, 2, 2]))
        with pytest.raises(ConfigError) as caught:  # two are idle: three do not fit either
            compare(Own(head=_head(3)), names, dataset=Listed(names, [1, 3, 1]))
        assert "has no object" not in str(caught.value)

    def test_a_metric_of_other_names(self):
        compare_metric(CocoMetric(), THREE)
        compare_metric(CocoMetric(classes=["Kreis", "Quadrat", "Dreieck"]), THREE)
        for wrong in (list(THREE[:2]), TURNED):
            with pytest.raises(ConfigError, match=r"metric.classes is \["):
                compare_metric(CocoMetric(classes=wrong), THREE)


def _head(classes):
    from razorlite.models.heads.linear_head import LinearHead

    return LinearHead(num_classes=classes, in_channels=4)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("detr/detr_r50_150e_coco", ["bbox_head"]),
        ("mask_rcnn/mask_rcnn_r50_fpn_1x_coco", ["roi_head.bbox_head", "roi_head.mask_head"]),
        ("rtmdet/rtmdet-ins_tiny_8xb32-300e_coco", ["bbox_head"]),
    ],
)
def test_heads_of_shipped_models(name, heads):
    with torch.device("meta"):
        assert class_counts(recipes.build_model(name)) == dict.fromkeys(heads, 80)


class TestSplits:
    def test_all_have_the_labels_of_the_training_images(self):
        data = {"train": shapes(), "val": shapes(seed=1, classes=TURNED), "test": shapes(seed=2)}
        _, experiment = read(plain(data=data))
        splits = Splits(experiment, torch.device("cpu"))
        assert splits.val.classes == splits.test.classes == splits.classes == THREE
        raw = experiment.data.val.dataset()
        names = [TURNED[label] for label in raw[0][1].labels]
        assert [THREE[label] for label in splits.val[0][1].labels] == names

    def test_a_checkpoints_order_is_taken(self):
        _, experiment = read(plain())
        splits = Splits(experiment, torch.device("cpu"), TURNED)
        assert list(splits.test.classes) == list(splits.train.classes) == TURNED
        assert Splits(experiment, torch.device("cpu"), order=TURNED).classes == tuple(TURNED)
        assert Splits(experiment, torch.device("cpu"), order=["cat"]).classes == THREE


@pytest.fixture(scope="module")
def trained(module_path):
    """A checkpoint of the plain detector, trained for a step."""
    recipes.train(plain(), module_path)
    return module_path / "checkpoints" / "last.pt"


class TestCommands:
    def test_training_more_classes_than_the_head_has_is_refused(self, tmp_path):
        change = ["model.bbox_head.num_classes=2"]
        with pytest.raises(ConfigError, match=r"data.train has 3 classes.*bbox_head.num_classes"):
            recipes.train(plain(), tmp_path / "run", change)
        assert not (tmp_path / "run").exists()

    def test_metrics_do_not_depend_on_the_order_of_the_test_set(self, trained):
        turned = plain(data={"test": shapes(seed=2, classes=TURNED)})
        metrics = recipes.test(turned, trained, as_json=True)
        assert metrics["AP"] >= 0

    def test_test_images_of_other_classes_are_refused(self, trained):
        other = plain(data={"test": shapes(seed=2, classes=["circle", "cross"])})
        with pytest.raises(DataError, match=r"data.test has objects of \['cross'\]"):
            recipes.test(other, trained, as_json=True)

    def test_resuming_with_other_classes_is_refused(self, trained):
        other = plain(data={"train": shapes(classes=["circle", "cross", "square"])})
        with pytest.raises(DataError, match=r"\['circle', 'cross', 'square'\] against \['circle'"):
            recipes.train(other, trained.parents[1], resume=True)

    @pytest.mark.parametrize("command", ["test", "prune", "resume", "load_from"])
    def test_other_preprocessing_is_refused(self, trained, tmp_path, command):
        bgr = {"channels": "bgr", "std": [1, 1, 1], "train": split(8, 0), "test": split(4, 2)}
        config = plain(data=bgr, prune={"budget": {"macs": "80%"}})
        calls = {
            "test": lambda: recipes.test(config, trained, as_json=True),
            "prune": lambda: recipes.prune(config, trained, tmp_path / "run"),
            "resume": lambda: recipes.train(config, trained.parents[1], resume=True),
            "load_from": lambda: recipes.train(config, tmp_path / "run", [f"load_from={trained}"]),
        }
        with pytest.raises(ConfigError, match=r"trained on images of channels rgb.*channels bgr"):
            calls[command]()
        assert not (tmp_path / "run").exists()

    def test_a_search_over_a_supernet_of_other_means_is_refused(self, pipeline, tmp_path):
        with pytest.raises(ConfigError, match=r"data.mean=\[123.675"):
            recipes.search(
                pipeline.supernet, pipeline.weights, tmp_path / "run", ["data.mean=[0, 0, 0]"]
            )
