"""Every loss against numbers worked out by hand and slow loops."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.core.registry import lookup
from razorlite.distill import (
    DIST,
    OFD,
    PKD,
    AttentionTransfer,
    ChannelWiseDivergence,
    CrossKDQuality,
    FeatureL2,
    FeatureMSE,
    LogitKL,
    SigmoidKL,
)

ALL = [
    FeatureMSE(),
    FeatureMSE(normalize=True),
    ChannelWiseDivergence(tau=2.0),
    LogitKL(tau=3.0),
    LogitKL(num_classes=2),
    SigmoidKL(tau=2.0, quality=1.0),
    AttentionTransfer(),
    PKD(),
    FeatureL2(),
    FeatureL2(normalize=False, root=True),
    ChannelWiseDivergence(over="channels"),
    DIST(tau=2.0),
    OFD(mul_factor=1.0),
    CrossKDQuality(beta=2.0),
]
LOG3 = math.log(3)


def test_mse_by_hand():
    # squared differences 1, 0, 4, 0: mean 1.25
    student, teacher = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[0.0, 2.0], [5.0, 4.0]])
    assert_close(FeatureMSE(weight=2.0)(student, teacher), tensor(2.5))


def test_normalized_mse_sees_directions_only():
    # unit vectors (0.6, 0.8) and (1, 0): squared differences 0.16 and 0.64, mean 0.4
    student, teacher = tensor([[3.0, 4.0]]), tensor([[7.0, 0.0]])
    assert_close(FeatureMSE(normalize=True)(student, teacher), tensor(0.4))


def test_channel_wise_divergence_by_hand():
    # Teacher's channel is spread (3/4, 1/4), the student's (1/2, 1/2):
    # 3/4 log(3/2) + 1/4 log(1/2); the second channel agrees, and channels are averaged.
    student = torch.zeros(1, 2, 1, 2)
    teacher = tensor([[[[LOG3, 0.0]], [[5.0, 5.0]]]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert_close(ChannelWiseDivergence()(student, teacher), tensor(expected))


def test_channel_wise_divergence_scales_by_tau():
    # Logits twice as large at tau 2 give the same distributions, times tau squared.
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    at_one = ChannelWiseDivergence()(student, teacher)
    assert_close(ChannelWiseDivergence(tau=2.0)(2 * student, 2 * teacher), 4 * at_one)


def test_channel_wise_divergence_equals_equation_4():
    student, teacher, tau = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2), 4.0
    total = 0.0
    for n in range(2):
        for c in range(3):
            t = (teacher[n, c].flatten() / tau).exp()
            s = (student[n, c].flatten() / tau).exp()
            t, s = t / t.sum(), s / s.sum()
            total += float((t * (t / s).log()).sum())
    expected = tensor(tau**2 / 3 * total / 2)
    assert_close(ChannelWiseDivergence(tau=tau)(student, teacher), expected)


def test_channel_wise_divergence_refuses_vectors():
    with pytest.raises(ConfigError, match="use LogitKL"):
        ChannelWiseDivergence()(torch.zeros(2, 3), torch.zeros(2, 3))


def test_logit_kl_by_hand():
    # teacher (3/4, 1/4), student (1/2, 1/2); the second image agrees
    student, teacher = torch.zeros(2, 2), tensor([[LOG3, 0.0], [0.0, 0.0]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert_close(LogitKL()(student, teacher), tensor(expected))
    assert_close(LogitKL(tau=2.0)(2 * student, 2 * teacher), tensor(4 * expected))


def test_dense_logit_kl_is_the_mean_over_locations():
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    flat = [t.permute(0, 2, 3, 1).reshape(-1, 5) for t in (student, teacher)]
    assert_close(LogitKL()(student, teacher), LogitKL()(*flat))


def test_logit_kl_splits_anchors():
    student, teacher = torch.randn(2, 6, 3, 4), torch.randn(2, 6, 3, 4)
    halves = [LogitKL()(student[:, i : i + 3], teacher[:, i : i + 3]) for i in (0, 3)]
    assert_close(LogitKL(num_classes=3)(student, teacher), sum(halves) / 2)
    with pytest.raises(ConfigError, match="6 channels, not a multiple of num_classes 4"):
        LogitKL(num_classes=4)(student, teacher)


def test_sigmoid_kl_by_hand():
    # teacher says 3/4, student 1/2, in one of two locations; the other agrees
    student, teacher = torch.zeros(1, 1, 1, 2), tensor([[[[LOG3, 0.0]]]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert_close(SigmoidKL()(student, teacher), tensor(divergence / 2))
    # weights 3/4 and 1/2: the first location has 0.6 of the total
    assert_close(SigmoidKL(quality=1.0)(student, teacher), tensor(0.6 * divergence))


def test_sigmoid_kl_of_a_hopeless_image_is_finite():
    teacher = torch.full((1, 2, 2, 2), -200.0)
    student = torch.zeros_like(teacher).requires_grad_()
    loss = SigmoidKL(quality=2.0)(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_attention_transfer_by_hand():
    # squares averaged over channels: student (4, 0) -> (1, 0); teacher (9, 16) -> (9, 16) / 337^.5
    student = tensor([[[[2.0, 0.0]]]])
    teacher = tensor([[[[3.0, 4.0]], [[-3.0, -4.0]]]])
    a, b = 9 / math.sqrt(337), 16 / math.sqrt(337)
    assert_close(AttentionTransfer()(student, teacher), tensor(((1 - a) ** 2 + b**2) / 2))


def test_pkd_is_one_minus_the_correlation_but_for_the_unbiased_deviation():
    student, teacher = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    correlations = [
        torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1]
        for c in range(4)
    ]
    expected = (1 - torch.stack(correlations).mean()) * (1 - 1 / (3 * 5 * 6))
    assert_close(PKD()(student, teacher), expected)


def test_pkd_ignores_scale_and_shift():
    maps = torch.randn(2, 3, 4, 4)
    assert_close(PKD()(maps, 7 * maps - 3), tensor(0.0), atol=1e-5, rtol=0)
    assert_close(PKD()(maps, -maps), tensor(2.0 * 31 / 32))


def test_pkd_of_a_single_value_per_channel_is_nothing():
    student = torch.randn(1, 3, 1, 1, requires_grad=True)
    loss = PKD()(student, torch.randn(1, 3, 1, 1))
    loss.backward()
    assert (loss, student.grad.abs().max()) == (0, 0)


def test_pkd_of_a_dead_channel_has_finite_gradients():
    student = torch.zeros(1, 2, 3, 3, requires_grad=True)
    PKD()(student, torch.randn(1, 2, 3, 3)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_a_perfect_student_has_no_loss_and_no_gradient(loss):
    teacher = torch.randn(2, 4, 3, 5)
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert_close(value, tensor(0.0), atol=1e-6, rtol=0)
    assert_close(student.grad, torch.zeros_like(teacher), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_a_wrong_student_has_a_positive_loss_that_gradient_steps_lower(loss):
    student, teacher = torch.randn(2, 4, 3, 5, requires_grad=True), torch.randn(2, 4, 3, 5)
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    step = 1e-2 / gradient.norm() ** 2 * value
    assert 0 < loss(student - step * gradient, teacher) < value


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_losses_are_float32_under_autocast(loss):
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    exact = loss(student.bfloat16(), teacher.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student.bfloat16(), teacher.bfloat16())
    assert value.dtype == torch.float32
    assert_close(value, exact, rtol=0, atol=0)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_the_teacher_takes_no_gradient(loss):
    student, teacher = (torch.randn(2, 4, 3, 5, requires_grad=True) for _ in range(2))
    loss(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", sorted({type(loss).__name__ for loss in ALL}))
def test_configurations_can_name_every_loss(name):
    assert lookup(name)(weight=0.5).weight == 0.5


@pytest.mark.parametrize("kind", [ChannelWiseDivergence, LogitKL, SigmoidKL])
def test_temperature_must_be_positive(kind):
    with pytest.raises(ConfigError, match="tau wants a number above 0, got 0"):
        kind(tau=0.0)


def test_the_gradient_of_pkd_is_that_of_the_formula():
    student = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 5, dtype=torch.float64)

    def standard(maps):
        return (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std((0, 2, 3), keepdim=True)

    expected = (standard(student) - standard(teacher)).square().mean() / 2
    value = PKD().compare(student, teacher)
    assert_close(value, expected)
    assert_close(
        *(torch.autograd.grad(3 * loss, student)[0] for loss in (value, expected)),
        rtol=1e-6,
        atol=0,
    )
    assert PKD()(student.detach(), student.detach()) == 0
