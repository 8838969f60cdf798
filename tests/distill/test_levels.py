"""Levels of pyramids that go together, and the sizes they are brought to."""

import pytest
import torch
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.distill import Distiller, DistillPair, FeatureMSE, Scene, Side
from razorlite.distill.levels import paired_levels, resized
from razorlite.structures import Batch
from tests.distill.toys import Toy


def pyramid(*sides):
    return [torch.zeros(1, 2, side, side) for side in sides]


def chosen(student, teacher, resize=False):
    pairs = paired_levels("here", pyramid(*student), pyramid(*teacher), resize)
    return [(ours.shape[2], theirs.shape[2]) for ours, theirs in pairs]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((8, 4), (8, 4), [(8, 8), (4, 4)]),
        ((8, 4), (16, 8, 4, 2), [(8, 8), (4, 4)]),
        ((16, 8, 4, 2), (4, 8), [(4, 4), (8, 8)]),
        ((4, 8), (8, 4), [(4, 4), (8, 8)]),
        ((1, 1), (1, 1), [(1, 1), (1, 1)]),
        ((8, 4), (7, 3), [(8, 7), (4, 3)]),
    ],
)
def test_levels_go_in_order_or_by_size(student, teacher, expected):
    assert chosen(student, teacher) == expected


def test_levels_to_be_resized_go_in_order():
    assert chosen((4, 8), (8, 4), resize=True) == [(4, 8), (8, 4)]


@pytest.mark.parametrize(
    ("student", "teacher", "sizes"),
    [
        ((8, 4), (8, 4, 4), "8 x 8, 4 x 4 and 8 x 8, 4 x 4, 4 x 4"),
        ((8, 3), (8, 4, 2), "8 x 8, 3 x 3 and 8 x 8, 4 x 4, 2 x 2"),
    ],
)
def test_ambiguous_levels_are_refused_with_their_sizes(student, teacher, sizes):
    with pytest.raises(
        ConfigError, match=f"here: the student gives 2 maps, .* {sizes} do not tell"
    ):
        chosen(student, teacher)


def test_either_side_is_resized_to_the_other():
    student, teacher, images = Toy(stride=4), Toy(stride=2), torch.randn(2, 3, 16, 16)
    found = {}
    for side in (True, "student", "teacher"):
        pairs = [DistillPair(student="stem", loss=FeatureMSE, resize=side)]
        distiller = Distiller(teacher=teacher, pairs=pairs)
        with distiller.recorder(student) as recorder:
            student(images)
            scene = Scene(Batch(images), Side(student, recorder), distiller.teach(Batch(images)))
            found[side] = distiller.compare(scene)["stem"]
    ours, theirs = student.stem(images), teacher.stem(images)
    larger, smaller = resized(ours, (8, 8)), resized(theirs, (4, 4))
    assert_close(found[True], (larger - theirs).square().mean())
    assert_close(found["student"], found[True])
    assert_close(found["teacher"], (ours - smaller).square().mean())
