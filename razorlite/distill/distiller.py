"""A frozen teacher and what a student learns from it."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from razorlite.core.compute import Precision, in_precision
from razorlite.core.errors import ConfigError
from razorlite.distill.averaged import Averaged
from razorlite.distill.config import DistillPair
from razorlite.distill.lesson_cache import LessonCache
from razorlite.distill.pairs import PairTerm
from razorlite.distill.recorder import Recorder
from razorlite.distill.scene import Scene, Side, Term
from razorlite.distill.shortened import Shortened
from razorlite.distill.taps import Recorded, flat_tensors
from razorlite.distill.teachers import Prepare, Running, Teachers
from razorlite.engine.ema import EmaConfig
from razorlite.structures import Batch, Inputs

_log = logging.getLogger("razorlite")


class Distiller:
    """A frozen teacher and the terms that compare a student with it.

    Not a module, so that no model can swallow it: the teacher stays out of every state dict, is
    never trained and always runs in evaluation mode without gradients. Terms are built from a seed
    of their own, alike on every process.

    Args:
        teacher: the built teacher, weights loaded; it is frozen here. It is called as
            `teacher(inputs)` with the student's batch, and left as soon as all that is recorded of
            it has run. None where the student's own first path of each step is the teacher of its
            others; `Teachers` for several.
        pairs: modules that are compared; loss and connector may be factories or ready modules.
        terms: what else is learnt; terms or factories of them.
        seed: of the terms' initial weights.
        prepare: (inputs, sizes) of the student's batch to the inputs that the teacher sees, where
            it was trained on images of other preprocessing; see `razorlite.data.Renormalise`.
        precision: of the teacher's layers, where it is not to be that of the training; what is
            recorded of it is float32 then.
        ema: the teacher, a deep copy of the student, is the student's own average, and forgets so
            fast; see `Averaged`.
        cache: keeps the teacher's outputs for images that come again.

    Attributes:
        parts: the terms, pairs first.
        terms: the same as one module.
        names: of the terms, for the log.
        average: what moves the teacher along with the student, where it is the average.
        keeps_lesson: keep what the teacher gave for the last inputs, as they come again.

    Raises:
        ConfigError: nothing is compared, or the teacher has no such module.
    """

    def __init__(
        self,
        *,
        teacher: nn.Module | None,
        pairs: Sequence[DistillPair] = (),
        terms: Sequence[Term | Callable[[], Term]] = (),
        seed: int = 0,
        prepare: Prepare | None = None,
        precision: Precision | None = None,
        ema: EmaConfig | None = None,
        cache: LessonCache | None = None,
    ) -> None:
        if not pairs and not terms:
            raise ConfigError("distiller.pairs is empty; name at least one position to compare")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            built = [*map(PairTerm, pairs), *(t if isinstance(t, Term) else t() for t in terms)]
        self.parts, self.terms, self.names = built, nn.ModuleList(built), _names(built)
        self.teacher, self._cache = teacher, cache
        self._running = list(_running(teacher, prepare, precision))
        self._recorder: Recorder | None = None
        self._looked, self.keeps_lesson = False, False
        self._lesson: tuple[Inputs, Side] | None = None
        self._lessons = itertools.count()
        self.average = Averaged(teacher, ema) if teacher is not None and ema is not None else None
        if teacher is not None:
            teacher.eval().requires_grad_(False)
            self._recorder = _recorder("the teacher", teacher, (t.teacher_taps for t in built))
            self._runs = [
                (Shortened(own.model, _recorded(own.model, self._recorder)), own)
                for own in self._running
            ]

    def to(self, device: torch.device | str) -> "Distiller":
        """Move teacher and terms to a device and return self.

        Raises:
            ConfigError: the device cannot compute in a teacher's precision.
        """
        for own in self._running:
            in_precision(own.precision, torch.device(device))
        if self.teacher is not None:
            self.teacher.to(device)
        self.terms.to(device)
        return self

    def recorder(self, student: nn.Module) -> Recorder:
        """Return a recorder of all that the terms look at in a student.

        Raises:
            ConfigError: the student has no such module, or shares weights with the teacher.
        """
        names = [term.student_taps for term in self.parts]
        if self.teacher is None:
            names += [term.teacher_taps for term in self.parts]
        else:
            _check_apart(student, self.teacher)
        return _recorder("the student", student, names)

    def follow(self, student: nn.Module) -> None:
        """Move the teacher towards the student, where it is the student's average."""
        if self.average is not None:
            self.average.follow(student)

    def teach(self, batch: Batch) -> Side | None:
        """Run the teacher once and return what was recorded of it; None if there is none."""
        if self.teacher is None or self._recorder is None:
            return None
        if self._lesson is not None and self._lesson[0] is batch.inputs:
            return self._lesson[1]
        known = None if self._cache is None else self._cache.get(batch.inputs)
        side = Side(self.teacher, self._look(batch) if known is None else known)
        self._lesson = (batch.inputs, side) if self.keeps_lesson else None
        return side

    def _look(self, batch: Batch) -> Recorded:
        """Run the teacher as far as it is recorded and return what was."""
        assert self.teacher is not None
        assert self._recorder is not None
        self.teacher.eval()
        with torch.no_grad(), self._recorder as recorder:
            for run, own in self._runs:
                with own.context(batch):
                    run(own.inputs(batch))
            apart = any(own.precision for own in self._running)
            kept = recorder.kept(_as_float32 if apart else None)
        if not self._looked:
            self._looked = True
            _tell_constant(kept)
        if self._cache is not None:
            self._cache.put(batch.inputs, kept)
        return kept

    def models(self) -> Sequence[Running]:
        """Return each teacher and how it runs."""
        return self._running

    @contextmanager
    def lesson(self, student: nn.Module, batch: Batch) -> Iterator[Callable[[], Tensor]]:
        """Record a student within the block; what is given returns all terms' losses, summed.

        For training loops of one's own, in which each lesson counts as a step:

            with distiller.lesson(student, Batch(images)) as taught:
                losses = student(images, targets)
                total = sum(losses.values()) + taught()

        Args:
            student: what learns.
            batch: what it is called with, normalised as it wants it.

        Raises:
            ConfigError: the two sides do not fit, or the student has no such module.
        """
        self.follow(student)
        teacher = self.teach(batch)
        assert teacher is not None, "a lesson needs a teacher"
        with self.recorder(student) as taps:
            scene = Scene(batch, Side(student, taps), teacher, next(self._lessons))
            yield lambda: torch.stack(list(self.compare(scene).values())).sum()

    def compare(self, scene: Scene) -> dict[str, Tensor]:
        """Return each term's losses, float32 scalars, by the term's name.

        Several losses of one term are named `TERM.LOSS`.

        Raises:
            ConfigError: the two sides do not fit; the message says what to add.
        """
        losses: dict[str, Tensor] = {}
        for name, term in zip(self.names, self.parts, strict=True):
            found = term(scene)
            several = isinstance(found, Mapping)
            parts = {f"{name}.{k}": v for k, v in found.items()} if several else {name: found}
            losses |= {key: _scalar(key, value) for key, value in parts.items()}
        return losses


def _running(
    teacher: nn.Module | None, prepare: Prepare | None, precision: Precision | None
) -> Iterator[Running]:
    if isinstance(teacher, Teachers):
        for name, model in teacher.items():
            views = teacher.prepare.get(name), teacher.precision.get(name)
            yield Running(f"the teacher {name!r}", model, *views)
    elif teacher is not None:
        yield Running("the teacher", teacher, prepare, precision)


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def _recorded(model: nn.Module, recorder: Recorder) -> list[nn.Module] | None:
    """Return which modules of a model are recorded; None where methods are, which run any time."""
    inside = set(model.modules())
    found = [
        (recorder.taps[name].method, module)
        for name, modules in recorder.modules.items()
        for module in modules.values()
        if module in inside
    ]
    return None if any(method for method, _ in found) else [module for _, module in found]


def _tell_constant(recorded: Recorded) -> None:
    """Log which of a teacher's tensors have one value throughout, which nothing is learnt from."""
    for name in recorded.taps:
        calls = recorded.calls(name) if recorded.taps[name].method == "" else []
        tensors = [t for t in flat_tensors(calls) if t.numel() > 1 and t.device.type != "meta"]
        constant = [i for i, t in enumerate(tensors) if bool((t == t.flatten()[0]).all())]
        whole = [name] if len(constant) == len(tensors) else [f"{name}[{i}]" for i in constant]
        for title in whole if constant else ():
            _log.warning(
                "the teacher's %r is constant on the first batch, so there is nothing to learn "
                "from it; has the teacher its weights?",
                title,
            )


def _scalar(name: str, loss: object) -> Tensor:
    """Return a loss as a float32 scalar.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss.float()
    came = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise ConfigError(f"distiller term {name} gave no scalar but {came}; return a mean or a sum")


def _names(terms: Sequence[Term]) -> list[str]:
    """Name terms, with their number where a name is there more than once."""
    names = [term.name or type(term).__name__ for term in terms]
    return [n if names.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(names)]


def _recorder(role: str, model: nn.Module, names: Iterable[Sequence[str]]) -> Recorder:
    """Return a recorder of joined taps, each once, whose errors name the side."""
    taps = dict.fromkeys(name for some in names for name in some)
    return Recorder(model, taps, f"{role} {type(model).__name__}")


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse a student that shares weights with its teacher.

    Raises:
        ConfigError: it does.
    """
    frozen = {id(parameter) for parameter in teacher.parameters()}
    if any(id(parameter) in frozen for parameter in student.parameters()):
        raise ConfigError(
            "student and teacher share weights, and a teacher is frozen; "
            "give the distiller a deep copy of the model"
        )
