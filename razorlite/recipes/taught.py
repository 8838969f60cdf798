"""What a distillation gave, in words: a teacher worse than its student, losses that do not fall."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from razorlite.core.errors import RazorliteError
from razorlite.core.journal import Journal
from razorlite.core.tensor_files import first_line
from razorlite.distill import DistilledStep, Distiller, SyntheticStep
from razorlite.distill.teachers import Running
from razorlite.engine.run_folder import on_main
from razorlite.engine.steps import Step
from razorlite.engine.untouched import untouched
from razorlite.recipes.steps import chain
from razorlite.structures import Batch

_log = logging.getLogger("razorlite")
_FEWEST = 10  # logged lines of which the first and the last fifth are compared

Score = Callable[[nn.Module], dict[str, float]]


class Lesson:
    """What is told of a distillation: how good its teachers are, and what is odd about it.

    Args:
        step: the training step.
        score: gives the metrics of a model on val; None where there are none.
    """

    def __init__(self, step: Step, score: Score | None) -> None:
        steps = list(chain(step))
        self._distillers = [p.distiller for p in steps if isinstance(p, DistilledStep)]
        self._against = any(isinstance(part, SyntheticStep) for part in steps)
        self._score = score
        self._known: dict[str, dict[str, float]] = {}

    def begin(self) -> None:
        """Score the teachers on val, and log it; those that move along with the student later."""
        self._score_all([d for d in self._distillers if d.average is None])
        for title, metrics in self._known.items():
            for name, value in list(metrics.items())[:1]:
                tell("%s has %s %.4f on val", title, name, value)

    def end(self, folder: Path, student: dict[str, float]) -> None:
        """Log which is better, and which losses have not fallen.

        Args:
            folder: the run folder.
            student: metrics of the student's last evaluation, the one that counts first.
        """
        if self._distillers and not self._against:  # a generator's images become harder
            on_main(lambda: _tell_flat(folder))
        if student:
            self._score_all(self._distillers)
            for title, metrics in self._known.items():
                _compare(title, metrics, student)

    def _score_all(self, distillers: Sequence[Distiller]) -> None:
        for own in (own for d in distillers for own in d.models()):
            if own.title not in self._known and hasattr(own.model, "predict"):
                self._known[own.title] = self._scored(own)

    def _scored(self, own: Running) -> dict[str, float]:
        """Return a teacher's metrics; none of one that cannot be scored."""
        if self._score is None:
            return {}
        start = time.perf_counter()
        try:
            with untouched(own.model):
                found = self._score(_Seeing(own))
        except (RazorliteError, RuntimeError, KeyError) as error:
            tell("%s was not scored: %s", own.title, first_line(error))
            return {}
        seconds = time.perf_counter() - start
        tell("scored %s in %.1f s; distiller.score_teacher=false leaves it out", own.title, seconds)
        return found


def tell(message: str, *values: object) -> None:
    """Log on one process."""
    on_main(lambda: _log.info(message, *values))


def flat_losses(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence on each loss of distillation that has not fallen over a run.

    Args:
        lines: of metrics.jsonl.
    """
    names = dict.fromkeys(key for line in lines for key in line if key.startswith("distill_"))
    for name in names:
        values = [line[name] for line in lines if line.get(name) is not None]
        fifth = len(values) // 5
        if len(values) < _FEWEST:
            continue
        first, last = fmean(values[:fifth]), fmean(values[-fifth:])
        if last >= first:
            yield (
                f"{name} has not fallen: {first:.4g} in the first fifth of the run, {last:.4g} in "
                f"the last; the student does not learn it, so try another weight or recipe"
            )


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [
        line for line in Journal(folder / "metrics.jsonl").read() if line.get("kind") == "train"
    ]


def _tell_flat(folder: Path) -> None:
    for line in flat_losses(_lines(folder)):
        _log.warning("%s", line)


def _compare(title: str, teacher: dict[str, float], student: dict[str, float]) -> None:
    """Log the metric that counts of a teacher and its student; a worse teacher is warned of."""
    name = next(iter(student))
    if name not in teacher:
        return
    theirs, ours = teacher[name], student[name]
    if theirs >= ours:
        tell("%s has %s %.4f on val, its student %.4f", title, name, theirs, ours)
        return
    on_main(
        lambda: _log.warning(
            "%s has %s %.4f on val, its student %.4f: it is the worse of the two; train it "
            "longer, or take another",
            title,
            name,
            theirs,
            ours,
        )
    )


class _Seeing(nn.Module):
    """A teacher that predicts from a student's batches."""

    def __init__(self, own: Running) -> None:
        super().__init__()
        self.teacher, self.own = own.model, own

    def predict(self, batch: Batch) -> Any:
        """Return what the teacher predicts of images (N, 3, H, W) as the student sees them."""
        predict: Any = self.teacher.predict
        with self.own.context(batch):
            return predict(replace(batch, inputs=self.own.inputs(batch)))
