"""The journal of a search: what is searched, each batch and each trial, checked when read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.search.batch import Batch, read_batch
from razorlite.search.objectives import Objectives
from razorlite.search.trial import Trial

FORMAT = 3
_DEPTH = 20  # of blocks whose differences are named one by one
_ELASTIC = ("images", "promoted", "first_values")
_FIELDS = ("trial", "score", "scores", "cost", "error", "seconds", "choices")


class Entry(Protocol):
    """What has a line in the journal."""

    def to_record(self) -> dict[str, Any]:
        """Return the line."""


class SearchJournal:
    """A file whose first line says what is searched.

    Each batch of proposals has a line, with the searcher's state, and after it a line for each of
    its trials, in order.

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
        """Return line number and content of each batch and trial.

        A file that is not there is begun, and so is, unless resumed, one that holds no trial.

        Raises:
            RunFolderError: it is there and `resume` is off, is of another search, or is damaged.
        """
        lines = self._journal.numbered()
        if lines:
            _check_kind(lines[0][1], self.path)
        trials = sum("trial" in record for _, record in lines)
        if len(lines) < 2 or not (trials or resume):
            self.path.unlink(missing_ok=True)
            self._journal.append(self._header)
            return []
        if not resume:
            raise RunFolderError(
                f"{self.path} holds a search of {trials} trials; resume it, or choose another work "
                f"dir"
            )
        _check_header(lines[0][1], self._header, self.path)
        return lines[1:]

    def append(self, item: Entry) -> None:
        """Write a batch, a trial, or one on the first images of an elastic search.

        Raises:
            RunFolderError: the file cannot be written; earlier lines are intact.
            ConfigError: the batch's state holds what JSON does not.
        """
        self._journal.append(item.to_record())

    def batch(self, line: int, record: Mapping[str, Any], number: int, first: int) -> Batch:
        """Return a recorded batch.

        Args:
            line: of the file.
            record: the line's content.
            number: of the batch that is due.
            first: number of its first trial.

        Raises:
            RunFolderError: it is another one, or damaged; names the line.
        """
        batch = read_batch(record, number, first)
        return batch if isinstance(batch, Batch) else self.refuse(line, batch)

    def refuse(self, line: int, fault: str) -> NoReturn:
        """Raise the error about a line that cannot be gone on from.

        Raises:
            RunFolderError: always.
        """
        raise RunFolderError(
            f"{self.path}:{line}: {fault}; restore the file, delete it from this line on to "
            f"score again what follows, or start in another work dir"
        )

    def trial(
        self, line: int, record: Mapping[str, Any], expected: Trial, objectives: Objectives
    ) -> Trial:
        """Return a recorded trial.

        Args:
            line: of the file.
            record: the line's content.
            expected: number, candidate and cost that this search expects here, and the error
                of a candidate that may not be scored.
            objectives: what candidates are compared by.

        Raises:
            RunFolderError: it is not the expected one, or makes no sense; names the line.
        """
        fault = _fault(record, expected, objectives)
        if fault:
            self.refuse(line, fault)
        scores = {name: float(value) for name, value in record["scores"].items()}
        scored = record["score"] is not None
        return replace(
            expected,
            subnet=expected.subnet.with_results(cost=expected.cost, scores=scores),
            values=objectives.values(scores, expected.cost) if scored else (),
            scores=scores,
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


def _fault(record: Mapping[str, Any], expected: Trial, objectives: Objectives) -> str | None:
    """Return what is wrong with a record, None if nothing is."""
    fields = _FIELDS if expected.images is None else (*_FIELDS, *_ELASTIC)
    if set(record) != set(fields):
        odd = sorted(set(record) ^ set(fields), key=str)[0]
        return f"a trial {'lacks' if odd in fields else 'has no'} {_shown(odd)}"
    if type(record["trial"]) is not int or record["trial"] != expected.number:
        return f"wants trial {expected.number}, got trial {_shown(record['trial'])}"
    if record["choices"] != dict(expected.subnet.choices):
        return f"trial {expected.number} is not what its batch proposes"
    if record["cost"] != dict(expected.cost):
        return _cost_fault(record["cost"], expected.cost)
    if not _is_finite(record["seconds"]) or record["seconds"] < 0:
        return f"seconds wants a number from 0, got {_shown(record['seconds'])}"
    return (
        _elastic_fault(record, expected)
        or _error_fault(record, expected)
        or _score_fault(record, expected, objectives)
    )


def _cost_fault(cost: Any, expected: Mapping[str, Any]) -> str:
    """Name the kinds of cost that differ, and them alone."""
    if not isinstance(cost, dict):
        return f"the cost is {_shown(dict(expected))}, got {_shown(cost)}"
    names = [n for n in {**expected, **cost} if expected.get(n) != cost.get(n)]
    ours, theirs = ({n: known[n] for n in names if n in known} for known in (expected, cost))
    return f"the cost is {_shown(ours)}, got {_shown(theirs)} (of another cost model?)"


def _elastic_fault(record: Mapping[str, Any], expected: Trial) -> str | None:
    """Compare what came of a candidate on the first images; other searches have no such entries."""
    known = expected.to_record()
    for name in _ELASTIC if expected.images is not None else ():
        if record[name] != known[name]:
            return f"{name} is {known[name]} by the first images, got {_shown(record[name])}"
    return None


def _error_fault(record: Mapping[str, Any], expected: Trial) -> str | None:
    score, error = record["score"], record["error"]
    if error is not None and (not isinstance(error, str) or not error):
        return f"error wants a text or null, got {_shown(error)}"
    if not expected.promoted and (score is not None or error != expected.error):
        return f"the candidate is not promoted, got {_shown(score or error)}"
    if expected.promoted and (score is None) != (error is not None):
        return f"a trial has a score or an error, got {_shown(score)} and {_shown(error)}"
    if expected.error is not None and error != expected.error:
        return f"the candidate is {expected.error}, got {_shown(error or score)}"
    return None


def _score_fault(record: Mapping[str, Any], expected: Trial, objectives: Objectives) -> str | None:
    score, scores = record["score"], record["scores"]
    if not isinstance(scores, dict) or not all(map(_is_number, scores.values())):
        return f"scores wants names and numbers, got {_shown(scores)}"
    if score is None:
        return None
    if not _is_finite(score):
        return f"score wants a finite number, got {_shown(score)}"
    try:
        values = objectives.values(scores, expected.cost)
    except ConfigError as error:
        return str(error)
    if values[0] != score:
        return f"score is {_shown(score)}, and by its {objectives.first} it is {values[0]}"
    return objectives.fault(values)


def _is_number(value: Any) -> bool:
    whole = type(value) is int and abs(value) < 1 << 1000  # a larger one is beyond all floats
    return whole or isinstance(value, float)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _shown(value: Any) -> str:
    try:
        text = " ".join(f"{value!s}".split())
    except RecursionError:
        text = "something nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."
