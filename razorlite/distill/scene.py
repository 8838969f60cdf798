"""What a term of distillation looks at, and what a term is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from razorlite.distill.taps import Recorded
from razorlite.structures import Batch


@dataclass(frozen=True)
class Side:
    """The student, or the teacher, in the forward pass of one batch.

    Attributes:
        model: the whole of it. A teacher is frozen and has run without gradients.
        taps: what was recorded of it, by the names that terms gave.
    """

    model: nn.Module
    taps: Recorded

    def raw(self, head: str = "bbox_head") -> Any:
        """Return the raw maps of a head; the tap is the head's name."""
        return self.taps.value(head)

    def assignment(self, head: str = "bbox_head") -> Any:
        """Return which of a head's predictions have learnt which objects, as its `assign` gave it.

        The tap is `bbox_head.assign()`. Objects are counted without crowd boxes, see
        `Target.without_crowd`. Only a model whose loss was computed assigns: a teacher does not.
        """
        return self.taps.value(f"{head}.assign()")


@dataclass(frozen=True)
class Scene:
    """One batch that student and teacher have both seen.

    Attributes:
        batch: images as the student sees them, and their targets.
        student: with gradients, before its backward pass.
        teacher: of a student that is taught by its own largest path, that path's; its model is
            then the student's, which has gone on to another path.
        step: number of the optimiser step, from 0.
        total_steps: of the whole run, if that is known.
    """

    batch: Batch
    student: Side
    teacher: Side
    step: int = 0
    total_steps: int | None = None


class Term(nn.Module):
    """One thing that a student learns from its teacher.

    A term may have parameters, which are trained beside the student and kept in checkpoints, but
    never become part of it. Losses are means over images, so that several processes with equal
    batches learn what one would.

    Attributes:
        name: in the log, `distill_NAME`; the class's by default.
        student_taps: what to record of the student, in the form of `Tap`.
        teacher_taps: the same of the teacher.
        compares_classes: whether it compares what heads say of classes, which must then be the
            same on both sides, in the same order.
    """

    name: str = ""
    compares_classes: bool = False
    student_taps: Sequence[str] = ()
    teacher_taps: Sequence[str] = ()

    def forward(self, scene: Scene) -> Tensor | dict[str, Tensor]:
        """Return a loss, a float32 scalar, or several by name, to be summed."""
        raise NotImplementedError

    def rehearse(self, scene: Scene) -> None:
        """Compare shapes alone, of a batch without values and targets; nothing by default.

        Raises:
            ConfigError: the two sides do not fit.
        """
