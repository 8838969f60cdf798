"""The examples of docs/distillation.md run as they stand."""

import re
from pathlib import Path

import pytest
import torch

from razorlite.structures import Target

PAGE = Path(__file__).parents[2] / "docs" / "distillation.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
LESSONS = [example for example in EXAMPLES if "distiller." in example]
WITHOUT_DATA = [example for example in EXAMPLES if "without_data(" in example]
LOSSES = [example for example in EXAMPLES if example not in [*LESSONS, *WITHOUT_DATA]]
SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LESSONS)))
def test_an_example_teaches_in_ten_lines(number):
    example = LESSONS[number]
    lines = [line for line in example.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    boxes = {"boxes": torch.tensor([[8.0, 8, 60, 70]]), "labels": torch.tensor([1])}
    names = {"torch": torch, "SIZE": {"min_size": 96, "max_size": 96}}
    names |= {"images": torch.rand(2, 3, 96, 96), "targets": [boxes] * 2}
    names |= {"labelled": [Target(**boxes)] * 2, "WEIGHTS": None, "OPTIONS": SMALL}
    if "Timm" in example:
        pytest.importorskip("timm")
    exec(example, names)
    student, taught = names["student"], names["distiller"]
    assert names["total"].isfinite()
    assert any(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in taught.teacher.parameters())


@pytest.mark.parametrize("example", LOSSES)
def test_a_loss_by_itself_teaches_the_student_alone(example):
    names = {}
    exec(example, names)
    assert names["student"].grad.isfinite().all()
    assert names["teacher"].grad is None


@pytest.mark.parametrize("example", WITHOUT_DATA)
def test_a_student_is_taught_without_data(example):
    names = {}
    exec(example, names)
    assert names["number"] == 1
    assert all(p.grad is None for p in names["teacher"].parameters())
