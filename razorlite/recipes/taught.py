"""What a distillation gave, in words: a teacher worse than its student, losses that do not fall."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from razorlite.core.errors import RazorliteError
from razorlite.core.journal import Journal
from razorlite.distill import DistilledStep
from razorlite.distill.teachers import Prepare
from razorlite.engine.run_folder import on_main
from razorlite.engine.steps import Step
from razorlite.recipes.steps import chain
from razorlite.structures import Batch

_log = logging.getLogger("razorlite")
_FEWEST = 10  # logged lines of which the first and the last fifth are compared

Score = Callable[[nn.Module], dict[str, float]]


def tell_of_lesson(
    step: Step, folder: Path, student: dict[str, float], score: Score | None
) -> None:
    """Log what is odd about a distillation that has ended.

    Args:
        step: the training step.
        folder: the run folder.
        student: metrics of the student's last evaluation, the one that counts first.
        score: gives the metrics of a model on the same images; None where there are none.
    """
    for distiller in [part.distiller for part in chain(step) if isinstance(part, DistilledStep)]:
        on_main(lambda: _tell_flat(folder))
        for title, teacher, prepare in distiller.models():
            if score is not None and student and hasattr(teacher, "predict"):
                _compare(title, _Seeing(teacher, prepare), student, score)


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
    return [line for line in Journal(folder / "metrics.jsonl").read() if line["kind"] == "train"]


def _tell_flat(folder: Path) -> None:
    for line in flat_losses(_lines(folder)):
        _log.warning("%s", line)


def _compare(title: str, teacher: nn.Module, student: dict[str, float], score: Score) -> None:
    """Log where a teacher is worse than its student; one that cannot be scored is left out."""
    name = next(iter(student))
    try:
        theirs = score(teacher)[name]
    except (RazorliteError, RuntimeError, KeyError) as error:
        _log.info("%s was not scored: %s", title, error)
        return
    if theirs < student[name]:
        on_main(
            lambda: _log.warning(
                "%s has %s %.4f on val, its student %.4f: it is the worse of the two; train it "
                "longer, or take another",
                title,
                name,
                theirs,
                student[name],
            )
        )


class _Seeing(nn.Module):
    """A teacher that predicts from a student's batches."""

    def __init__(self, teacher: nn.Module, prepare: Prepare | None) -> None:
        super().__init__()
        self.teacher, self.prepare = teacher, prepare

    def predict(self, batch: Batch) -> Any:
        """Return what the teacher predicts of images (N, 3, H, W) as the student sees them."""
        if self.prepare is not None:
            batch = replace(batch, inputs=self.prepare(batch.inputs, batch.image_sizes()))
        predict: Any = self.teacher.predict
        return predict(batch)
