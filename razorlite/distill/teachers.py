"""How a teacher runs, and several teachers as one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from razorlite.core.compute import Precision, in_precision
from razorlite.structures import Batch, Inputs, tensors_of

Size = tuple[int, int]
Prepare = Callable[[Inputs, Sequence[Size]], Inputs]


@dataclass(frozen=True)
class Running:
    """One teacher and how it runs on a student's batches.

    Attributes:
        title: what to call it.
        model: the teacher.
        prepare: makes its inputs of the student's; None where they are the same.
        precision: of its layers; None for that of the training.
    """

    title: str
    model: nn.Module
    prepare: Prepare | None = None
    precision: Precision | None = None

    def inputs(self, batch: Batch) -> Inputs:
        """Return what it sees of a batch as the student sees it."""
        if self.prepare is None:
            return batch.inputs
        return self.prepare(batch.inputs, batch.image_sizes())

    def context(self, batch: Batch) -> AbstractContextManager[Any]:
        """Return what it runs in, where the batch is.

        Raises:
            ConfigError: the device cannot compute in its precision.
        """
        return in_precision(self.precision, tensors_of(batch.inputs)[0].device)


class Teachers(nn.ModuleDict):
    """Several teachers of one student, each by its name.

    What is recorded of them begins with the name: `large.neck`, `encoder`.

    Args:
        teachers: built, with their weights, by name.
        prepare: of those that see other images than the student, what makes them; see `Distiller`.
        precision: of those that compute in another precision than the training.
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module],
        prepare: Mapping[str, Prepare] | None = None,
        precision: Mapping[str, Precision] | None = None,
    ) -> None:
        super().__init__(teachers)
        self.prepare, self.precision = dict(prepare or {}), dict(precision or {})
