"""Distillation without images: a generator that is trained in turns with the student."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.core import distributed
from razorlite.core.compute import full_precision
from razorlite.core.config import Given
from razorlite.core.errors import CheckpointError
from razorlite.core.registry import register
from razorlite.core.tensor_files import first_line
from razorlite.distill.config import SyntheticConfig
from razorlite.distill.generator import Generator, GeneratorLoss
from razorlite.distill.step import DistilledStep
from razorlite.engine.exchange import average_tensors
from razorlite.engine.schedules import Constant, Schedule
from razorlite.engine.steps import Backward, Metrics, Step, WrappingStep
from razorlite.engine.untouched import untouched
from razorlite.structures import Batch


class NoiseLoader:
    """Batches of normal noise (N, latent), of which a generator makes images.

    What a batch holds depends on the seed and its position alone. Several processes together see
    what one would with a batch as large as all of theirs.

    Args:
        latent: numbers of noise that an image is made of.
        batch_size: images in a batch of this process.
        length: batches of the whole run, which is one epoch.
        repeats: how many batches in a row are of the same noise.
        seed: of the noise.
        device: where it goes.
    """

    def __init__(
        self,
        *,
        latent: int,
        batch_size: int,
        length: int,
        repeats: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.latent, self.batch_size, self._length = latent, batch_size, length
        self.repeats, self.seed, self.device = repeats, seed, device
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        """Let the next pass start at a batch."""
        self._position = epoch * self._length + batch_index

    def __iter__(self) -> Iterator[Batch]:
        for position in range(self._position, self._position + self._length):
            yield Batch(self._noise(position // self.repeats))

    def _noise(self, number: int) -> Tensor:
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        shape = (self.batch_size * distributed.world_size(), self.latent)
        whole = torch.randn(shape, generator=generator)
        return whole[distributed.rank() :: distributed.world_size()].to(self.device)


class ForwardStep(Step):
    """Runs the student on images without labels: all that it learns is a teacher's."""

    def __call__(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        """Call `backward` once, with no loss of the student's own."""
        output = model(batch.inputs)
        backward(torch.zeros((), device=output.device))
        return {"loss": 0.0}


@register()
class SyntheticStep(WrappingStep):
    """A training step on images that a generator makes of noise.

    In turns: the generator moves `generator_steps` times against both models, then the student
    learns for `student_steps` optimiser steps from the images of the same noise. The generator has
    an optimiser of its own; both are kept in checkpoints for resuming, never in the student's.

    Args:
        base_step: what the student does with the images; a `DistilledStep` around a `ForwardStep`.
        synthetic: generator, its loss and optimiser.
        seed: of the generator's initial weights.
        total_steps: optimiser steps of the whole run, for the generator's learning rate.
    """

    def __init__(
        self,
        base_step: Given[DistilledStep],
        *,
        synthetic: Given[SyntheticConfig],
        seed: Given[int] = 0,
        total_steps: Given[int | None] = None,
    ) -> None:
        super().__init__(base_step)
        self.config, self.total_steps = synthetic, total_steps
        assert synthetic.generator is not None, "the block is in full"
        assert synthetic.loss is not None
        assert synthetic.optimizer is not None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.generator: Generator = synthetic.generator()
        self.generator_loss: GeneratorLoss = synthetic.loss()
        self.schedule: Schedule = synthetic.schedule() if synthetic.schedule else Constant()
        self.optimizer = synthetic.optimizer([{"params": list(self.generator.parameters())}])
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        distiller = base_step.distiller
        assert distiller.teacher is not None, "images are made for a teacher"
        self.teacher = distiller.teacher
        distiller.keeps_lesson = synthetic.student_steps > 1
        self._batch: Batch | None = None
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        super().begin(step)
        self._number = step

    def __call__(self, model: nn.Module, batch: Batch, backward: Backward) -> Metrics:
        """Move the generator where it is its turn, then let the student learn from its images.

        Args:
            model: the student.
            batch: its inputs are noise (N, latent).
            backward: what the student's losses go to.

        Returns:
            The metrics of the step inside, and `generator_loss` where the generator has moved.
        """
        noise = batch.inputs
        assert isinstance(noise, Tensor)
        self._place(noise.device)
        moves = self._number % self.config.student_steps == 0
        losses = [self._move(model, noise) for _ in range(self.config.generator_steps * moves)]
        if moves or self._batch is None:
            self._batch = replace(batch, inputs=self.images(noise))
        metrics = self.base_step(model, self._batch, backward)
        return {**metrics, **({"generator_loss": torch.stack(losses).mean()} if losses else {})}

    @torch.no_grad()
    def images(self, noise: Tensor) -> Tensor:
        """Return the images (N, 3, H, W) of noise (N, latent), as the models see them."""
        with untouched(self.generator):  # made once more where a run is resumed
            images: Tensor = self.generator.train()(noise).float()
        return images

    def rehearse(self, student: nn.Module) -> None:
        """Compute the generator's loss once, on shapes alone.

        Raises:
            ConfigError: the teacher has not what the loss records.
        """
        noise = torch.zeros(2, self.generator.latent, device="meta")
        self.generator_loss(student, self.teacher, self.generator(noise))

    def statistics(self) -> Iterator[Tensor]:
        """Yield the generator's floating buffers, and those of the step inside."""
        yield from (b for b in self.generator.buffers() if b.is_floating_point())
        yield from super().statistics()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator, of its optimiser and of the step inside."""
        own = {"generator": self.generator.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**own, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: the state is of another generator, or of none.
        """
        try:
            self.generator.load_state_dict(state["generator"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint's generator is not that of distiller.synthetic "
                f"({first_line(error)}); resume with the block it was trained with"
            ) from error
        self._batch = None
        super().load_state_dict(state)

    def _place(self, device: torch.device) -> None:
        if next(self.generator.parameters()).device != device:
            self.generator.to(device)
        self.teacher.to(device)

    def _move(self, student: nn.Module, noise: Tensor) -> Tensor:
        """Move the generator once; return its 0-dim loss."""
        parameters = list(self.generator.parameters())
        self.teacher.eval()
        with _without_float16(noise.device):
            loss = self.generator_loss(student, self.teacher, self.generator.train()(noise))
        with full_precision(noise.device):
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._apply(parameters, gradients)
        return loss.detach()

    def _apply(
        self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
    ) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        average_tensors(g for g in gradients if g is not None)
        if self.config.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_grad_norm)
        for group in self.optimizer.param_groups:
            factor = self.schedule.factor(self._number, self.total_steps or self._number + 1)
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad()


def _without_float16(device: torch.device) -> Any:
    """Return a context without float16, whose small numbers a generator's gradients fall below."""
    half = torch.is_autocast_enabled(device.type)
    half = half and torch.get_autocast_dtype(device.type) == torch.float16
    return full_precision(device) if half else nullcontext()
