"""Terms: what they see, what they may give, and a supernet that teaches itself."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.distill import DistilledStep, Distiller, DistillPair, FeatureMSE
from razorlite.engine.steps import plain_step
from razorlite.models.detectors.single_stage import FCOS
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.structures import Batch, Target
from tests.distill.own_terms import AssignedLogits, Elsewhere, MatchMaps, Vector, joined
from tests.distill.toys import Toy


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 16, 16)

    def forward(self, images):
        fine = self.stem(images)
        return fine, F.avg_pool2d(fine, 2)


class Neck(nn.Module):
    def forward(self, maps):
        return tuple(m * 1 for m in maps)


def detector():
    head = FCOSHead(
        num_classes=2, in_channels=16, feat_channels=8, stacked_convs=1, strides=(16, 32)
    )
    return FCOS(backbone=Backbone(), neck=Neck(), bbox_head=head)


def batch():
    boxes = torch.tensor([[2.0, 2, 40, 50], [20, 20, 60, 60]])
    crowd = torch.tensor([False, True])
    targets = [Target(boxes, torch.tensor([1, 0]), crowd), Target(boxes[1:], torch.tensor([0]))]
    return Batch(torch.randn(2, 3, 64, 64), targets)


def distilled(teacher, *terms, pairs=(), base_step=plain_step, **options):
    distiller = Distiller(teacher=teacher, pairs=pairs, terms=terms)
    return DistilledStep(distiller=distiller, base_step=base_step, **options)


def trained(step, model, some):
    """Run a step and return its metrics as numbers, and the model's gradients."""
    model.zero_grad()
    metrics = step(model, some, lambda loss: loss.backward())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return {name: float(value) for name, value in metrics.items()}, gradients


def slow_assigned(model, teacher, some):
    """Every prediction of every image in turn, by its own assignment."""
    head = model.bbox_head
    raw, targets = model(some.images), [t.without_crowd() for t in some.targets]
    ours, theirs = joined(raw[0]), joined(teacher(some.images)[0]).sigmoid()
    index = head.assign(raw, targets, [(64, 64)] * len(targets)).index
    total, sizes = 0.0, 0.0
    for image in range(2):
        for row in range(index.shape[1]):
            if index[image, row] < 0:
                continue
            x1, y1, x2, y2 = targets[image].boxes[index[image, row]].tolist()
            size = ((x2 - x1) * (y2 - y1)) ** 0.5
            cross = F.binary_cross_entropy_with_logits(ours[image, row], theirs[image, row])
            total, sizes = total + size * 2 * cross, sizes + size
    return total / sizes


def test_a_term_reads_targets_and_the_assignment_of_the_students_one_forward():
    student, teacher, some = detector(), detector(), batch()
    calls = []
    student.register_forward_hook(lambda *_: calls.append(1))
    term = AssignedLogits(weight=3.0)
    metrics, gradients = trained(distilled(teacher, term), student, some)
    assert len(calls) == 1
    assert term.objects == 2  # one of three is a crowd
    teacher.eval()
    wanted = 3 * slow_assigned(student, teacher, some)
    assert metrics["distill_assigned.logits"] == pytest.approx(wanted.item(), rel=1e-5)
    assert metrics["distill_assigned.factor"] == 0
    student.zero_grad()
    (sum(student.loss(some.images, some.targets).values()) + wanted).backward()
    assert_close([p.grad for p in student.parameters()], gradients)
    assert term.factor.grad is not None
    assert "assign" not in vars(student.bbox_head)


def test_a_ramp_knows_how_far_the_run_is():
    student, teacher, some = detector(), detector(), batch()
    step = distilled(teacher, AssignedLogits(ramp=True), total_steps=4)
    found = []
    for number in (0, 3):
        step.begin(number)
        found.append(trained(step, student, some)[0]["distill_assigned.logits"])
    assert found[1] == pytest.approx(4 * found[0])


def test_teachers_of_any_kind_give_what_they_like():
    student, teacher, some = detector(), Elsewhere(), batch()
    metrics, _ = trained(distilled(teacher, MatchMaps), student, some)
    maps = zip(
        student.neck(student.backbone(some.images)), teacher(some.images)["maps"], strict=True
    )
    wanted = sum(F.mse_loss(ours, theirs) for ours, theirs in maps) / 2
    assert metrics["distill_MatchMaps"] == pytest.approx(wanted.item(), rel=1e-5)


def test_terms_and_pairs_stand_side_by_side_and_are_named_apart():
    pairs = [DistillPair(student="neck", loss=FeatureMSE)]
    step = distilled(detector(), MatchMaps, MatchMaps(), pairs=pairs)
    assert step.distiller.names == ["neck", "MatchMaps.1", "MatchMaps.2"]
    names = [n for n, _ in distilled(detector(), AssignedLogits, pairs=pairs).named_parameters()]
    assert names == ["terms.1.factor"]


def test_terms_are_built_alike_on_every_process_and_spare_the_random_state():
    class Drawing(MatchMaps):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.randn(3))

    teacher, state = Elsewhere(), torch.get_rng_state()
    first, second = (Distiller(teacher=teacher, terms=[Drawing], seed=5).terms for _ in range(2))
    assert torch.equal(first[0].value, second[0].value)
    assert torch.equal(torch.get_rng_state(), state)


def test_state_of_terms_is_kept_and_others_are_refused():
    step = distilled(detector(), AssignedLogits)
    step.distiller.terms[0].factor.data.fill_(7.0)
    step.distiller.terms[0].objects += 3
    state = copy.deepcopy(step.state_dict())
    other = distilled(detector(), AssignedLogits)
    other.load_state_dict(state)
    assert other.distiller.terms[0].factor.item() == 7.0
    assert other.distiller.terms[0].objects == 3
    assert distilled(detector(), MatchMaps).state_dict() == {}
    with pytest.raises(CheckpointError, match="terms and connectors are not those"):
        distilled(detector(), MatchMaps).load_state_dict(state)


def test_what_is_no_loss_and_what_is_not_recorded_is_told():
    with pytest.raises(ConfigError, match=r"term Vector gave no scalar but shape \(512,\)"):
        distilled(detector(), Vector)(detector(), batch(), None)
    forgetful = MatchMaps()
    forgetful.student_taps = ("neck[0]",)
    with pytest.raises(
        ConfigError, match="'neck' of the student FCOS is not recorded; add it to the term's"
    ):
        distilled(Elsewhere(), forgetful)(detector(), batch(), None)
    with pytest.raises(ConfigError, match="no module 'bbox_haed' to record; did you mean 'bbox_h"):
        distilled(detector(), AssignedLogits(head="bbox_haed"))


def test_terms_whose_losses_change_within_a_step_are_told():
    class Changing(MatchMaps):
        count = 0

        def forward(self, scene):
            self.count += 1
            return {f"part{self.count}": super().forward(scene)}

    def twice(model, some, backward):
        plain_step(model, some, backward)
        return plain_step(model, some, backward)

    step = distilled(Elsewhere(), Changing, base_step=twice)
    with pytest.raises(ConfigError, match=r"\['Changing.part2'\] after \['Changing.part1'\]"):
        step(detector(), batch(), lambda loss: None)


def test_the_students_own_losses_may_count_less_or_not_at_all():
    student, teacher, some = Toy(), Toy(), Batch(torch.randn(2, 3, 16, 16))
    pairs = [DistillPair(student="neck", loss=FeatureMSE)]
    whole, half, none = (
        trained(distilled(teacher, pairs=pairs, task_weight=weight), student, some)
        for weight in (1.0, 0.5, 0.0)
    )
    extra = whole[0]["distill_neck"]
    own = whole[0]["loss"] - extra
    assert half[0]["loss"] == pytest.approx(own / 2 + extra)
    assert none[0]["loss"] == pytest.approx(extra)
    # the stem's gradient is linear in the weight; the head's is that of the own losses alone
    assert_close(2 * half[1][0], whole[1][0] + none[1][0])
    assert len(none[1]) == len(whole[1]) - 2


class Paths:
    """A sandwich of three paths of a toy: its head's outputs are scaled by 1, 2 and 3."""

    def __init__(self):
        self.scale = 1.0

    def __call__(self, model, some, backward):
        metrics = []
        for self.scale in (1.0, 2.0, 3.0):
            loss = (model(some.images)[0] * self.scale).square().mean()
            metrics.append({"loss": loss.detach()})
            backward(loss)
        return metrics[0]


def paths(model):
    """Let a toy's head give maps of a path's scale; return the base step."""
    own = Paths()
    model.head.register_forward_hook(lambda _, __, output: output * own.scale)
    return own.__call__


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_the_first_path_teaches_the_others(weight):
    student, some = Toy(), Batch(torch.randn(2, 3, 16, 16))
    twin = copy.deepcopy(student)
    pairs = [DistillPair(student="head[0]", loss=FeatureMSE)]
    step = distilled(None, pairs=pairs, base_step=paths(student), task_weight=weight)
    metrics, gradients = trained(step, student, some)
    out = [twin.head(twin.features(some.images)[0]) * scale for scale in (1, 2, 3)]
    own = [(m * scale).square().mean() for m, scale in zip(out, (1, 2, 3), strict=True)]
    taught = [F.mse_loss(m, out[0].detach()) for m in out[1:]]
    (own[0] + weight * (own[1] + own[2]) + taught[0] + taught[1]).backward()
    wanted = [p.grad for p in twin.parameters() if p.grad is not None]
    assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)
    mean = (taught[0] + taught[1]).item() / 2
    assert metrics["distill_head[0]"] == pytest.approx(mean, rel=1e-5)
    assert metrics["loss"] == pytest.approx(own[0].item() + mean, rel=1e-5)


def test_a_single_path_has_nobody_to_teach():
    pairs = [DistillPair(student="neck", loss=FeatureMSE)]
    with pytest.raises(ConfigError, match=r"there was only one; put \{type: SandwichStep\} inside"):
        distilled(None, pairs=pairs)(Toy(), Batch(torch.randn(2, 3, 16, 16)), lambda loss: None)


def test_batches_of_named_inputs_reach_the_teacher():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.neck = nn.Linear(3, 2)

        def forward(self, inputs):
            return self.neck(inputs["images_left"].mean((2, 3)) + inputs["speed"][:, None])

        def loss(self, inputs, targets):
            return {"loss": self(inputs).square().mean()}

    inputs = {"images_left": torch.randn(2, 3, 4, 4), "speed": torch.randn(2)}
    pairs = [DistillPair(student="neck", loss=FeatureMSE)]
    student, teacher = Named(), Named()
    metrics, _ = trained(distilled(teacher, pairs=pairs), student, Batch(inputs))
    wanted = F.mse_loss(student(inputs), teacher(inputs)).item()
    assert metrics["distill_neck"] == pytest.approx(wanted, rel=1e-5)
