"""The simplest term: one position of the student, one of the teacher, and a loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.distill.config import DistillPair, Resize
from razorlite.distill.levels import paired_levels, resized
from razorlite.distill.scene import Scene, Term

Sides = tuple[Tensor, Tensor]


class PairTerm(Term):
    """Compares what one module of each side gives; modules that give several maps sum theirs.

    Args:
        pair: the two modules, loss and connector, which may be factories or built already.
    """

    def __init__(self, pair: DistillPair) -> None:
        super().__init__()
        self.pair, self.name = pair, pair.student or "output"
        self.student_taps, self.teacher_taps = (pair.student,), (pair.teacher_name,)
        self.loss = _built(pair.loss)
        self.connector = nn.Identity() if pair.connector is None else _built(pair.connector)

    def forward(self, scene: Scene) -> Tensor:
        """Return the weighted loss.

        Raises:
            ConfigError: the two sides do not fit; the message says what to add.
        """
        maps = self._matched(scene)
        known = self.loss.known(scene)
        return self.pair.weight * sum(
            (self.loss(ours, theirs, **known) for ours, theirs in maps),
            start=torch.zeros((), device=maps[0][0].device),
        )

    def rehearse(self, scene: Scene) -> None:
        """Compare shapes alone, of a batch without values and targets.

        Raises:
            ConfigError: the two sides do not fit; the message says what to add.
        """
        for ours, theirs in self._matched(scene):
            if self.loss.needs:
                self.loss.prepared(ours, theirs)
            else:
                self.loss(ours, theirs, **self.loss.known(scene))

    def _matched(self, scene: Scene) -> list[Sides]:
        """Return pairs of tensors, of one shape but for the channels if the loss takes any."""
        maps = paired_levels(
            str(self.pair),
            scene.student.taps[self.pair.student],
            scene.teacher.taps[self.pair.teacher_name],
            bool(self.pair.resize),
        )
        fitted = [self._fitted(*sides) for sides in maps]
        if self.pair.join:
            ours, theirs = zip(*fitted, strict=True)
            return [(_joined(ours), _joined(theirs))]
        return fitted

    def _fitted(self, own: Tensor, other: Tensor) -> Sides:
        """Return a tensor of the student and one of the teacher in one shape."""
        where = str(self.pair)
        _check_gradient(where, own)
        own = self.connector(own.float())
        if self.loss.same_channels:
            _check_channels(where, own, other, self.connector)
        return _same_size(where, own, other, self.pair.resize)


def _built(part: Any) -> Any:
    """Return what a factory builds; a module that is built already stays as it is."""
    return part if isinstance(part, nn.Module) else part()


def _check_gradient(where: str, student: Tensor) -> None:
    if torch.is_grad_enabled() and not student.requires_grad:
        raise ConfigError(
            f"{where}: the student's tensor has no gradient (a frozen part?), so this pair would "
            f"teach it nothing; name a module that is trained"
        )


def _check_channels(where: str, student: Tensor, teacher: Tensor, connector: nn.Module) -> None:
    ours, theirs = student.shape[1], teacher.shape[1]
    if ours == theirs:
        return
    kind = "LinearConnector" if student.ndim == 2 else "ConvConnector"
    if isinstance(connector, nn.Identity):
        cure = (
            f"add connector: {{type: {kind}, student_channels: {ours}, teacher_channels: {theirs}}}"
        )
    else:
        cure = f"set the connector's teacher_channels to {theirs}"
    raise ConfigError(f"{where}: the student has {ours} channels, the teacher {theirs}; {cure}")


def _same_size(where: str, student: Tensor, teacher: Tensor, resize: Resize) -> Sides:
    if student.ndim != teacher.ndim:
        raise ConfigError(
            f"{where}: the student's tensor has shape {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}; name modules that give the same kind of tensor"
        )
    ours, theirs = tuple(student.shape[2:]), tuple(teacher.shape[2:])
    if ours == theirs:
        return student, teacher
    if not resize or student.ndim != 4:
        raise ConfigError(
            f"{where}: the student's map is {' x '.join(map(str, ours))}, the teacher's "
            f"{' x '.join(map(str, theirs))}; name maps of one stride, or set resize: true"
        )
    if resize == "teacher":
        return student, resized(teacher.float(), ours)
    return resized(student, theirs), teacher


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Return (N, C, all locations) of maps (N, C, H, W) with equal N and C."""
    return torch.cat([item.flatten(2) for item in maps], dim=2)
