"""The `distiller:` block of a configuration."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from razorlite.core.compute import Precision
from razorlite.core.config import Factory, Partial
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, Positive, checked
from razorlite.data import Preprocess
from razorlite.distill.connectors import Connector
from razorlite.distill.generator import Generator, GeneratorLoss
from razorlite.distill.losses import DistillLoss
from razorlite.distill.scene import Term
from razorlite.distill.spans import Length, Span, Weighting
from razorlite.engine.ema import EmaConfig
from razorlite.engine.schedules import Schedule

LARGEST_PATH = "largest_path"
EMA = "ema"
_WHEN = ("start_step", "stop_step", "warmup_steps", "cooldown_steps")
Resize = bool | Literal["student", "teacher"]


@checked
@dataclass(frozen=True, kw_only=True)
class DistillPair:
    """One module of the student, one of the teacher, and how they are compared.

    Attributes:
        student: recorded name, as in `Tap`: "neck", "backbone[2]", "bbox_head.conv_cls:input".
        teacher: recorded name in the teacher; the student's by default.
        loss: how two maps are compared; modules that give several maps (a pyramid) sum theirs.
        connector: layer on the student's maps, one for all of them; none by default.
        weight: factor of this pair.
        resize: scale maps where height and width differ: the "student"'s to the teacher's (or
            true), or the "teacher"'s to the student's.
        join: compare all maps at once, as one set of locations (N, C, all locations).
    """

    student: str
    teacher: str | None = None
    loss: Factory[DistillLoss]
    connector: Factory[Connector] | None = None
    weight: NonNegative = 1.0
    resize: Resize = False
    join: bool = False

    @property
    def teacher_name(self) -> str:
        """What is recorded in the teacher."""
        return self.student if self.teacher is None else self.teacher

    def __str__(self) -> str:
        return f"distiller pair student {self.student!r}, teacher {self.teacher_name!r}"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Where a teacher comes from: a configuration, or any module.

    Attributes:
        config: its configuration file; the `model:` block is built.
        model: a module in the place of a configuration; it is called with a batch of images.
        checkpoint: its weights; a module may do without, if it loads its own.
        subnet: subnet file, where the configuration is a supernet or the teacher was pruned.
        preprocess: what its images go through, where neither its configuration nor its checkpoint
            says so; by default the student's.
        precision: of its layers, apart from `train.amp`: bf16, fp16, float32, or auto for what this
            device computes fastest; by default that of the training. Losses are float32.
    """

    config: str | None = None
    model: Factory[nn.Module] | None = None
    checkpoint: str | None = None
    subnet: str | None = None
    preprocess: Preprocess | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if (self.config is None) == (self.model is None):
            raise ConfigError("takes one of config and model: name a configuration, or a module")
        if self.config is not None and self.checkpoint is None:
            raise ConfigError("needs 'checkpoint', the weights of its configuration's model")
        for name in ("subnet",) if self.model is not None else ("preprocess",):
            if getattr(self, name) is not None:
                other = "a configuration" if self.config is None else "a module"
                raise ConfigError(f"goes with {other} only; leave it out", key=name)


@checked
@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Images for a classifier that is taught without data: a generator makes them of noise.

    Generator, loss and optimiser are a recipe's where there is one, such as zskt.

    Attributes:
        generator: noise to images as the teacher sees them.
        loss: what it learns.
        optimizer: of the generator, any of torch.optim with its own arguments.
        schedule: factor of its learning rate over the run; constant by default.
        batch_size: images in a batch of one process.
        generator_steps: how often it moves in its turn.
        student_steps: optimiser steps of the student in its turn, on images of the same noise.
        clip_grad_norm: largest norm of all its gradients together.
    """

    generator: Factory[Generator] | None = None
    loss: Factory[GeneratorLoss] | None = None
    optimizer: Partial[torch.optim.Optimizer] | None = None
    schedule: Factory[Schedule] | None = None
    batch_size: Count = 128
    generator_steps: Count = 1
    student_steps: Count = 1
    clip_grad_norm: Positive | None = None


@checked
@dataclass(frozen=True, kw_only=True)
class DistillerConfig:
    """The `distiller:` block of a configuration.

    Attributes:
        teacher: where the teacher comes from: a block, or a configuration file with `checkpoint`
            beside it; "largest_path" of a supernet whose largest path teaches its other ones, in
            place (`SandwichStep`); "ema" for the average of the student's own weights (mean
            teacher), which begins where distillation starts.
        ema: how fast that average forgets.
        teachers: in the place of `teacher`, several by names of one's own; what is recorded of
            them then begins with the name, as in `large.neck`.
        checkpoint: the teacher's weights, where `teacher` is a configuration file.
        recipe: name of a published way, which adds its pairs and terms (`razorlite config show`
            prints them); of several teachers, one for each name.
        pairs: modules that are compared.
        terms: what else is learnt, by classes of one's own; see `razorlite.distill.Term`.
        synthetic: images that a generator makes, for a classifier without `data.train`; a recipe
            such as zskt brings it, and what is written here changes single entries.
        start_step: training step at which distillation starts; here and below also in epochs
            ("3 epochs"), or as a share of the run's steps ("80%").
        stop_step: training step at which it ends; None for never.
        warmup_steps: steps over which its weight rises from 0 to full, counted from the start.
        cooldown_steps: steps over which its weight falls to 0, up to `stop_step` or the run's end.
        task_weight: factor of the student's own losses where it is taught; 0 learns from the
            teacher alone.
        cache: gigabytes of memory, of each process, in which the teacher's outputs are kept for the
            next epochs, where the training images look the same in each.
        score_teacher: evaluate the teacher on val before training, which takes about as long as an
            evaluation of the student, to say at the end which of the two is better.
    """

    teacher: TeacherConfig | str | None = None
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)
    checkpoint: str | None = None
    ema: EmaConfig | None = None
    recipe: str | dict[str, str] | None = None
    pairs: list[DistillPair] = field(default_factory=list)
    terms: list[Factory[Term]] = field(default_factory=list)
    synthetic: SyntheticConfig | None = None
    start_step: Span = 0
    stop_step: Span | None = None
    warmup_steps: Span = 0
    cooldown_steps: Span = 0
    task_weight: NonNegative = 1.0
    cache: Positive | None = None
    score_teacher: bool = True

    def weighting(self, length: Length) -> Weighting:
        """Return when the teacher teaches, in the unit of a run's length.

        Raises:
            ConfigError: the spans contradict one another.
        """
        spans: dict[str, Any] = {n.partition("_")[0]: s for n, s in self.steps(length).items()}
        return Weighting(total=length.total, unit=length.unit, **spans)

    def steps(self, length: Length) -> dict[str, float | None]:
        """Return the four spans in optimiser steps, or in the unit of a run's length, by name.

        What cannot be told, as the run's length is not known, is as by default.
        """
        spans = {f"{n}_step": getattr(self, f"{n}_step") for n in ("start", "stop")}
        spans |= {f"{n}_steps": getattr(self, f"{n}_steps") for n in ("warmup", "cooldown")}
        found = {name: None if s is None else length.steps(s) for name, s in spans.items()}
        return {n: 0 if s is None and n != "stop_step" else s for n, s in found.items()}

    def __post_init__(self) -> None:
        if (self.teacher is None) == (not self.teachers):
            raise ConfigError("takes one of teacher and teachers", key="teacher")
        by_file = names_file(self.teacher)
        if by_file and self.checkpoint is None:
            raise ConfigError(
                f"needs 'checkpoint', the weights of the configuration {self.teacher!r}; only "
                f"{LARGEST_PATH!r} and {EMA!r} are teachers without a file",
                key="teacher",
            )
        if self.checkpoint is not None and not by_file:
            raise ConfigError(
                "goes with a teacher that is a configuration file; write it into the teacher's "
                "block",
                key="checkpoint",
            )
        if self.ema is not None and self.teacher != EMA:
            raise ConfigError(f"goes with teacher: {EMA} only; leave it out", key="ema")
        if not self.pairs and not self.terms and self.recipe is None:
            raise ConfigError(
                "is empty; name a recipe, or at least one position to compare", key="pairs"
            )
        moving = self.teacher in (EMA, LARGEST_PATH)
        if self.cache is not None and (moving or self.synthetic is not None):
            raise ConfigError(
                "keeps what a teacher with fixed weights gives for images that come again; leave "
                "it out",
                key="cache",
            )
        if self.synthetic is not None:
            self._check_synthetic()

    def _check_synthetic(self) -> None:
        """Refuse what does not go with images that have no labels.

        Raises:
            ConfigError: as described.
        """
        if self.teachers or self.teacher in (EMA, LARGEST_PATH):
            raise ConfigError("wants one teacher with weights of its own", key="synthetic")
        for name in ("generator", "loss", "optimizer"):
            if self.recipe is None and getattr(self.synthetic, name) is None:
                raise ConfigError(f"needs {name!r}, or a recipe such as zskt", key="synthetic")
        if isinstance(self.teacher, TeacherConfig) and self.teacher.precision is not None:
            raise ConfigError(
                "teacher.precision goes with images that are there: what makes them learns through "
                "the teacher, in the precision of train.amp; leave it out",
                key="synthetic",
            )
        wrong = [n for n in _WHEN if getattr(self, n) not in (0, None)]
        wrong += ["task_weight"] * (self.task_weight != 1)
        if wrong:
            raise ConfigError(
                "goes with images that have labels: of synthetic ones the student learns what the "
                "teacher says, from the first step to the last; leave it out",
                key=wrong[0],
            )


def names_file(teacher: object) -> bool:
    """Return whether the `teacher` of a block is the path of a configuration file."""
    return isinstance(teacher, str) and teacher not in (LARGEST_PATH, EMA)
