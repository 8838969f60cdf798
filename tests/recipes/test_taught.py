"""What is told of a distillation that has ended."""

import logging

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.distill import PKD, DistilledStep, Distiller, DistillPair
from razorlite.recipes.taught import Lesson, flat_losses
from razorlite.structures import Batch
from tests.distill.test_recipes import FASTER
from tests.distill.toys import Toy
from tests.recipes.runs import detector, last, ranks, run, split, write
from tests.recipes.test_classes import plain

MAPS = ("pkd", "cwd", "mgd", "fgd", "fbkd", "fitnets", "at", "score_l2", "crosskd", "kd", "ld")


def lines(values):
    return [{"kind": "train", "step": i, "distill_neck": v} for i, v in enumerate(values)]


def test_a_loss_that_does_not_fall():
    [told] = flat_losses(lines([1.0, 1.2, *[0.5] * 6, 1.1, 1.3]))
    assert "distill_neck has not fallen: 1.1 in the first fifth of the run, 1.2 in the last" in told
    assert list(flat_losses(lines([1.0, 1.2, *[0.5] * 6, 0.9, 0.9]))) == []
    assert list(flat_losses(lines([1.0] * 9))) == []


class Predicting(Toy):
    def predict(self, batch):
        return batch.images


@pytest.mark.parametrize(("theirs", "told"), [(0.2, True), (0.4, False)])
def test_a_teacher_worse_than_its_student(tmp_path, caplog, theirs, told):
    (tmp_path / "metrics.jsonl").write_text("")
    pair = DistillPair(student="neck", loss=PKD)
    distiller = Distiller(teacher=Predicting(), pairs=[pair], prepare=lambda x, sizes: 2 * x)
    seen = []

    def score(model):
        seen.append(model.predict(Batch(1.0 * Toy().stem.weight)))
        return {"AP": theirs}

    with caplog.at_level(logging.INFO):
        lesson = Lesson(DistilledStep(distiller=distiller), score)
        lesson.begin()
        assert f"the teacher has AP {theirs:.4f} on val" in caplog.text
        assert "distiller.score_teacher=false leaves it out" in caplog.text
        lesson.end(tmp_path, {"AP": 0.3})
    assert f"the teacher has AP {theirs:.4f} on val, its student 0.3000" in caplog.text
    assert ("it is the worse of the two" in caplog.text) is told
    assert len(seen) == 1


def test_a_teacher_that_cannot_be_scored_or_shall_not_be(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_text("")
    pair = DistillPair(student="neck", loss=PKD)
    step = DistilledStep(distiller=Distiller(teacher=Predicting(), pairs=[pair]))

    def broken(model):
        raise RuntimeError("has no boxes\nat all")

    with caplog.at_level(logging.INFO):
        for score in (broken, None):
            lesson = Lesson(step, score)
            lesson.begin()
            lesson.end(tmp_path, {"AP": 0.3})
    assert [r.message for r in caplog.records] == ["the teacher was not scored: has no boxes"]


def test_constant_maps(caplog):
    teacher = Toy()
    for parameter in teacher.parameters():
        nn.init.zeros_(parameter)
    distiller = Distiller(teacher=teacher, pairs=[DistillPair(student="neck", loss=PKD)])
    batch = Batch(nn.init.normal_(Toy().stem.weight.new_empty(1, 3, 8, 8)))
    for _ in range(2):
        distiller.teach(batch)
    assert caplog.text.count("'neck' is constant on the first batch") == 1


def test_a_constant_map_among_others(caplog):
    teacher = Toy()
    teacher.neck.register_forward_hook(lambda module, given, maps: (maps[0], 0 * maps[1]))
    distiller = Distiller(teacher=teacher, pairs=[DistillPair(student="neck", loss=PKD)])
    distiller.teach(Batch(torch.randn(1, 3, 8, 8)))
    assert "the teacher's 'neck[1]' is constant on" in caplog.text
    assert len(caplog.records) == 1


def dense():
    """A small detector with distributions of box sides."""
    anchors = {"ratios": [1.0], "scales": [3.0], "strides": [8, 16]}
    model = {**plain()["model"], "type": "GFL"}
    kept = {k: v for k, v in model["bbox_head"].items() if k not in ("type", "strides")}
    model["bbox_head"] = {"type": "GFLHead", **kept, "reg_max": 4, "anchor_generator": anchors}
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("model", "names"), [(dense, MAPS), (lambda: FASTER, ("proposals",))])
def test_all_recipes_of_two_processes_in_bf16(model, names, tmp_path):
    """A teacher for each recipe: two processes, bf16; the checkpoint is a plain student's."""
    base = detector(
        {
            "mutator": None,
            "model": model(),
            "data": {"train": split(8, 0), "val": split(4, 1), "test": split(4, 2)},
        }
    )
    base["train"] = {"max_steps": 2, "optimizer": {"type": "SGD", "lr": 1e-3}, "amp": "bf16"}
    run("train", write(base, tmp_path, "teacher.yaml"), folder=tmp_path / "teacher")
    block = {"config": "./teacher.yaml", "checkpoint": "./teacher/checkpoints/last.pt"}
    distiller = {"teachers": dict.fromkeys(names, block), "recipe": {n: n for n in names}}
    path = write({**base, "distiller": distiller}, tmp_path, "student.yaml")
    ranks("train", path, folder=tmp_path / "student")
    checkpoint = tmp_path / "student/checkpoints/last.pt"
    assert set(last(tmp_path / "student")["model"]) == set(last(tmp_path / "teacher")["model"])
    assert "AP" in recipes.test(path, checkpoint)
    assert "AP" in recipes.test(tmp_path / "teacher.yaml", checkpoint)
