"""The distilled step: the sum of losses, the schedule, what is kept and what is not."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.distill import (
    ChannelWiseDivergence,
    ConvConnector,
    DistilledStep,
    Distiller,
    DistillPair,
    FeatureMSE,
)
from razorlite.engine.steps import Step
from razorlite.structures import Batch
from tests.distill.toys import Toy


def plain(model, batch, backward):
    losses = model.loss(batch.images, batch.targets)
    backward(sum(losses.values()))
    metrics = {name: float(value.detach()) for name, value in losses.items()}
    return {"loss": sum(metrics.values()), **metrics}


def twice(model, batch, backward):
    """A step of two backwards, as sandwich training does."""
    return {**plain(model, batch, backward), **plain(model, batch, backward)}


def neck_distiller(teacher=None, loss=FeatureMSE, **options):
    pair = DistillPair(student="neck", loss=loss, **options)
    return Distiller(teacher=teacher or Toy(), pairs=[pair])


def distilled(base_step=plain, teacher=None, **options):
    return DistilledStep(distiller=neck_distiller(teacher), base_step=base_step, **options)


def backward(loss):
    loss.backward()


@pytest.fixture
def batch():
    return Batch(torch.randn(2, 3, 16, 16), None)


def test_the_loss_is_the_base_loss_plus_the_teachers(batch):
    student, teacher = Toy(), Toy()
    twin = copy.deepcopy(student)
    metrics = distilled(teacher=teacher)(student, batch, backward)
    own = twin.loss(batch.images, None)["loss_map"]
    ours, theirs = twin.features(batch.images), teacher.features(batch.images)
    extra = sum((a - b).square().mean() for a, b in zip(ours, theirs, strict=True))
    (own + extra).backward()
    assert_close([p.grad for p in student.parameters()], [p.grad for p in twin.parameters()])
    assert metrics["distill_neck"] == pytest.approx(extra.item())
    assert metrics["loss_map"] == pytest.approx(own.item())
    assert metrics["loss"] == pytest.approx((own + extra).item())
    assert teacher.calls == 1


def test_several_backwards_each_get_the_teacher_who_runs_once(batch):
    student, teacher = Toy(), Toy()
    metrics = distilled(twice, teacher)(student, batch, backward)
    doubled = [p.grad for p in student.parameters()]
    student.zero_grad()
    once = distilled(plain, teacher)(student, batch, backward)
    assert_close(doubled, [2 * p.grad for p in student.parameters()])
    assert metrics["distill_neck"] == pytest.approx(once["distill_neck"])
    assert teacher.calls == 2


def test_start_stop_and_warm_up(batch):
    teacher, student = Toy(), Toy()
    step = distilled(teacher=teacher, start_step=2, stop_step=7, warmup_steps=4)
    scales = []
    for number in range(9):
        step.begin(number)
        scales.append(step.scale)
    assert scales == [0, 0, 0.25, 0.5, 0.75, 1, 1, 0, 0]
    assert "distill_neck" not in step(student, batch, backward)
    assert teacher.calls == 0
    step.begin(3)
    metrics = step(student, batch, backward)
    assert metrics["loss"] == pytest.approx(metrics["loss_map"] + metrics["distill_neck"] / 2)
    with pytest.raises(ConfigError, match="stop_step 3 must come after start_step 3"):
        distilled(start_step=3, stop_step=3)


def test_training_brings_the_student_to_the_teacher(batch):
    student, teacher = Toy(width=3).train(), Toy(width=6)
    connector = ConvConnector(student_channels=3, teacher_channels=6)
    step = DistilledStep(
        distiller=neck_distiller(teacher, ChannelWiseDivergence, connector=connector),
        base_step=plain,
    )
    optimizer = torch.optim.Adam([*student.parameters(), *connector.parameters()], lr=0.05)
    seen = []
    for _ in range(30):
        optimizer.zero_grad()
        seen.append(step(student, batch, backward)["distill_neck"])
        optimizer.step()
    assert seen[-1] < 0.3 * seen[0]


def test_the_student_alone_is_in_its_state_dict_and_has_no_hooks_left(batch):
    student = Toy()
    keys = list(student.state_dict())
    distilled()(student, batch, backward)
    assert list(student.state_dict()) == keys
    assert all(not m._forward_hooks for m in student.modules())


def test_hooks_go_when_the_base_step_raises(batch):
    def broken(model, batch, backward):
        model(batch.images)
        raise RuntimeError("broken")

    student, step = Toy(), distilled(broken)
    with pytest.raises(RuntimeError, match="broken"):
        step(student, batch, backward)
    assert all(not m._forward_hooks for m in student.modules())
    step.base_step = plain
    assert step(student, batch, backward)["distill_neck"] > 0


@pytest.mark.parametrize("checkpointed", [False, True])
def test_no_tensor_outlives_the_step(batch, checkpointed):
    student, step = Toy(checkpointed=checkpointed), distilled()
    watched: list[weakref.ref] = []
    for model in (student, step.distiller.teacher):
        model.neck.register_forward_hook(lambda m, i, o: watched.extend(map(weakref.ref, o)))
    step(student, batch, backward)
    gc.collect()
    assert len(watched) >= 4
    assert all(ref() is None for ref in watched)


def test_activation_checkpointing_changes_nothing(batch):
    teacher, student = Toy(), Toy()
    twin = copy.deepcopy(student)
    twin.checkpointed = True
    step = distilled(twice, teacher)
    metrics = [step(model, batch, backward)["distill_neck"] for model in (student, twin)]
    assert metrics[0] == pytest.approx(metrics[1])
    assert_close([p.grad for p in student.parameters()], [p.grad for p in twin.parameters()])


def test_mixed_precision_keeps_the_losses_in_float32(batch):
    student, teacher, losses = Toy(), Toy(), []

    def keep(loss):
        losses.append(loss)
        loss.backward()

    connector = ConvConnector(student_channels=4, teacher_channels=4)
    step = DistilledStep(distiller=neck_distiller(teacher, connector=connector), base_step=plain)
    exact = step(student, batch, keep)["distill_neck"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = step(student, batch, keep)["distill_neck"]
    assert float(rough) == pytest.approx(float(exact), rel=0.05)
    assert losses[1].dtype == torch.float32
    assert connector.conv.weight.grad.isfinite().all()


def test_it_passes_on_what_the_base_step_needs(batch):
    class Counting(Step):
        number = -1
        scale = nn.Parameter(torch.ones(1))

        def begin(self, step):
            self.number = step

        def named_parameters(self):
            yield "scale", self.scale

        def state_dict(self):
            return {"number": self.number}

        def load_state_dict(self, state):
            self.number = state["number"]

        __call__ = staticmethod(plain)

    connector = ConvConnector(student_channels=4, teacher_channels=4)
    distiller = neck_distiller(connector=connector)
    step = DistilledStep(distiller=distiller, base_step=Counting())
    step.begin(5)
    state = copy.deepcopy(step.state_dict())
    assert set(state["terms"]) == {"0.connector.conv.weight", "0.connector.conv.bias"}
    names = ["terms.0.connector.conv.weight", "terms.0.connector.conv.bias", "base.scale"]
    trained = dict(step.named_parameters())
    assert list(trained) == names
    own = [*connector.parameters(), Counting.scale]
    assert all(a is b for a, b in zip(trained.values(), own, strict=True))
    step.begin(9)
    nn.init.zeros_(connector.conv.weight)
    step.load_state_dict(state)
    assert step.base_step.number == 5
    assert connector.conv.weight.abs().sum() > 0


def test_state_of_other_connectors_is_refused():
    connector = ConvConnector(student_channels=4, teacher_channels=4)
    other = DistilledStep(distiller=neck_distiller(connector=connector), base_step=plain)
    with pytest.raises(CheckpointError, match="connectors are not those") as caught:
        distilled().load_state_dict(other.state_dict())
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="connectors are not those"):
        other.load_state_dict({})
    distilled().load_state_dict({"connectors": {}})  # as earlier versions wrote without any
