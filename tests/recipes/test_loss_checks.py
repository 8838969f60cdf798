"""Losses that need layers, labels or boxes, in configurations: what the check finds."""

import pytest
import torch

from razorlite import recipes
from razorlite.core.config import Factory
from razorlite.core.errors import ConfigError
from razorlite.core.registry import lookup
from razorlite.distill import DistilledStep, Distiller, DistillPair, losses
from razorlite.recipes.checking import check_config
from razorlite.recipes.dry_step import compare_once, plain_build
from razorlite.recipes.experiment import read
from tests.recipes.test_classes import plain, shapes

CHANNELS = {"student_channels": 16, "teacher_channels": 16}


def pair(kind, **settings):
    return {"student": "neck[0]", "loss": {"type": kind, **settings}}


@pytest.mark.slow
def test_losses_of_detectors_are_right():
    pairs = [pair(kind, **CHANNELS) for kind in ("MGD", "FGD", "FBKD")]
    pairs += [pair("FactorTransfer", **CHANNELS, paraphraser_steps=5)]
    pairs += [pair("OFD"), pair("RKDDistance")]
    tree = plain(data={"train": shapes(4)})
    teacher = {"model": tree["model"]}
    assert check_config({**tree, "distiller": {"teacher": teacher, "pairs": pairs}}) == []


@pytest.fixture(scope="module")
def sides():
    """A student and its teacher on shapes alone."""
    config = read(plain(data={"train": shapes(4)}))[0]
    with torch.device("meta"):
        return [plain_build(config, {})() for _ in range(2)]


def compared(student, teacher, loss):
    with torch.device("meta"):
        pairs = [DistillPair(student="neck[0]", loss=loss)]
        step = DistilledStep(distiller=Distiller(teacher=teacher, pairs=pairs))
        student.model.requires_grad_()
        compare_once(step, student, (64, 64))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("DKD", {}, "DKD needs the images' labels, but detection has their boxes; take a loss"),
        ("CRD", CHANNELS, "CRD needs the images' labels"),
        ("FGD", {**CHANNELS, "student_channels": 8}, "features have 16; set student_channels"),
        ("MGD", {**CHANNELS, "teacher_channels": 8}, "features have 16; set teacher_channels"),
        ("MGD", {**CHANNELS, "mask_ratio": 1.0}, "mask_ratio: wants a number"),
        ("OFD", {"norm": "neck"}, "no batch norm with weights named norm 'neck'"),
        ("LD", {"bins": 17}, "16 channels, not 4 * bins = 68; set bins"),
    ],
)
def test_losses_that_do_not_fit_are_refused_in_one_line(sides, kind, settings, message):
    student, teacher = sides
    with pytest.raises(ConfigError) as caught:
        compared(student, teacher.model, Factory(kind, settings))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_loss_is_shown_with_a_line():
    lines = {line.split()[0]: line for line in recipes.show_types().splitlines() if line}
    for name in set(losses.__all__) - {"DistillLoss"}:
        assert lookup(name) is getattr(losses, name)
        assert lines[name].endswith((".", ")"))  # not cut off
