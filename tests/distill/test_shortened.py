"""A teacher runs as far as it is recorded; several run under their names."""

import torch
from torch import nn
from torch.testing import assert_close

from razorlite.distill import PKD, Distiller, DistillPair, Teachers
from razorlite.distill.shortened import Shortened
from razorlite.structures import Batch
from tests.distill.toys import Toy

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Counted(nn.Module):
    """A head on both levels, then something that is never recorded."""

    def __init__(self):
        super().__init__()
        self.toy, self.after = Toy(), nn.Identity()
        self.heads, self.finished = 0, 0
        self.toy.head.register_forward_hook(self._count)

    def _count(self, *_):
        self.heads += 1

    def forward(self, images):
        maps = self.toy(images)
        self.finished += 1
        return self.after(maps[0])


def taught(model, place):
    return Distiller(teacher=model, pairs=[DistillPair(student=place, loss=PKD)])


def test_nothing_behind_the_neck_runs_for_a_map_of_the_neck():
    model = Counted()
    distiller = taught(model, "toy.neck")
    first, second = (distiller.teach(Batch(IMAGES)).taps["toy.neck"] for _ in range(2))
    assert (model.heads, model.finished) == (2, 1)
    for one, other in zip(first, second, strict=True):
        assert_close(one, other, rtol=0, atol=0)


def test_a_layer_that_runs_on_every_level_runs_on_all():
    model = Counted()
    distiller = taught(model, "toy.head")
    counts = [len(distiller.teach(Batch(IMAGES)).taps["toy.head"]) for _ in range(3)]
    assert counts == [2, 2, 2]
    assert model.finished == 1


def test_hooks_are_removed():
    model = Counted()
    distiller = taught(model, "toy.neck")
    for _ in range(2):
        distiller.teach(Batch(IMAGES))
    hooked = [m for m in model.modules() if m._forward_hooks]
    assert hooked == [model.toy.head]
    assert model(IMAGES) is not None


def test_a_model_of_which_nothing_is_recorded_does_not_run():
    model = Counted()
    Shortened(model, [])(IMAGES)
    Shortened(model, None)(IMAGES)
    assert model.finished == 1


def test_several_teachers_each_with_its_images():
    small, large = Toy(), Toy(width=6)
    teachers = Teachers({"small": small, "large": large}, {"large": lambda x, sizes: 2 * x})
    pairs = [
        DistillPair(student="neck[0]", teacher="small.neck[0]", loss=PKD),
        DistillPair(student="stem", teacher="large.stem", loss=PKD),
    ]
    side = Distiller(teacher=teachers, pairs=pairs).teach(Batch(IMAGES))
    assert_close(side.taps["large.stem"][0], large.stem(2 * IMAGES))
    assert_close(side.taps["small.neck[0]"][0], small.features(IMAGES)[0])
