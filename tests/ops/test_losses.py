import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss

from razorlite.ops.losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    sigmoid_focal_loss_sum,
    smooth_l1,
)


def test_focal_loss_by_hand():
    # p = 0.5 everywhere: object 0.25 * 0.5^2 * ln 2, background 0.75 * 0.5^2 * ln 2
    loss = sigmoid_focal_loss_sum(torch.zeros(1, 2), tensor([1]))
    assert_close(loss, tensor((0.25 + 0.75) * 0.25 * math.log(2)))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5)])
def test_focal_loss_and_gradient_equal_torchvision(alpha, gamma):
    logits = (torch.randn(200, 5) * 4).requires_grad_()
    labels = torch.randint(0, 6, (200,))
    target = F.one_hot(labels, 6)[:, :5].float()
    want = sigmoid_focal_loss(logits, target, alpha, gamma, reduction="sum")
    (want_grad,) = torch.autograd.grad(3 * want, logits)
    got = sigmoid_focal_loss_sum(logits, labels, alpha, gamma)
    (got_grad,) = torch.autograd.grad(3 * got, logits)
    assert_close(got, want)
    assert_close(got_grad, want_grad)


def test_focal_gradient_numerically():
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    labels = tensor([0, 1, 2, 3, -1, 3])
    single = sigmoid_focal_loss_sum(logits, labels)
    (grad,) = torch.autograd.grad(single, logits)
    for i, j in [(0, 0), (0, 1), (3, 2), (4, 0)]:
        step = torch.zeros_like(logits)
        step[i, j] = 1e-2
        ahead = sigmoid_focal_loss_sum(logits + step, labels)
        behind = sigmoid_focal_loss_sum(logits - step, labels)
        assert (ahead - behind).item() / 2e-2 == pytest.approx(grad[i, j].item(), abs=1e-3)


def test_ignored_rows_do_not_count():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = sigmoid_focal_loss_sum(logits, tensor([0, -1, 3, -1]))
    assert_close(loss, sigmoid_focal_loss_sum(logits[[0, 2]], tensor([0, 3])))
    loss.backward()
    assert (logits.grad[[1, 3]] == 0).all()


def test_focal_loss_is_finite_for_extreme_logits():
    logits = tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss = sigmoid_focal_loss_sum(logits, tensor([1, 2]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_smooth_l1_by_hand():
    # |0.5| < beta: 0.5 * 0.25 / 1; |3| above: 3 - 0.5
    assert_close(smooth_l1(tensor([0.5, 3.0]), torch.zeros(2)), tensor([0.125, 2.5]))
    assert_close(smooth_l1(tensor([0.5, -3.0]), torch.zeros(2), beta=0), tensor([0.5, 3.0]))


def test_quality_focal_loss_by_hand():
    # background entry at p = 0.5: ln 2 * 0.5^2; own entry: ln 2 * |0.9 - 0.5|^2
    loss = quality_focal_loss_sum(torch.zeros(3, 2), tensor([1, 2, -1]), tensor([0.9]))
    assert_close(loss, tensor((3 * 0.25 + 0.16) * math.log(2)))


def test_quality_focal_loss_with_quality_one_is_the_focal_loss_of_objects():
    logits, labels = torch.randn(20, 4, requires_grad=True), torch.randint(0, 5, (20,))
    quality = torch.ones(int((labels < 4).sum()))
    both = quality_focal_loss_sum(logits, labels, quality)
    assert_close(both, 2 * sigmoid_focal_loss_sum(logits, labels, alpha=0.5))
    (got,) = torch.autograd.grad(both, logits)
    (want,) = torch.autograd.grad(2 * sigmoid_focal_loss_sum(logits, labels, alpha=0.5), logits)
    assert_close(got, want)


def test_distribution_focal_loss_by_hand():
    # 1.25 lies between 1 (weight 0.75) and 2 (weight 0.25)
    chances = tensor([[0.1, 0.6, 0.3]])
    want = -(0.75 * math.log(0.6) + 0.25 * math.log(0.3))
    assert_close(distribution_focal_loss(chances.log(), tensor([1.25])), tensor([want]))
