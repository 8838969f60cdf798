"""Terms over one-stage heads: what they make of each other's maps, and where objects are."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.config import Factory
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import NonNegative, Positive, Range
from razorlite.core.registry import register
from razorlite.distill.connectors import Connector
from razorlite.distill.losses import LD, CrossKDQuality
from razorlite.distill.roles import head_named
from razorlite.distill.scene import Scene, Term
from razorlite.models.heads.dense import DenseHead, join_levels
from razorlite.ops.boxes import paired_giou


@register()
class CrossHead(Term):
    """What the teacher's head makes of the student's maps, against what it makes of its own.

    The student's own head is not asked, so that it may be of another kind: its targets and the
    teacher's do not contradict each other. Classes by a quality focal loss, boxes by 1 - GIoU, each
    location weighted by the teacher's highest class score there and divided by the images' sum of
    these.

    Wants a teacher with a one-stage head of razorlite whose levels are those of the student's maps,
    and equal classes.

    CrossKD, https://arxiv.org/abs/2306.11369, the cross-head loss, with the maps of the pyramid
    crossing over.

    Args:
        student: the student's maps that cross over, as recorded.
        teacher: name of the teacher's head.
        connector: layer on the student's maps, where they have other channels than the teacher's.
        cls_weight: factor of the classes' loss.
        box_weight: factor of the boxes' loss.
        beta: exponent of the score's difference in the quality focal loss.
    """

    name = "cross_head"
    compares_classes = True

    def __init__(
        self,
        *,
        student: str = "neck",
        teacher: str = "bbox_head",
        connector: Factory[Connector] | None = None,
        cls_weight: NonNegative = 1.0,
        box_weight: NonNegative = 1.0,
        beta: Annotated[float, Range(least=1)] = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.head = student, teacher
        self.student_taps, self.teacher_taps = (student,), (teacher, f"{teacher}:input")
        self.connector = nn.Identity() if connector is None else connector()
        self.quality, self.box_weight = CrossKDQuality(weight=cls_weight, beta=beta), box_weight

    def forward(self, scene: Scene) -> dict[str, Tensor]:
        """Return the losses `cls` and `box`.

        Raises:
            ConfigError: the teacher has no such head, or the maps do not fit it.
        """
        head = _dense_head(scene.teacher.model, self.head)
        maps = tuple(self.connector(own) for own in scene.student.taps[self.student])
        _check_maps(self.head, maps, scene.teacher.taps[f"{self.head}:input"])
        crossed, goals = head(maps), scene.teacher.raw(self.head)
        with full_precision(maps[0].device):
            return self._losses(head, crossed, goals)

    def _losses(self, head: DenseHead, crossed: Any, goals: Any) -> dict[str, Tensor]:
        ours, theirs = (join_levels(r[0], head.num_classes).float() for r in (crossed, goals))
        priors = torch.cat(head.priors(goals[0]))
        mine, other = (_boxes(head, raw, priors).flatten(0, 1) for raw in (crossed, goals))
        weight = theirs.sigmoid().amax(2)
        shares = 1 / weight.sum(1, keepdim=True).clamp(min=1.0)
        rows = [side.flatten(0, 1) for side in (ours, theirs)]
        cls = self.quality(*rows, weights=shares.expand_as(weight).flatten(), avg_factor=len(ours))
        box = (1 - paired_giou(mine, other)) * (weight * shares).flatten()
        return {"cls": cls, "box": self.box_weight * box.sum() / len(ours)}


@register()
class LocalisationDistillation(Term):
    """The distribution of each side of a box, where the student's head has assigned objects.

    tau^2 * KL(teacher || student), a mean over the sides and bins, each object weighted by the
    student's highest class score at its location.

    Wants heads with distributions (`GFLHead`) of equal bins and strides on both sides.

    LD, https://arxiv.org/abs/2102.12252, the localisation distillation loss, in the main
    distillation region.

    Args:
        student: name of the student's head.
        teacher: name of the teacher's head.
        weight: factor of the loss.
        tau: temperature.
    """

    name = "ld"

    def __init__(
        self,
        *,
        student: str = "bbox_head",
        teacher: str = "bbox_head",
        weight: NonNegative = 0.25,
        tau: Positive = 10.0,
    ) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.weight, self.tau = weight, tau
        self.student_taps, self.teacher_taps = (student, f"{student}.assign()"), (teacher,)

    def forward(self, scene: Scene) -> Tensor:
        """Return the loss.

        Raises:
            ConfigError: a head has no distributions, or they do not fit.
        """
        head, bins = self._bins(scene)
        raw, found = scene.student.raw(self.student), scene.student.assignment(self.student)
        ours, theirs = (
            join_levels(side[1], 4 * bins) for side in (raw, scene.teacher.raw(self.teacher))
        )
        _check_places(ours, theirs, self.student)
        rows = found.image, found.row
        scores = join_levels(raw[0], head.num_classes).detach()[rows].float().sigmoid().amax(1)
        loss = LD(weight=self.weight, bins=bins, tau=self.tau, mean_over_bins=True)
        total: Tensor = loss(
            ours[rows], theirs[rows], weights=scores, avg_factor=scores.sum().clamp(min=1e-6)
        )
        return total

    def _bins(self, scene: Scene) -> tuple[DenseHead, int]:
        """Return the student's head and how many bins a side has on both sides."""
        names = (self.student, self.teacher)
        sides = zip((scene.student.model, scene.teacher.model), names, strict=True)
        heads = [_dense_head(model, name) for model, name in sides]
        bins = [getattr(head, "reg_max", -1) + 1 for head in heads]
        if not all(bins) or bins[0] != bins[1]:
            raise ConfigError(
                f"LocalisationDistillation wants equal distributions of box sides on both sides; "
                f"the student's {type(heads[0]).__name__} has {bins[0]} bins, the teacher's "
                f"{type(heads[1]).__name__} {bins[1]}; use heads such as GFLHead with one reg_max"
            )
        return heads[0], bins[0]


@register()
class ScoredMaps(Term):
    """Squared difference of two pyramids, each location weighted by the teacher's class score.

    The score is the highest of all classes and anchors there; the sum over locations is divided by
    the scores' sum, level by level, and the levels' losses are summed.

    Wants a teacher with class maps scored by sigmoids, of the levels that are compared.

    Args:
        student: the student's maps, as recorded.
        teacher: the teacher's.
        scores: the teacher's class logits, as recorded.
        connector: layer on the student's maps, where they have other channels than the teacher's.
        weight: factor of the loss.
    """

    name = "scored_maps"

    def __init__(
        self,
        *,
        student: str = "neck",
        teacher: str = "neck",
        scores: str = "bbox_head.conv_cls",
        connector: Factory[Connector] | None = None,
        weight: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.scores = student, teacher, scores
        self.student_taps, self.teacher_taps = (student,), (teacher, scores)
        self.connector = nn.Identity() if connector is None else connector()
        self.weight = weight

    def forward(self, scene: Scene) -> Tensor:
        """Return the loss.

        Raises:
            ConfigError: the maps and scores are not of the same levels.
        """
        taps = scene.teacher.taps
        ours = [self.connector(own) for own in scene.student.taps[self.student]]
        theirs, scores = taps[self.teacher], taps[self.scores]
        sizes = [[tuple(m.shape[2:]) for m in maps] for maps in (ours, theirs, scores)]
        if sizes[0] != sizes[1] or sizes[0] != sizes[2]:
            raise ConfigError(
                f"ScoredMaps: the maps of student and teacher and the scores have the sizes "
                f"{sizes[0]}, {sizes[1]} and {sizes[2]}; name places of the same levels"
            )
        levels = zip(ours, theirs, scores, strict=True)
        return self.weight * torch.stack([_scored(*level) for level in levels]).sum()


def _scored(ours: Tensor, theirs: Tensor, logits: Tensor) -> Tensor:
    """Return the 0-dim loss of (N, C, H, W) maps, given (N, A * K, H, W) logits."""
    with full_precision(ours.device):
        weight = logits.float().sigmoid().amax(1)
        each = (ours.float() - theirs.float()).square().mean(1)
        return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def _dense_head(model: nn.Module, name: str) -> DenseHead:
    return head_named(model, name, DenseHead, "a one-stage head")


def _check_maps(head: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Refuse maps that a head was not made for.

    Raises:
        ConfigError: number, channels or sizes of the levels differ.
    """
    shapes = [[tuple(m.shape[1:]) for m in maps] for maps in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"CrossHead: the student's maps are {shapes[0]} (channels, height, width), those of "
            f"the teacher's {head} {shapes[1]}; name maps of the same levels, and give the "
            f"channels of the teacher by a connector"
        )


def _check_places(ours: Tensor, theirs: Tensor, head: str) -> None:
    if ours.shape != theirs.shape:
        raise ConfigError(
            f"LocalisationDistillation: the student's {head} looks at {ours.shape[1]} places of "
            f"each image, the teacher's at {theirs.shape[1]}; use heads of the same strides"
        )


def _boxes(head: DenseHead, raw: Any, priors: Tensor) -> Tensor:
    """Return (N, P, 4) boxes in pixels of what a head gave, given (P, 2 to 4) priors."""
    per_cell = raw[0][0].shape[1] // head.num_classes
    codes = join_levels(raw[1], raw[1][0].shape[1] // per_cell).float()
    return head.boxes_of(priors.expand(len(codes), -1, -1), codes)
