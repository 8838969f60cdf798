"""A teacher that is the student's own average."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError
from razorlite.engine.ema import EmaConfig


class Averaged:
    """Moves a copy of a student along with it: the mean teacher.

    The first call copies the student's weights, later ones average them (Tarvainen and Valpola,
    https://arxiv.org/abs/1703.01780, section 2); statistics of batch norms alike. What is no
    floating number is copied.

    Args:
        teacher: a deep copy of the student.
        config: decay and its warm-up.
    """

    def __init__(self, teacher: nn.Module, config: EmaConfig) -> None:
        self._teacher, self._config = teacher, config
        self.updates = 0

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move the teacher towards a student; once for each optimiser step, before it."""
        weight = 1 - self._config.decay_at(self.updates) if self.updates else 1.0
        self.updates += 1
        averages, sources = self._teacher.state_dict(), student.state_dict()
        moving = [n for n, t in averages.items() if t.is_floating_point() and weight < 1]
        if moving:
            torch._foreach_lerp_(
                [averages[name] for name in moving], [sources[name] for name in moving], weight
            )
        for name in averages.keys() - set(moving):
            averages[name].copy_(sources[name])

    def statistics(self) -> Iterator[Tensor]:
        """Yield the teacher's floating buffers, which differ between processes."""
        yield from (b for b in self._teacher.buffers() if b.is_floating_point())

    def state_dict(self) -> dict[str, Any]:
        """Return the average (by reference) and the number of updates."""
        return {"updates": self.updates, "average": self._teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: there is none, or it is of another model.
        """
        if state is None:
            raise CheckpointError(
                "the checkpoint has no average of the student; resume with the distiller.teacher "
                "it was trained with"
            )
        self._teacher.load_state_dict(state["average"])
        self.updates = state["updates"]
