"""Losses and their gradients against values of the systems that published them.

`published_losses.npz` holds, for each case, inputs in float32 and what the original computed from
them in float64: `CASE/student`, `CASE/teacher`, `CASE/value`, `CASE/grad`. Where the original sums
over what razorlite averages (locations, channels), the metric is this many times as large.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from razorlite.distill import PKD, AttentionTransfer, ChannelWiseDivergence, FeatureMSE, LogitKL

pytestmark = pytest.mark.rounding

FIGURES = np.load(Path(__file__).with_name("published_losses.npz"))
SIDES = ("student", "teacher")
LOCATIONS, CHANNELS = 6 * 5, 8

CASES = [
    ("kl_logits_tau1.a", LogitKL(), 1),
    ("kl_logits_tau4.a", LogitKL(tau=4.0, weight=2.0), 1),
    ("kl_map_tau2.a", LogitKL(tau=2.0), LOCATIONS),
    ("kl_map_mean.a", LogitKL(), 1 / CHANNELS),
    ("cwd_tau1.a", ChannelWiseDivergence(weight=10.0), 1),
    ("cwd_tau4.a", ChannelWiseDivergence(tau=4.0), 1),
    ("pkd.a", PKD(weight=6.0), 1),
    ("pkd_resize_student.a", PKD(), 1),
    ("pkd_resize_teacher.a", PKD(), 1),
    ("at_map.a", AttentionTransfer(), 1),
    ("l2_default.a", FeatureMSE(normalize=True), CHANNELS * LOCATIONS),
]


@pytest.mark.parametrize(("case", "loss", "times"), CASES, ids=[case for case, *_ in CASES])
def test_value_and_gradient_are_the_published_ones(case, loss, times):
    student, teacher = (torch.from_numpy(FIGURES[f"{case}/{name}"]) for name in SIDES)
    student.requires_grad_()
    value = times * loss(*prepared(case, student, teacher))
    value.backward()
    expected = torch.from_numpy(FIGURES[f"{case}/grad"])
    assert value.item() == pytest.approx(float(FIGURES[f"{case}/value"]), rel=1e-5)
    assert (student.grad - expected).abs().max() < 2e-5 * expected.abs().max()


def prepared(case, student, teacher):
    """Do what the original does first: bring one side to the other's size, or flatten images."""
    if "resize_student" in case:
        return F.interpolate(student, teacher.shape[2:], mode="bilinear"), teacher
    if "resize_teacher" in case:
        return student, F.interpolate(teacher, student.shape[2:], mode="bilinear")
    if case.startswith("l2"):
        return student.flatten(1), teacher.flatten(1)
    return student, teacher
