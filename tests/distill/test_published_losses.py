"""Losses and their gradients against values of the systems that published them.

`published_losses.npz` holds, for each case, inputs in float32 and what the original computed from
them in float64: `CASE/student`, `CASE/teacher`, `CASE/value`, `CASE/grad`, further inputs and the
original's own settings.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from razorlite.distill import (
    DKD,
    FGD,
    MGD,
    OFD,
    PKD,
    AttentionTransfer,
    ChannelWiseDivergence,
    CrossKDQuality,
    FeatureL2,
    LogitKL,
    RKDDistance,
)

pytestmark = pytest.mark.rounding

FIGURES = np.load(Path(__file__).with_name("published_losses.npz"))

CASES = [
    ("kl_logits_tau1.a", LogitKL()),
    ("kl_logits_tau4.a", LogitKL(tau=4.0, weight=2.0)),
    ("kl_map_tau2.a", LogitKL(tau=2.0, reduction="batchmean")),
    ("kl_map_mean.a", LogitKL(reduction="mean")),
    ("cwd_tau1.a", ChannelWiseDivergence(weight=10.0)),
    ("cwd_tau4.a", ChannelWiseDivergence(tau=4.0)),
    ("pkd.a", PKD(weight=6.0)),
    ("pkd_resize_student.a", PKD()),
    ("pkd_resize_teacher.a", PKD()),
    ("at_map.a", AttentionTransfer()),
    ("dkd_default.a", DKD(tau=1.0, beta=0.5)),
    ("dkd_tau4.a", DKD(tau=4.0, beta=8.0)),
    ("rkd_distance.a", RKDDistance(weight=25.0)),
    ("rkd_distance_map_nonorm.a", RKDDistance(normalize=False)),
    ("ofd.a", OFD(weight=0.5)),
    ("ofd_margin.a", OFD()),
    ("l2_default.a", FeatureL2()),
    ("l2_dist.a", FeatureL2(weight=0.03, normalize=False, root=True)),
    ("mgd.a", MGD(student_channels=8, teacher_channels=8)),
    (
        "mgd_align_channelmask.a",
        MGD(student_channels=6, teacher_channels=8, mask_channels=True),
    ),
    ("fgd.a", FGD(student_channels=8, teacher_channels=8)),
    ("fgd_align.a", FGD(student_channels=6, teacher_channels=8)),
    ("crosskd_cls.a", CrossKDQuality()),
]


def inputs(case):
    names = [name.removeprefix(f"{case}/") for name in FIGURES.files if name.startswith(f"{case}/")]
    return {n: torch.from_numpy(FIGURES[f"{case}/{n}"]) for n in names if n != "settings"}


@pytest.mark.parametrize(("case", "loss"), CASES, ids=[case for case, _ in CASES])
def test_value_and_gradient_are_the_published_ones(case, loss, monkeypatch):
    given = inputs(case)
    weights = {n.removeprefix("param."): v for n, v in given.items() if n.startswith("param.")}
    loss.load_state_dict({ours(name, loss): value for name, value in weights.items()})
    if "uniform" in given:
        monkeypatch.setattr(torch, "rand", lambda *_, **__: given["uniform"])
    student = given["student"].requires_grad_()
    value = loss(*resized(case, student, given["teacher"]), **known(loss, given))
    value.backward()
    expected = given["grad"]
    assert value.item() == pytest.approx(float(given["value"]), rel=1e-5)
    assert (student.grad - expected).abs().max() < 2e-5 * expected.abs().max()


def test_all_published_cases_are_here():
    assert {case for case, _ in CASES} == {name.rpartition("/")[0] for name in FIGURES.files}


def resized(case, student, teacher):
    """Bring one side to the other's size where the original does."""
    if "resize_student" in case:
        return F.interpolate(student, teacher.shape[2:], mode="bilinear"), teacher
    if "resize_teacher" in case:
        return student, F.interpolate(teacher, student.shape[2:], mode="bilinear")
    return student, teacher


def known(loss, given):
    """Return what a loss needs beside two tensors."""
    if isinstance(loss, DKD):
        return {"labels": given["labels"]}
    if isinstance(loss, OFD):
        return {"margin": given["margin"].flatten()} if "margin" in given else {}
    if isinstance(loss, FGD):
        return {"boxes": [given["boxes0"], given["boxes1"]], "image_size": (48, 40)}
    if isinstance(loss, CrossKDQuality):
        return {"weights": given["weight"], "avg_factor": 3.0}
    return {}


def ours(name, loss):
    """Return our name of a weight of the original's."""
    if isinstance(loss, MGD):
        return f"block.{name}"
    side = "student" if re.match(r"\w+_s\.", name) else "teacher"
    name = re.sub(r"^conv_mask_[st]", f"{side}_context.mask", name)
    return re.sub(r"^channel_add_conv_[st]", f"{side}_context.add", name)
