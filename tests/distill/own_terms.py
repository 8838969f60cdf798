"""Terms of distillation as a user would write them, named in configurations by their path."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.distill import Scene, Term


class AssignedLogits(Term):
    """Class logits where the student's head has assigned objects, each weighted by its size.

    A trained factor scales the student's logits, as connectors scale features.

    Args:
        weight: factor of the loss.
        head: name of the dense head on both sides.
        ramp: whether the loss grows over the run.
    """

    name = "assigned"

    def __init__(self, *, weight: float = 1.0, head: str = "bbox_head", ramp: bool = False) -> None:
        super().__init__()
        self.weight, self.head, self.ramp = weight, head, ramp
        self.student_taps = (head, f"{head}.assign()")
        self.teacher_taps = (head,)
        self.factor = nn.Parameter(torch.ones(1))
        self.register_buffer("objects", torch.zeros((), dtype=torch.int64))

    def forward(self, scene: Scene) -> dict[str, Tensor]:
        found = scene.student.assignment(self.head)
        rows = found.image, found.row
        ours, theirs = (
            joined(side.raw(self.head)[0])[rows] for side in (scene.student, scene.teacher)
        )
        self.objects += sum(len(target.without_crowd()) for target in scene.batch.targets)
        goals = theirs.sigmoid()
        each = F.binary_cross_entropy_with_logits(self.factor * ours, goals, reduction="none").sum(
            1
        )
        sides = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1).sqrt()
        share = (scene.step + 1) / scene.total_steps if self.ramp else 1.0
        total = self.weight * share * (each * sides).sum() / sides.sum().clamp(min=1)
        return {"logits": total, "factor": 0.01 * (self.factor - 1).square().sum()}


def joined(maps: tuple[Tensor, ...]) -> Tensor:
    """Return (N, P, C) of all levels' (N, C, H, W)."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)


class Elsewhere(nn.Module):
    """A teacher of another kind: pixels in, a mapping with a nested tuple of features out."""

    def __init__(self, *, channels: int = 16, stride: int = 16) -> None:
        super().__init__()
        self.encode = nn.Conv2d(3, channels, stride, stride)

    def forward(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        fine = self.encode(images)
        return {"maps": (fine, F.avg_pool2d(fine, 2))}


class MatchMaps(Term):
    """The student's pyramid against the mapping that the teacher above returns."""

    student_taps = ("neck",)
    teacher_taps = ("",)

    def forward(self, scene: Scene) -> Tensor:
        pairs = zip(
            scene.student.taps.value("neck"), scene.teacher.taps.value("")["maps"], strict=True
        )
        return torch.stack([F.mse_loss(ours, theirs) for ours, theirs in pairs]).mean()


class Vector(Term):
    """Gives what is no loss."""

    student_taps = ("neck",)

    def forward(self, scene: Scene) -> Tensor:
        return scene.student.taps["neck"][0].flatten()
