"""Losses of logits, relations, boundaries, dense heads and boxes: by hand and in slow loops."""

import math

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.distill import (
    DIST,
    DKD,
    FGD,
    LD,
    MGD,
    OFD,
    WSLD,
    ActivationBoundary,
    ChannelWiseDivergence,
    CrossKDQuality,
    FeatureL2,
    LogitKL,
    RKDAngle,
    RKDDistance,
    Scene,
    Side,
)
from razorlite.distill.losses.boundaries import relu_margin
from razorlite.distill.losses.focal import attentions, object_masks
from razorlite.structures import Batch, Target

LOG3 = math.log(3)
BINARY = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # KL of (3/4, 1/4) from (1/2, 1/2)


def maps(*shape):
    return torch.randn(*shape, requires_grad=True), torch.randn(*shape)


def scene(targets, images=None, teacher=None):
    batch = Batch(torch.zeros(2, 3, 32, 64) if images is None else images, targets)
    return Scene(batch, Side(nn.Identity(), None), Side(teacher or nn.Identity(), None))


def test_reductions_of_logit_kl():
    student, teacher = maps(2, 5, 3, 4)
    mean = LogitKL()(student, teacher)
    for reduction, times in (("batchmean", 12), ("mean", 1 / 5), ("sum", 24)):
        assert_close(LogitKL(reduction=reduction)(student, teacher), times * mean)


def test_divergence_over_channels_is_that_of_logits_at_each_location():
    student, teacher = maps(2, 5, 3, 4)
    value = ChannelWiseDivergence(over="channels", tau=2.0)(student, teacher)
    assert_close(value, LogitKL(tau=2.0)(student, teacher))


def test_l2_by_hand():
    # (3, 4) is (0.6, 0.8) at unit length, (1, 0) from it 0.4 and 0.8: 0.16 + 0.64
    student, teacher = tensor([[3.0, 4.0], [1.0, 0.0]]), tensor([[1.0, 0.0], [2.0, 0.0]])
    assert_close(FeatureL2()(student, teacher), tensor(0.4))
    assert_close(FeatureL2(normalize=False, root=True)(student, teacher), tensor(21.0).sqrt())


def test_dkd_by_hand():
    # target against rest: student (1/3, 2/3), teacher (3/5, 2/5); the others are (3/4, 1/4)
    student, teacher = torch.zeros(1, 3), tensor([[6.0, 3.0, 1.0]]).log()
    target = 0.6 * math.log(1.8) + 0.4 * math.log(0.6)
    value = DKD(tau=1.0, alpha=2.0, beta=3.0)(student, teacher, labels=tensor([0]))
    assert_close(value, tensor(2 * target + 3 * BINARY))


def test_dkd_with_the_teachers_share_of_the_rest_is_plain_kd():
    # eq. 6: KD = TCKD + (1 - p_t) NCKD
    student, teacher = maps(1, 6)
    rest = 1 - (teacher / 2).softmax(1)[0, 2].item()
    value = DKD(tau=2.0, beta=rest)(student, teacher, labels=tensor([2]))
    assert_close(value, LogitKL(tau=2.0)(student, teacher))


def test_wsld_in_a_loop():
    student, teacher = maps(4, 6)
    labels, total = tensor([0, 3, 5, 1]), 0.0
    for ours, theirs, label in zip(student, teacher, labels, strict=True):
        ratio = ours.log_softmax(0)[label] / theirs.log_softmax(0)[label]
        soft = -((theirs / 2).softmax(0) * (ours / 2).log_softmax(0)).sum()
        total = total + 4 * (1 - torch.exp(-ratio.detach())) * soft / 4
    value = WSLD(tau=2.0)(student, teacher, labels=labels)
    assert_close(value, total)
    assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (value, total)))


def test_wsld_of_a_perfect_student_has_no_gradient():
    student = torch.randn(4, 6, requires_grad=True)
    WSLD()(student, student.detach().clone(), labels=torch.arange(4)).backward()
    assert_close(student.grad, torch.zeros(4, 6), atol=1e-6, rtol=0)


def test_dist_is_one_minus_correlations_along_both_sides():
    student, teacher = maps(5, 4)
    ours, theirs = (t.detach().div(2).softmax(1) for t in (student, teacher))

    def mean(pairs):
        return torch.stack([1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()

    rows, columns = zip(ours, theirs, strict=True), zip(ours.T, theirs.T, strict=True)
    expected = 4 * (2 * mean(rows) + 3 * mean(columns))
    value = DIST(tau=2.0, beta=2.0, gamma=3.0)(student, teacher)
    assert_close(value.detach(), expected, rtol=1e-4, atol=1e-5)


def test_dist_takes_locations_for_images():
    student, teacher = maps(2, 5, 3, 4)
    flat = [t.permute(0, 2, 3, 1).reshape(-1, 5) for t in (student, teacher)]
    assert_close(DIST()(student, teacher), DIST()(*flat))


def test_distances_by_hand():
    # student's 3, 4, 5 by their mean 4; teacher's three equal ones are 1 each
    student = tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.eye(3)
    expected = 2 * (0.25**2 + 0 + 0.25**2) / 2 / 9
    assert_close(RKDDistance(normalize=False)(student, teacher), tensor(expected))


def test_angles_in_a_loop():
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 3)

    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / (a.norm() * b.norm()) if i != j != k else x.new_zeros(())

    total = 0.0
    for i in range(4):
        for j in range(4):
            for k in range(4):
                gap = (cosine(student, i, j, k) - cosine(teacher, i, j, k)).abs()
                total = total + (gap.square() / 2 if gap < 1 else gap - 0.5) / 64
    assert_close(RKDAngle(normalize=False)(student, teacher), total)


@pytest.mark.parametrize("kind", [RKDDistance, RKDAngle])
def test_relations_of_one_image_or_of_equal_ones_are_nothing_and_finite(kind):
    for student in (torch.randn(1, 4), torch.ones(3, 4)):
        student.requires_grad_()
        value = kind()(student, torch.randn(len(student), 6) * 0)
        value.backward()
        assert value == 0
        assert student.grad.isfinite().all()


def test_ofd_by_hand():
    # counts: 1 against 2 (teacher alive) 1; -3 against -1 stays dead; 1 against -1: 4; /2 images
    student, teacher = tensor([[1.0, -3.0], [1.0, 0.0]]), tensor([[2.0, -1.0], [-1.0, 0.0]])
    assert_close(OFD(mul_factor=10.0)(student, teacher), tensor(5 / 2 / 10))
    # a margin of -0.5 lifts -1: 1 against -0.5 is 2.25
    value = OFD(mul_factor=1.0)(student, teacher, margin=tensor([-0.5, -0.5]))
    assert_close(value, tensor((1 + 2.25) / 2))


def test_the_margin_is_the_mean_of_what_is_below_zero():
    norm = nn.BatchNorm1d(3)
    norm.weight.data, norm.bias.data = tensor([2.0, -0.5, 0.1]), tensor([0.0, 0.3, 9.0])
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    drawn = [values * 2, values * 0.5 + 0.3]
    expected = torch.stack([v[v < 0].mean() for v in drawn])
    margin = relu_margin(norm)
    assert_close(margin[:2], expected, rtol=0.02, atol=0)
    assert_close(margin[2], tensor(-0.3))  # never below zero: three deviations


def test_ofd_finds_the_teachers_norm():
    teacher = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    known = OFD(norm="1").known(scene(None, teacher=teacher))
    assert_close(known["margin"], torch.full((4,), -math.sqrt(2 / math.pi)))
    with pytest.raises(ConfigError, match="no batch norm with weights named norm '0'"):
        OFD(norm="0").known(scene(None, teacher=teacher))


def test_activation_boundaries_by_hand():
    # active: (1 - 0.5)^2, then beyond the margin; not active: (1 + 0.5)^2, then beyond
    student, teacher = tensor([[0.5, 2.0, 0.5, -2.0]]), tensor([[3.0, 0.1, -1.0, 0.0]])
    assert_close(ActivationBoundary(weight=1.0)(student, teacher), tensor(0.25 + 2.25))


def test_crosskd_by_hand():
    # student says 1/2, teacher 3/4: log 2 times 1/4, squared 1/16
    student, teacher = torch.zeros(2, 1), tensor([[LOG3], [0.0]])
    assert_close(CrossKDQuality()(student, teacher), tensor(math.log(2) / 4 / 2))
    value = CrossKDQuality(beta=2.0)(student, teacher, weights=tensor([3.0, 1.0]), avg_factor=4.0)
    assert_close(value, tensor(3 * math.log(2) / 16 / 4))
    with pytest.raises(ConfigError, match="beta wants a number of at least 1"):
        CrossKDQuality(beta=0.5)


def test_localisation_by_hand():
    # one of four sides is (3/4, 1/4) against (1/2, 1/2)
    student, teacher = torch.zeros(1, 8), torch.zeros(1, 8)
    teacher[0, 2] = LOG3
    assert_close(LD(bins=2, tau=1.0)(student, teacher), tensor(BINARY / 4))
    halved = LD(bins=2, tau=1.0, mean_over_bins=True)(student, teacher)
    assert_close(halved, tensor(BINARY / 8))
    value = LD(bins=2, tau=1.0)(student, teacher, weights=tensor([3.0]), avg_factor=0.5)
    assert_close(value, tensor(BINARY / 4 * 6))
    with pytest.raises(ConfigError, match=r"8 channels, not 4 . bins = 12; set bins"):
        LD(bins=3)(student, teacher)


def test_localisation_on_maps_is_the_mean_over_locations():
    student, teacher = maps(2, 12, 3, 4)
    flat = [t.permute(0, 2, 3, 1).reshape(-1, 12) for t in (student, teacher)]
    assert_close(LD(bins=3)(student, teacher), LD(bins=3)(*flat))


def test_masked_generation_hides_a_share_and_learns_from_the_rest():
    torch.manual_seed(0)
    loss = MGD(student_channels=3, teacher_channels=4, mask_ratio=0.75)
    kept = loss.block.keep(torch.zeros(4, 4, 50, 50))
    assert kept.shape == (4, 1, 50, 50)
    assert kept.mean().item() == pytest.approx(0.25, abs=0.02)
    channels = MGD(student_channels=3, teacher_channels=4, mask_channels=True)
    assert channels.block.keep(torch.zeros(2, 4, 5, 5)).shape == (2, 4, 1, 1)
    student, teacher = torch.randn(2, 3, 5, 6, requires_grad=True), torch.randn(2, 4, 5, 6)
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert all(p.grad is not None for p in loss.parameters())
    with pytest.raises(
        ConfigError, match=r"MGD: teacher_channels is 4 but the teacher's .* have 3"
    ):
        loss(student, student)


def test_objects_of_any_size_weigh_alike():
    # 8 x 8 cells of 8 pixels; the box covers cells 1 to 3 and 2 to 4 as its ends are counted
    boxes = [tensor([[8.0, 16.0, 24.0, 32.0]]), torch.zeros(0, 4)]
    inside, outside = object_masks(boxes, (64, 64), torch.zeros(2, 3, 8, 8))
    assert_close(inside[0].sum(), tensor(1.0))
    assert (inside[0] > 0).nonzero().tolist() == [[y, x] for y in (2, 3, 4) for x in (1, 2, 3)]
    assert_close(outside.sum((1, 2)), torch.ones(2))
    assert_close(outside[1], torch.full((8, 8), 1 / 64))
    # where boxes overlap, the smaller one counts
    both, _ = object_masks(
        [tensor([[0.0, 0, 63, 63], [8, 16, 24, 32]])], (64, 64), torch.zeros(1, 1, 8, 8)
    )
    assert both[0, 3, 2] == inside[0, 3, 2]


def test_fgd_in_a_loop():
    student, teacher = maps(2, 4, 4, 8)
    loss = FGD(
        student_channels=4, teacher_channels=4, foreground=2.0, background=3.0, attention=5.0
    )
    boxes = [
        tensor([[0.0, 0.0, 20.0, 12.0]]),
        tensor([[9.0, 9.0, 30.0, 30.0], [40.0, 2.0, 60.0, 9.0]]),
    ]
    inside, outside = object_masks(boxes, (32, 64), teacher)
    (space, channels), (own_space, own_channels) = (
        attentions(teacher, 0.5),
        attentions(student, 0.5),
    )
    assert_close(space.mean((1, 2)), torch.ones(2))
    total = 0.0
    for n in range(2):
        for c in range(4):
            total = total + 5.0 * (own_channels[n, c] - channels[n, c]).abs()
            for y in range(4):
                for x in range(8):
                    gap = (student[n, c, y, x] - teacher[n, c, y, x]) ** 2
                    weight = 2.0 * inside[n, y, x] + 3.0 * outside[n, y, x]
                    total = total + weight * space[n, y, x] * channels[n, c] * gap
        total = total + 5.0 * (own_space[n] - space[n]).abs().sum()
    # context adds nothing at first: the plain squared difference
    total = (total + 5e-6 * (student - teacher).square().sum()) / 2
    assert_close(loss(student, teacher, boxes=boxes, image_size=(32, 64)), total)


def test_boxes_and_labels_come_from_the_batch():
    box = tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    targets = [
        Target(box, tensor([0, 1]), tensor([False, True])),
        Target(box[:0], tensor([]).long()),
    ]
    known = FGD(student_channels=2, teacher_channels=2).known(scene(targets))
    assert_close(known["boxes"], [box[:1], box[:0]])
    assert known["image_size"] == (32, 64)
    assert DKD().known(scene(tensor([1, 0]))) == {"labels": pytest.approx(tensor([1, 0]))}
    with pytest.raises(ConfigError, match=r"FGD needs boxes, .* these have one label each: use"):
        FGD(student_channels=2, teacher_channels=2).known(scene(tensor([1, 0])))
    with pytest.raises(ConfigError, match=r"DKD needs one label .* a list of Target: use a loss"):
        DKD().known(scene(targets))
    with pytest.raises(ConfigError, match=r"WSLD compares class logits \(N, C\) .* \(2, 3, 4, 4\)"):
        WSLD()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), labels=tensor([0, 1]))


LABELS = {"labels": tensor([0, 3, 1, 2, 0])}
BOXES = {"boxes": [tensor([[4.0, 4.0, 20.0, 20.0]])] * 5, "image_size": (32, 32)}
CONTRACTS = [
    (RKDDistance(), (5, 4), {}),
    (RKDAngle(), (5, 4), {}),
    (LD(bins=2), (5, 8), {}),
    (DKD(), (5, 4), LABELS),
    (FGD(student_channels=4, teacher_channels=4), (5, 4, 8, 8), BOXES),
]


@pytest.mark.parametrize(("loss", "shape", "known"), CONTRACTS, ids=lambda x: type(x).__name__)
def test_gradients_reach_the_student_alone_and_vanish_with_the_loss(loss, shape, known):
    student, teacher = (torch.randn(shape, requires_grad=True) for _ in range(2))
    value = loss(student, teacher, **known)
    (gradient,) = torch.autograd.grad(value, student, retain_graph=True)
    value.backward()
    assert teacher.grad is None
    step = 1e-2 / gradient.norm() ** 2 * value
    assert 0 < loss(student - step * gradient, teacher, **known) < value
    if isinstance(loss, FGD):  # as if both sides had learnt one context
        loss.student_context.load_state_dict(loss.teacher_context.state_dict())
    same = teacher.detach().clone().requires_grad_()
    perfect = loss(same, teacher, **known)
    perfect.backward()
    assert_close(perfect, tensor(0.0), atol=1e-6, rtol=0)
    assert_close(same.grad, torch.zeros(shape), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("loss", "shape", "known"), CONTRACTS, ids=lambda x: type(x).__name__)
def test_lower_precision_is_cast_up_first(loss, shape, known):
    student, teacher = torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16()
    exact = loss(student.float(), teacher.float(), **known)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher, **known)
    assert value.dtype == torch.float32
    assert_close(value, exact, rtol=0, atol=0)
