"""Several teachers as one."""

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from razorlite.structures import Inputs

Size = tuple[int, int]
Prepare = Callable[[Inputs, Sequence[Size]], Inputs]


class Teachers(nn.ModuleDict):
    """Several teachers of one student, each by its name.

    What is recorded of them begins with the name: `large.neck`, `encoder`.

    Args:
        teachers: built, with their weights, by name.
        prepare: of those that see other images than the student, what makes them; see `Distiller`.
    """

    def __init__(
        self, teachers: Mapping[str, nn.Module], prepare: Mapping[str, Prepare] | None = None
    ) -> None:
        super().__init__(teachers)
        self.prepare = dict(prepare or {})
