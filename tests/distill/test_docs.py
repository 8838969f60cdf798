"""The examples of docs/distillation.md run as they stand."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "distillation.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
LESSONS = [example for example in EXAMPLES if "distiller." in example]
LOSSES = [example for example in EXAMPLES if example not in LESSONS]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(LESSONS)))
def test_an_example_teaches_in_ten_lines(number):
    example = LESSONS[number]
    lines = [line for line in example.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    boxes = {"boxes": torch.tensor([[8.0, 8, 60, 70]]), "labels": torch.tensor([1])}
    names = {"torch": torch, "SIZE": {"min_size": 96, "max_size": 96}}
    names |= {"images": torch.rand(2, 3, 96, 96), "targets": [boxes] * 2}
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
