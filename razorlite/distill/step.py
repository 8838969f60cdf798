"""The training step that adds a teacher's losses to those of another step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.ranges import Count, Whole
from razorlite.core.registry import register
from razorlite.distill.distiller import Distiller
from razorlite.distill.recorder import Recorder
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step
from razorlite.structures import Batch, tensors_of


@register()
class DistilledStep(WrappingStep):
    """A training step: another step's losses plus a teacher's.

    The base step runs as it is (plain, single-path, sandwich, ...); at each of its calls to
    `backward`, the losses of what the student has recorded since the last one are added. The
    teacher runs once per step, and not at all where distillation is off. The student is not
    wrapped: its state dict and checkpoints hold the student alone.

    Args:
        distiller: teacher and pairs.
        base_step: the step that computes the student's own losses.
        start_step: training step at which distillation starts.
        stop_step: training step at which it ends; None for never.
        warmup_steps: steps over which its weight rises linearly from 0 to full.
    """

    def __init__(
        self,
        *,
        distiller: Distiller,
        base_step: Step | StepFunction = plain_step,
        start_step: Whole = 0,
        stop_step: Count | None = None,
        warmup_steps: Whole = 0,
    ) -> None:
        super().__init__(base_step)
        if stop_step is not None and stop_step <= start_step:
            raise ConfigError(
                f"distiller: stop_step {stop_step} must come after start_step {start_step}"
            )
        self.distiller = distiller
        self.start_step, self.stop_step = start_step, stop_step
        self.warmup_steps = warmup_steps
        self._student: tuple[nn.Module, Recorder] | None = None
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the step that comes, from 0."""
        super().begin(step)
        self.scale = self._scale_at(step)

    def __call__(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        """Compute the losses, call `backward` as the base step does, return figures for the log.

        The figures are the base step's and `distill_NAME` per pair, without the warm-up's factor;
        a `loss` among them becomes the total.
        """
        if not self.scale:
            return self.base_step(model, batch, backward)
        recorder = self._open(model, tensors_of(batch.inputs)[0].device)
        taught = self.distiller.teach(batch.inputs, batch.image_sizes())
        seen: list[Tensor] = []

        def add_teacher(loss: Tensor) -> None:
            losses = torch.stack(list(self.distiller.compare(recorder, taught).values()))
            seen.append(losses.detach())
            recorder.clear()
            backward(loss + self.scale * losses.sum())
            # Activation checkpointing runs forward again inside backward, and records it.
            recorder.clear()

        with recorder:
            figures = self.base_step(model, batch, add_teacher)
        return self._with_distillation(figures, seen)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what is trained beside the student: connectors, and what the base step trains."""
        for name, parameter in self.distiller.connectors.named_parameters():
            yield f"connectors.{name}", parameter
        yield from super().named_parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the connectors' weights and the base step's state; never the teacher's."""
        return {"connectors": self.distiller.connectors.state_dict(), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: the state is of other connectors.
        """
        try:
            self.distiller.connectors.load_state_dict(state["connectors"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint's connectors are not those of the distiller block "
                f"({' '.join(str(error).split())}); resume with the block it was trained with"
            ) from error
        super().load_state_dict(state)

    def _scale_at(self, step: int) -> float:
        if step < self.start_step or (self.stop_step is not None and step >= self.stop_step):
            return 0.0
        return min(1.0, (step - self.start_step + 1) / max(1, self.warmup_steps))

    def _open(self, model: nn.Module, device: torch.device) -> Recorder:
        if self._student is None or self._student[0] is not model:
            self._student = (model, self.distiller.to(device).recorder(model))
        return self._student[1]

    def _with_distillation(self, figures: Metrics, seen: Sequence[Tensor]) -> Metrics:
        if not seen:
            return figures
        means = torch.stack(list(seen)).mean(0).double().unbind()
        named = zip(self.distiller.names, means, strict=True)
        result: dict[str, Tensor | float] = {**figures}
        result |= {f"distill_{name}": mean for name, mean in named}
        if "loss" in result:
            result["loss"] = result["loss"] + self.scale * sum(means)
        return result
