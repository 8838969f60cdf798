"""The `distiller:` block of a configuration."""

from dataclasses import dataclass
from typing import Annotated

from razorlite.core.config import Factory
from razorlite.core.ranges import Count, Filled, NonNegative, Whole, checked
from razorlite.distill.connectors import Connector
from razorlite.distill.losses import DistillLoss


@checked
@dataclass(frozen=True, kw_only=True)
class DistillPair:
    """One place of the student, one of the teacher, and how they are compared.

    Attributes:
        student: recorded name, as in `Tap`: "neck", "backbone[2]", "bbox_head.conv_cls:input".
        teacher: recorded name in the teacher; the student's by default.
        loss: how two maps are compared; places that give several maps (a pyramid) sum theirs.
        connector: layer on the student's maps, one for all of them; none by default.
        weight: factor of this pair.
        resize: scale the student's maps to the teacher's height and width where they differ.
        join: compare all maps at once, as one set of locations (N, C, all locations).
    """

    student: str
    teacher: str | None = None
    loss: Factory[DistillLoss]
    connector: Factory[Connector] | None = None
    weight: NonNegative = 1.0
    resize: bool = False
    join: bool = False


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Where a teacher comes from.

    Attributes:
        config: its configuration file; the `model:` block is built.
        checkpoint: its weights.
        subnet: subnet file, where the configuration is a supernet or the teacher was pruned.
    """

    config: str
    checkpoint: str
    subnet: str | None = None


@checked
@dataclass(frozen=True, kw_only=True)
class DistillerConfig:
    """The `distiller:` block of a configuration.

    Attributes:
        teacher: where the teacher comes from.
        pairs: what is compared.
        start_step: training step at which distillation starts.
        stop_step: training step at which it ends; None for never.
        warmup_steps: steps over which its weight rises from 0 to full, counted from the start.
    """

    teacher: TeacherConfig
    pairs: Annotated[list[DistillPair], Filled()]
    start_step: Whole = 0
    stop_step: Count | None = None
    warmup_steps: Whole = 0
