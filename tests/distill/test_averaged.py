"""The student's own average as its teacher."""

import copy

import pytest
import torch
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError
from razorlite.distill import DistilledStep, Distiller, DistillPair, FeatureMSE
from razorlite.engine.ema import EmaConfig
from razorlite.structures import Batch
from tests.distill.test_step import backward, plain
from tests.distill.toys import Toy

PAIRS = [DistillPair(student="neck", loss=FeatureMSE)]


def distilled(student, decay=0.75, warmup=0, **options):
    own = EmaConfig(decay=decay, warmup_steps=warmup)
    distiller = Distiller(teacher=copy.deepcopy(student), pairs=PAIRS, ema=own)
    return DistilledStep(distiller=distiller, base_step=plain, **options)


def test_each_optimiser_step_moves_the_average_once():
    student = Toy()
    step = distilled(student)
    torch.nn.init.ones_(student.stem.weight)  # such as weights that were loaded afterwards
    seen = []
    for number, value in enumerate((1.0, 5.0, 9.0)):
        torch.nn.init.constant_(student.stem.weight, value)
        step.begin(number)
        for _ in range(2):  # two batches of one step
            step(student, Batch(torch.rand(2, 3, 8, 8), None), backward)
        seen.append(step.distiller.teacher.stem.weight.unique().item())
    # 1; 0.75 * 1 + 0.25 * 5; 0.75 * 2 + 0.25 * 9
    assert seen == [1.0, 2.0, 3.75]
    assert all(p.grad is None for p in step.distiller.teacher.parameters())


def test_statistics_are_averaged_and_counts_copied():
    student = Toy()
    average = distilled(student).distiller.average
    average.follow(student)
    student.norm.running_mean.fill_(4.0)
    student.norm.num_batches_tracked.fill_(7)
    average.follow(student)
    [mean, variance] = average.statistics()
    assert_close(mean, torch.full((4,), 1.0))
    assert_close(variance, torch.ones(4))
    assert average._teacher.norm.num_batches_tracked == 7


def test_the_decay_warms_up():
    student = Toy()
    average = distilled(student, decay=0.5, warmup=2).distiller.average
    torch.nn.init.zeros_(student.head.weight)
    average.follow(student)
    torch.nn.init.ones_(student.head.weight)
    average.follow(student)
    # 1 - 0.5 * (1 - exp(-2 / 2))
    assert average._teacher.head.weight.unique().item() == pytest.approx(0.683940)


def test_the_average_begins_where_distillation_does_and_is_kept():
    student = Toy()
    step = distilled(student, start_step=1)
    batch = Batch(torch.rand(2, 3, 8, 8), None)
    step.begin(0)
    step(student, batch, backward)
    assert step.distiller.average.updates == 0
    step.begin(1)
    step(student, batch, backward)
    state = copy.deepcopy(step.state_dict())
    twin = distilled(Toy(), start_step=1)
    twin.load_state_dict(state)
    assert twin.distiller.average.updates == 1
    assert_close(twin.distiller.teacher.state_dict(), step.distiller.teacher.state_dict())
    assert [b.shape for b in step.statistics()] == [(4,), (4,)]


def test_a_checkpoint_of_another_teacher_is_refused():
    with pytest.raises(CheckpointError, match="no average of the student"):
        distilled(Toy()).load_state_dict({})


def test_an_average_teaches_in_a_loop_of_ones_own():
    student = Toy()
    distiller = distilled(student).distiller
    images = torch.rand(2, 3, 8, 8)
    for _ in range(2):
        with distiller.lesson(student, Batch(images)) as taught:
            loss = student.loss(images, None)["loss_map"] + taught()
        loss.backward()
    assert distiller.average.updates == 2
