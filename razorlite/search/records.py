"""The journal of a search: what is searched, and each trial, checked when read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from razorlite.core.errors import RunFolderError
from razorlite.core.journal import Journal
from razorlite.search.trial import Trial

FORMAT = 2
_DEPTH = 20  # of blocks whose differences are named one by one
_FIELDS = ("trial", "score", "scores", "cost", "error", "seconds", "choices")


class TrialJournal:
    """A file whose first line says what is searched; each further line is one trial.

    Args:
        path: the file.
        header: what decides proposals and scores, as plain values.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any]) -> None:
        self._journal = Journal(path)
        # as it is when read again
        self._header = json.loads(json.dumps({"format": FORMAT, **header}, default=str))

    @property
    def path(self) -> Path:
        """The file."""
        return self._journal.path

    def open(self, resume: bool) -> list[tuple[int, dict[str, Any]]]:
        """Return line number and content of each recorded trial.

        A file that is not there, or holds no trial as yet, is begun.

        Raises:
            RunFolderError: it is there and `resume` is off, is of another search, or is damaged.
        """
        lines = self._journal.numbered()
        if lines:
            _check_kind(lines[0][1], self.path)
        if len(lines) < 2:
            self.path.unlink(missing_ok=True)
            self._journal.append(self._header)
            return []
        if not resume:
            raise RunFolderError(
                f"{self.path} holds a search of {len(lines) - 1} trials; resume it, or choose "
                f"another work dir"
            )
        _check_header(lines[0][1], self._header, self.path)
        return lines[1:]

    def append(self, trial: Trial) -> None:
        """Write a trial.

        Raises:
            RunFolderError: the file cannot be written; earlier trials are intact.
        """
        self._journal.append(trial.to_record())

    def read(self, line: int, record: Mapping[str, Any], expected: Trial, metric: str) -> Trial:
        """Return a recorded trial.

        Args:
            line: of the file.
            record: the line's content.
            expected: number, candidate and cost that this search has at this place, and the error
                of a candidate that may not be scored.
            metric: which metric is the score.

        Raises:
            RunFolderError: it is not the expected one, or makes no sense; names the line.
        """
        fault = _fault(record, expected, metric)
        if fault:
            raise RunFolderError(
                f"{self.path}:{line}: {fault}; restore the file, delete it from this line on to "
                f"score again what follows, or start in another work dir"
            )
        scores, score = record["scores"], record["score"]
        return replace(
            expected,
            subnet=expected.subnet.with_results(cost=expected.cost, scores=scores),
            score=None if score is None else float(score),
            scores={name: float(value) for name, value in scores.items()},
            error=record["error"],
            seconds=float(record["seconds"]),
        )


def _check_kind(header: Mapping[str, Any], path: Path) -> None:
    if "space" not in header or "searcher" not in header:
        raise RunFolderError(
            f"{path}:1: wants the first line of a search's journal, got one with "
            f"{_shown(', '.join(map(str, header)) or 'nothing')}; choose another work dir"
        )


def _check_header(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    if old.get("format") != FORMAT:
        raise RunFolderError(
            f"{path}:1: is of format {_shown(old.get('format'))}, this version of razorlite "
            f"reads {FORMAT}; start the search anew in another work dir"
        )
    before, after = _flat(old), _flat(new)
    names = [*after, *(name for name in before if name not in after)]
    changed = [n for n in names if before.get(n, "absent") != after.get(n, "absent")]
    if changed:
        first = changed[0]
        more = f" (and {len(changed) - 1} more: {', '.join(changed[1:4])})" if changed[1:] else ""
        raise RunFolderError(
            f"{path} is of another search: {first} was {_shown(before.get(first, 'absent'))}, now "
            f"{_shown(after.get(first, 'absent'))}{more}; use the old settings or another work dir"
        )


def _flat(tree: Any, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return leaves by dotted name; empty blocks, and what lies too deep, are leaves."""
    if not isinstance(tree, dict) or not tree or depth == _DEPTH:
        return {prefix[:-1]: tree}
    below = [_flat(sub, f"{prefix}{key}.", depth + 1) for key, sub in tree.items()]
    return {name: value for part in below for name, value in part.items()}


def _fault(record: Mapping[str, Any], expected: Trial, metric: str) -> str | None:
    """Return what is wrong with a record, None if nothing is."""
    if set(record) != set(_FIELDS):
        odd = sorted(set(record) ^ set(_FIELDS), key=str)[0]
        return f"a trial {'lacks' if odd in _FIELDS else 'has no'} {_shown(odd)}"
    if type(record["trial"]) is not int or record["trial"] != expected.number:
        return f"wants trial {expected.number}, got trial {_shown(record['trial'])}"
    if record["choices"] != dict(expected.subnet.choices):
        return (
            f"trial {expected.number} is not what this search proposes; it was changed, or written "
            f"by another version"
        )
    if record["cost"] != dict(expected.cost):
        return f"the cost is {_shown(dict(expected.cost))}, got {_shown(record['cost'])}"
    if not _is_finite(record["seconds"]) or record["seconds"] < 0:
        return f"seconds wants a number from 0, got {_shown(record['seconds'])}"
    return _score_fault(record["score"], record["scores"], record["error"], expected, metric)


def _score_fault(score: Any, scores: Any, error: Any, expected: Trial, metric: str) -> str | None:
    if not isinstance(scores, dict) or not all(map(_is_number, scores.values())):
        return f"scores wants names and numbers, got {_shown(scores)}"
    if error is not None and (not isinstance(error, str) or not error):
        return f"error wants a text or null, got {_shown(error)}"
    if (score is None) != (error is not None):
        return f"a trial has a score or an error, got {_shown(score)} and {_shown(error)}"
    if expected.error is not None and error != expected.error:
        return f"the candidate is {expected.error}, got {_shown(error or score)}"
    if score is not None and not _is_finite(score):
        return f"score wants a finite number, got {_shown(score)}"
    if score is not None and scores.get(metric) != score:
        return f"score is {_shown(score)}, and {metric} among the scores is {scores.get(metric)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: Any) -> str:
    try:
        text = " ".join(f"{value!s}".split())
    except RecursionError:
        text = "something nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."
