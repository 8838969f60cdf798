"""A classifier taught by a configuration that names no training images."""

import pytest
import torch
from torchvision.io import write_png

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.recipes.checking import check_config
from razorlite.recipes.expanding import expanded
from razorlite.recipes.experiment import read
from tests.recipes.own_steps import stop_and_resume
from tests.recipes.runs import last, lines, ranks, write

MODEL = {
    "type": "ImageClassifier",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [0, 1]},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearHead", "num_classes": 2, "in_channels": 96},
}
GENERATOR = {"type": "ImageGenerator", "shape": [32, 32], "latent": 3, "channels": [4, 4]}
TRAIN = {"max_steps": 6, "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}, "log_every": 1}
BLOCK = {"teacher": "./teacher.yaml", "checkpoint": "./teacher/checkpoints/last.pt"}

HALF = {"config": BLOCK["teacher"], "checkpoint": BLOCK["checkpoint"], "precision": "bf16"}


def config(**more):
    return {"model": MODEL, "shape": [32, 32], "device": "cpu", "data": {}, "train": TRAIN, **more}


def distiller(recipe="zskt", **synthetic):
    images = {"generator": GENERATOR, "batch_size": 4, **synthetic}
    return {**BLOCK, "recipe": recipe, "synthetic": images}


@pytest.fixture(scope="module")
def folder(module_path):
    """A folder with images of two classes to test on."""
    for number, name in enumerate(("round", "angular")):
        (module_path / "images" / name).mkdir(parents=True)
        for image in range(2):
            pixels = torch.full((3, 32, 32), 60 + 100 * number + image, dtype=torch.uint8)
            write_png(pixels, str(module_path / "images" / name / f"{image}.png"))
    return module_path


@pytest.fixture(scope="module")
def taught(folder):
    """The same folder with a teacher."""
    data = images(folder)
    data = {"train": {**data, "batch_size": 2}, "val": data, "test": data}
    tree = config(data=data, metric={"type": "Accuracy"}, train={**TRAIN, "max_steps": 2})
    recipes.train(write(tree, folder, "teacher.yaml"), folder / "teacher")
    return folder


def images(folder):
    return {"dataset": {"type": "ImageFolderDataset", "root": str(folder / "images")}}


def student(folder, recipe="zskt", **more):
    data = images(folder)
    tree = config(data={"val": data, "test": data}, metric={"type": "Accuracy"})
    return {**tree, "distiller": distiller(recipe), **more}


@pytest.mark.slow
def test_a_recipe_comes_to_pairs_and_a_generator(taught):
    path = write({**student(taught), "distiller": {**BLOCK, "recipe": "dafl"}}, taught, "a.yaml")
    block = expanded(read(path)[0]).get("distiller")
    assert block["synthetic"]["generator"]["shape"] == [32, 32]
    assert block["synthetic"]["loss"]["features"] == "head.fc:input"
    assert [pair["student"] for pair in block["pairs"]] == [""]
    block = expanded(read(write(student(taught), taught, "b.yaml"))[0]).get("distiller")
    assert block["synthetic"]["generator"] == GENERATOR
    assert [pair["student"] for pair in block["pairs"]] == ["", "backbone[0]", "backbone[1]"]
    assert check_config(write(student(taught), taught, "c.yaml")) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": {**TRAIN, "max_steps": None, "max_epochs": 2}}, "set train.max_steps"),
        ({"train": {**TRAIN, "accumulate": 2}}, "train.accumulate: counts batches"),
        ({"distiller": {**distiller(), "start_step": 3}}, "start_step: goes with images that"),
        ({"distiller": {**distiller(), "task_weight": 0.5}}, "task_weight: goes with images that"),
        ({"distiller": {"teacher": HALF, "recipe": "zskt", "synthetic": {}}},
            "teacher.precision goes with images that are there"),
        ({"distiller": {**BLOCK, "synthetic": {}, "pairs": [
            {"student": "", "loss": {"type": "LogitKL"}}]}}, "needs 'generator', or a recipe"),
        ({"distiller": {"teacher": "ema", "recipe": "zskt", "synthetic": {}}}, "one teacher"),
        pytest.param(
            {"distiller": distiller(generator={**GENERATOR, "shape": [30, 32]})},
            "multiple of 4",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_without_data_is_refused(folder, more, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_config(write({**student(folder), **more}, folder, "wrong.yaml"))
    assert "\n" not in str(caught.value)


def test_training_images_beside_a_generator_are_refused(folder):
    tree = student(folder)
    tree["data"]["train"] = tree["data"]["val"]
    with pytest.raises(ConfigError, match=r"leave it out by data\.train=null"):
        check_config(write(tree, folder, "both.yaml"))


@pytest.mark.slow
def test_other_preprocessing_than_the_teachers_is_refused(taught):
    tree = student(taught)
    tree["data"]["mean"] = [1.0, 2.0, 3.0]
    with pytest.raises(ConfigError, match="makes images as the teacher sees them"):
        recipes.train(write(tree, taught, "mean.yaml"), taught / "mean")


@pytest.mark.slow
def test_it_is_resumed_exactly_and_ships_the_student_alone(taught, tmp_path):
    train = {**TRAIN, "amp": "bf16", "save_every": 3, "max_steps": 7}
    tree = student(taught, train=train)
    tree["distiller"]["synthetic"]["student_steps"] = 4
    stopping = {"type": "tests.recipes.own_steps.LearntFactor", "start": 1.0}
    tree["step"] = [{"type": "SyntheticStep"}, {"type": "DistilledStep"}, stopping]
    path = write(tree, taught, "student.yaml")
    stop_and_resume(path, tmp_path)
    assert "generator" in last(tmp_path / "whole")["step"]
    checkpoint = tmp_path / "whole/checkpoints/last.pt"
    assert "top1" in recipes.test(taught / "teacher.yaml", checkpoint)


@pytest.mark.slow
def test_recipes_of_classifiers_of_two_processes_in_bf16(taught, tmp_path):
    """A teacher for each recipe, and CRD's memory of both processes."""
    names = ("kd", "dkd", "dist", "wsld", "rkd")
    block = {"config": BLOCK["teacher"], "checkpoint": BLOCK["checkpoint"]}
    crd = {"type": "CRD", "student_channels": 96, "teacher_channels": 96, "memory": 8}
    pair = {"student": "neck", "teacher": "kd.neck", "loss": {**crd, "negatives": 4}}
    tree = student(taught, train={**TRAIN, "amp": "bf16", "max_steps": 2})
    tree["data"]["train"] = {**images(taught), "batch_size": 2}
    tree["distiller"] = {"teachers": dict.fromkeys(names, block), "pairs": [pair]}
    tree["distiller"]["recipe"] = {name: name for name in names}
    ranks("train", write(tree, taught, "all.yaml"), folder=tmp_path / "run")
    labels = last(tmp_path / "run")["step"]["terms"]
    assert any(int((v >= 0).sum()) == 8 for k, v in labels.items() if k.endswith("loss.labels"))
    checkpoint = tmp_path / "run/checkpoints/last.pt"
    assert "top1" in recipes.test(taught / "teacher.yaml", checkpoint)


@pytest.mark.slow
def test_the_memory_of_contrast_is_resumed_exactly(taught, tmp_path):
    crd = {"type": "CRD", "student_channels": 96, "teacher_channels": 96, "memory": 8}
    tree = student(taught, train={**TRAIN, "save_every": 2, "max_steps": 5})
    tree["train"] |= {"max_epochs": None}
    tree["data"]["train"] = {**images(taught), "batch_size": 2}
    pair = {"student": "neck", "loss": {**crd, "negatives": 4}}
    tree["distiller"] = {**BLOCK, "pairs": [pair]}
    stopping = {"type": "tests.recipes.own_steps.LearntFactor", "start": 1.0}
    tree["step"] = [{"type": "DistilledStep"}, stopping]
    stop_and_resume(write(tree, taught, "crd.yaml"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["zskt", "dafl"])
def test_two_processes_in_bf16(taught, tmp_path, recipe):
    tree = student(taught, recipe, train={**TRAIN, "amp": "bf16", "max_steps": 2})
    ranks("train", write(tree, taught, "two.yaml"), folder=tmp_path / "run")
    assert all(line["loss"] > 0 for line in lines(tmp_path / "run") if line["kind"] == "train")
    checkpoint = tmp_path / "run/checkpoints/last.pt"
    assert "top1" in recipes.test(taught / "teacher.yaml", checkpoint)
