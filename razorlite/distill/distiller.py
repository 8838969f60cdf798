"""A frozen teacher and the pairs of places where a student is compared with it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.distill.config import DistillPair
from razorlite.distill.recorder import Recorder
from razorlite.structures import Batch, Inputs

Size = tuple[int, int]
Prepare = Callable[[Inputs, Sequence[Size]], Inputs]


class Distiller:
    """A frozen teacher and the losses that compare a student with it.

    Not a module, so that no model can swallow it: the teacher stays out of every state dict, is
    never trained and always runs in evaluation mode without gradients. Connectors are initialised
    from a seed of their own, alike on every process.

    Args:
        teacher: the built teacher, weights loaded; it is frozen here. It is called as
            `teacher(inputs)` with the student's batch.
        pairs: what is compared; loss and connector may be factories or ready modules.
        seed: of the connectors' initial weights.
        prepare: (inputs, sizes) of the student's batch to the inputs that the teacher sees, where
            it was trained on images of other preprocessing; see `razorlite.data.Renormalise`.

    Raises:
        ConfigError: no pairs, or the teacher has no such module.
    """

    def __init__(
        self,
        *,
        teacher: nn.Module,
        pairs: Sequence[DistillPair],
        seed: int = 0,
        prepare: Prepare | None = None,
    ) -> None:
        if not pairs:
            raise ConfigError("distiller.pairs is empty; name at least one place to compare")
        self._prepare = prepare
        self.teacher = teacher.eval().requires_grad_(False)
        self.pairs = list(pairs)
        self.names = _pair_names(self.pairs)
        self.losses = [_built(pair.loss) for pair in self.pairs]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.connectors = nn.ModuleList(_connector(pair) for pair in self.pairs)
        self._recorder = Recorder(teacher, {_teacher_name(pair) for pair in self.pairs})

    def to(self, device: torch.device | str) -> "Distiller":
        """Move teacher and connectors to a device and return self."""
        self.teacher.to(device)
        self.connectors.to(device)
        return self

    def recorder(self, student: nn.Module) -> Recorder:
        """Return a recorder of the student's side of every pair.

        Raises:
            ConfigError: the student has no such module, or shares weights with the teacher.
        """
        frozen = {id(parameter) for parameter in self.teacher.parameters()}
        if any(id(parameter) in frozen for parameter in student.parameters()):
            raise ConfigError(
                "student and teacher share weights, and a teacher is frozen; "
                "give the distiller a deep copy of the model"
            )
        return Recorder(student, {pair.student for pair in self.pairs})

    def teach(self, inputs: Inputs, sizes: Sequence[Size] | None = None) -> list[list[Tensor]]:
        """Run the teacher once and return what each pair records of it.

        Args:
            inputs: the student's, such as images (N, 3, H, W).
            sizes: (height, width) of each sample's images without padding; all by default.
        """
        self.teacher.eval()
        if self._prepare is not None:
            whole = Batch(inputs).image_sizes() if sizes is None else sizes
            inputs = self._prepare(inputs, whole)
        with torch.no_grad(), self._recorder as recorder:
            self.teacher(inputs)
            return [recorder[_teacher_name(pair)] for pair in self.pairs]

    def compare(self, student: Recorder, teacher: Sequence[list[Tensor]]) -> dict[str, Tensor]:
        """Return each pair's weighted loss, a float32 scalar, by the pair's name.

        Args:
            student: an open `recorder` after the student's forward.
            teacher: what `teach` returned for the same batch.

        Raises:
            ConfigError: the two sides do not fit; the message says what to add.
        """
        losses = {}
        for index, (name, pair) in enumerate(zip(self.names, self.pairs, strict=True)):
            maps = self._matched(index, student[pair.student], teacher[index])
            losses[name] = pair.weight * sum(
                (self.losses[index](ours, theirs) for ours, theirs in maps),
                start=torch.zeros((), device=maps[0][0].device),
            )
        return losses

    def _matched(
        self, index: int, student: list[Tensor], teacher: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return pairs of tensors of one shape."""
        pair, where = self.pairs[index], _where(self.pairs[index])
        if len(student) != len(teacher):
            raise ConfigError(
                f"{where}: the student gives {len(student)} maps, the teacher {len(teacher)}; "
                f"pick single ones by '{pair.student}[0]', or name other modules"
            )
        ours = []
        for own, other in zip(student, teacher, strict=True):
            _check_gradient(where, own)
            own = self.connectors[index](own.float())
            if self.losses[index].same_channels:
                _check_channels(where, own, other, self.connectors[index])
            ours.append(_same_size(where, own, other, pair.resize))
        if pair.join:
            return [(_joined(ours), _joined(teacher))]
        return list(zip(ours, teacher, strict=True))


def _built(part: Any) -> Any:
    """Return what a factory builds; a module that is built already stays as it is."""
    return part if isinstance(part, nn.Module) else part()


def _connector(pair: DistillPair) -> nn.Module:
    return nn.Identity() if pair.connector is None else _built(pair.connector)


def _teacher_name(pair: DistillPair) -> str:
    return pair.student if pair.teacher is None else pair.teacher


def _pair_names(pairs: Sequence[DistillPair]) -> list[str]:
    """Name pairs by the student's module, numbered where one is compared more than once."""
    names = [pair.student or "output" for pair in pairs]
    return [n if names.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(names)]


def _where(pair: DistillPair) -> str:
    return f"distiller pair student {pair.student!r}, teacher {_teacher_name(pair)!r}"


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


def _same_size(where: str, student: Tensor, teacher: Tensor, resize: bool) -> Tensor:
    if student.ndim != teacher.ndim:
        raise ConfigError(
            f"{where}: the student's tensor has shape {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}; name modules that give the same kind of tensor"
        )
    ours, theirs = tuple(student.shape[2:]), tuple(teacher.shape[2:])
    if ours == theirs:
        return student
    if not resize or student.ndim != 4:
        raise ConfigError(
            f"{where}: the student's map is {' x '.join(map(str, ours))}, the teacher's "
            f"{' x '.join(map(str, theirs))}; name maps of one stride, or set resize: true"
        )
    return F.interpolate(student, size=theirs, mode="bilinear", align_corners=False)


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Return (N, C, all locations) of maps (N, C, H, W) with equal N and C."""
    return torch.cat([item.flatten(2) for item in maps], dim=2)
