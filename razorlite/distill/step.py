"""The training step that adds a teacher's losses to those of another step."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.config import Given
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.registry import register
from razorlite.distill.distiller import Distiller
from razorlite.distill.recorder import Recorder
from razorlite.distill.scene import Scene, Side
from razorlite.distill.spans import Weighting
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step
from razorlite.structures import Batch, tensors_of


@register()
class DistilledStep(WrappingStep):
    """A training step: another step's losses plus a teacher's.

    The base step runs as it is (plain, single-path, sandwich, ...); at each of its calls to
    `backward`, the losses of what the student has recorded since the last one are added. The
    teacher runs once per step, and not at all where distillation is off. The student is not
    wrapped: its state dict and checkpoints hold the student alone.

    Without a teacher, what the first call has recorded is what all others of the step learn: around
    a `SandwichStep` that is in-place distillation, the largest path teaching the others
    (Universally Slimmable Networks, https://arxiv.org/abs/1903.05134, section 3.2, there with
    `task_weight` 0).

    Args:
        distiller: teacher and terms.
        base_step: the step that computes the student's own losses.
        start_step: training step at which distillation starts.
        stop_step: training step at which it ends; None for never.
        warmup_steps: steps over which its weight rises linearly from 0 to full.
        cooldown_steps: steps over which its weight falls linearly to 0 at `stop_step`, or at the
            end of the run.
        task_weight: factor of the student's own losses where it is taught; 0 learns from the
            teacher alone.
        total_steps: optimiser steps of the whole run, for what depends on it.

    Raises:
        ConfigError: the steps contradict one another.
    """

    def __init__(
        self,
        *,
        distiller: Given[Distiller],
        base_step: Given[Step | StepFunction] = plain_step,
        start_step: Given[int] = 0,
        stop_step: Given[int | None] = None,
        warmup_steps: Given[int] = 0,
        cooldown_steps: Given[int] = 0,
        task_weight: Given[float] = 1.0,
        total_steps: Given[int | None] = None,
    ) -> None:
        super().__init__(base_step)
        self.weighting = Weighting(
            start=start_step,
            stop=stop_step,
            warmup=warmup_steps,
            cooldown=cooldown_steps,
            total=total_steps,
        )
        self.distiller, self.task_weight = distiller, task_weight
        self.total_steps = total_steps
        self._student: tuple[nn.Module, Recorder] | None = None
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the step that comes, from 0."""
        super().begin(step)
        self._begun = True
        self.number, self.scale = step, self.weighting.at(step)

    def __call__(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        """Compute the losses, call `backward` as the base step does, return metrics for the log.

        These are the base step's and `distill_NAME` per term, without the factor of warm-up and
        cool-down; a `loss` among them becomes the total.

        Raises:
            ConfigError: the two sides do not fit, or there is no teacher and only one path.
        """
        if not self.scale:
            return self.base_step(model, batch, backward)
        recorder = self._open(model, tensors_of(batch.inputs)[0].device)
        if self._begun:  # once for all batches of an optimiser step
            self._begun = False
            self.distiller.follow(model)
        lesson = _Lesson(self, model, batch, recorder, backward)
        with recorder:
            metrics = self.base_step(model, batch, lesson)
        return lesson.added_to(metrics)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what is trained beside the student: terms, and what the base step trains."""
        for name, parameter in self.distiller.terms.named_parameters():
            yield f"terms.{name}", parameter
        yield from super().named_parameters()

    def statistics(self) -> Iterator[Tensor]:
        """Yield the floating buffers of the student's average, if that teaches."""
        if self.distiller.average is not None:
            yield from self.distiller.average.statistics()
        yield from super().statistics()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the terms, of the student's average and of the base step, if any.

        Never that of a teacher from elsewhere.
        """
        own: dict[str, Any] = {"terms": self.distiller.terms.state_dict()}
        if self.distiller.average is not None:
            own["average"] = self.distiller.average.state_dict()
        return {**{name: state for name, state in own.items() if state}, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: the state is of other terms.
        """
        try:
            self.distiller.terms.load_state_dict(state.get("terms", {}))
        except RuntimeError as error:
            raise CheckpointError(
                f"the checkpoint's terms and connectors are not those of the distiller block "
                f"({' '.join(str(error).split())}); resume with the block it was trained with"
            ) from error
        if self.distiller.average is not None:
            self.distiller.average.load_state_dict(state.get("average"))
        super().load_state_dict(state)

    def _open(self, model: nn.Module, device: torch.device) -> Recorder:
        if self._student is None or self._student[0] is not model:
            self._student = (model, self.distiller.to(device).recorder(model))
        return self._student[1]


class _Lesson:
    """The `backward` of one batch: adds what the teacher has to say.

    Args:
        step: how much of it.
        model: the student.
        batch: what both sides see.
        recorder: of the student, opened before the first call.
        backward: what the sum of losses goes to.
    """

    def __init__(
        self,
        step: DistilledStep,
        model: nn.Module,
        batch: Batch,
        recorder: Recorder,
        backward: Backward,
    ) -> None:
        self.step, self.model, self.batch = step, model, batch
        self.recorder, self.backward = recorder, backward
        self.teacher = step.distiller.teach(batch)
        self.own_weight = step.task_weight if self.teacher is not None else 1.0
        self.names: list[str] = []
        self.seen: list[Tensor] = []

    def __call__(self, loss: Tensor) -> None:
        """Add the teacher's losses; the first path becomes the teacher where there is none."""
        if self.teacher is None:
            self.teacher = Side(self.model, self.recorder.kept(Tensor.detach))
        else:
            loss = self._taught(loss, self.teacher)
        self.recorder.clear()
        self.backward(loss)
        # Activation checkpointing runs forward again inside backward, and records it.
        self.recorder.clear()

    def _taught(self, loss: Tensor, teacher: Side) -> Tensor:
        step, student = self.step, Side(self.model, self.recorder)
        scene = Scene(self.batch, student, teacher, step.number, step.total_steps)
        losses = step.distiller.compare(scene)
        if self.names and self.names != list(losses):
            raise ConfigError(
                f"distiller terms gave the losses {list(losses)} after {self.names} in one step; "
                f"give the same each time, zeros where there is nothing to learn"
            )
        added = torch.stack(list(losses.values()))
        self.names = list(losses)
        self.seen.append(added.detach())
        added = step.scale * added.sum()
        if step.task_weight == 0:
            return added
        return (loss if step.task_weight == 1 else step.task_weight * loss) + added

    def added_to(self, metrics: Metrics) -> Metrics:
        """Return a step's metrics with those of the terms, means over the calls.

        Raises:
            ConfigError: nothing was compared, as there was but one path.
        """
        if not self.seen and self.step.distiller.teacher is not None:
            return metrics
        if not self.seen:
            raise ConfigError(
                "distiller: without a teacher the first path of a step teaches the others, but "
                "there was only one; put {type: SandwichStep} inside, or name a teacher"
            )
        means = torch.stack(self.seen).mean(0).double().unbind()
        result: dict[str, Tensor | float] = {**metrics}
        result |= {f"distill_{n}": mean for n, mean in zip(self.names, means, strict=True)}
        if "loss" in result:
            own = result["loss"] if self.own_weight == 1 else self.own_weight * result["loss"]
            result["loss"] = own + self.step.scale * sum(means)
        return result
