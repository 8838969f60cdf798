"""A teacher in a precision of its own: what it gives, and what stays the student's."""

import pytest
import torch
from torch.testing import assert_close

from razorlite.distill import (
    PKD,
    ConvConnector,
    DistilledStep,
    Distiller,
    DistillPair,
    FeatureMSE,
    Teachers,
)
from razorlite.structures import Batch
from tests.distill.toys import Toy

PLACES = ("stem", "neck", "head")


def taught(precision, training=None):
    """Return a step's metrics, the student's gradients, and the types of what ran."""
    torch.manual_seed(0)
    student, teacher, images = Toy(), Toy(width=8), torch.randn(4, 3, 16, 16)
    seen = {"student": set(), "teacher": set()}
    for name, model in (("student", student), ("teacher", teacher)):
        model.stem.register_forward_hook(lambda _, __, out, name=name: seen[name].add(out.dtype))
    connector = ConvConnector(student_channels=4, teacher_channels=8)
    pairs = [
        DistillPair(student="neck", loss=PKD, connector=connector),
        DistillPair(student="head", loss=FeatureMSE),
    ]
    step = DistilledStep(distiller=Distiller(teacher=teacher, pairs=pairs, precision=precision))
    with torch.autocast("cpu", training or torch.bfloat16, enabled=training is not None):
        metrics = step(student, Batch(images, None), torch.Tensor.backward)
    gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    return metrics, gradients, seen


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_student_stays_float32_and_losses_agree(precision):
    exact, expected, _ = taught(None)
    metrics, gradients, seen = taught(precision)
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    assert seen == {"student": {torch.float32}, "teacher": {half}}
    assert all(g.dtype == torch.float32 for g in gradients.values())
    assert metrics != exact  # the teacher did compute in less
    for name, value in exact.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=0.02)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert_close(gradients, expected, rtol=0.1, atol=0.02 * largest)


def test_a_teacher_stays_exact_while_the_student_trains_in_less():
    _, _, seen = taught("float32", torch.bfloat16)
    assert seen == {"student": {torch.bfloat16}, "teacher": {torch.float32}}


def test_what_is_recorded_is_float32_and_each_teacher_has_its_own():
    teachers = Teachers({"one": Toy(), "two": Toy()}, precision={"two": "bf16"})
    pairs = [
        DistillPair(student=place, teacher=f"{name}.{place}", loss=FeatureMSE)
        for name in teachers
        for place in PLACES
    ]
    distiller, images = Distiller(teacher=teachers, pairs=pairs), torch.randn(2, 3, 16, 16)
    recorded = distiller.teach(Batch(images, None)).taps
    found = {tap: recorded[tap][0] for tap in recorded.taps}
    assert all(t.dtype == torch.float32 for t in found.values())
    rounded = {tap: torch.equal(t, t.bfloat16().float()) for tap, t in found.items()}
    assert rounded == {tap: tap.startswith("two.") for tap in rounded}
