"""Where candidates are scored, and whose fault it is when that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from razorlite.core.distributed import gather_objects, rank, world_size
from razorlite.core.errors import ConfigError, RazorliteError
from razorlite.space import Subnet

Score = Callable[[Subnet], float | Mapping[str, float]]


class SearchError(RazorliteError):
    """A search cannot go on, for instance because every candidate fails."""


class CandidateError(RazorliteError):
    """A candidate cannot be scored through a fault of its own; the search goes on without it."""


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt to score a candidate.

    Attributes:
        metrics: all metrics that scoring gave; none if it failed.
        error: the candidate's own fault, in one line.
        stop: what else went wrong, class and message of the error to raise: the candidate has no
            score yet, and the search has to end.
        seconds: how long scoring took.
        cause: the error behind `stop`, in the process where it happened.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    stop: tuple[type[BaseException], str] | None = None
    seconds: float = 0.0
    cause: BaseException | None = None


class Workers(Protocol):
    """Scores candidates: here, on torchrun's ranks, on a cluster.

    Attributes:
        size: how many candidates are scored at a time. The study hands over so many at most, and
            writes them to the journal when all of them are done.
    """

    @property
    def size(self) -> int: ...

    def run(self, score: Attempt, candidates: Mapping[int, Subnet]) -> Mapping[int, Outcome]:
        """Return what came of each numbered candidate, the same in all processes.

        Candidates may be left out once one has stopped the search.

        Args:
            score: candidate to outcome; raises nothing, and may be called by several threads if the
                study's own score may.
            candidates: by number.
        """


@dataclass(frozen=True)
class Attempt:
    """Scores one candidate and sorts out whose fault a failure is.

    Attributes:
        score: candidate to a metric, or to several by name.
        names: of the objectives; a metric that comes alone is the only one.
        catch: errors that are a candidate's own fault, besides `CandidateError`.
        first: candidate to the same metrics on the first images alone, in an elastic search.
        on_first: whether it is `first` that is called.
    """

    score: Score
    names: tuple[str, ...]
    catch: tuple[type[Exception], ...] = ()
    first: Score | None = None
    on_first: bool = False

    def __call__(self, subnet: Subnet) -> Outcome:
        """Return what came of it; nothing is raised."""
        start = time.perf_counter()
        outcome = self._outcome(subnet)
        return replace(outcome, seconds=time.perf_counter() - start)

    def _outcome(self, subnet: Subnet) -> Outcome:
        score = self.first if self.on_first and self.first is not None else self.score
        try:
            return Outcome(metrics=_named(score(subnet), self.names))
        except CandidateError as error:
            return Outcome(error=_line(error))
        except self.catch as error:
            return Outcome(error=f"{type(error).__name__}: {_line(error)}")
        except RazorliteError as error:
            return Outcome(stop=(type(error), _line(error)), cause=error)
        except KeyboardInterrupt as error:
            return Outcome(stop=(KeyboardInterrupt, ""), cause=error)
        except Exception as error:
            text = f"{type(error).__name__}: {_line(error)}"
            return Outcome(stop=(SearchError, text), cause=error)


class ProcessWorkers:
    """The processes of torchrun, or this one alone.

    Args:
        split: whether processes take different candidates; if not, all score each candidate and
            share the work of it themselves.
    """

    def __init__(self, *, split: bool = True) -> None:
        self.split = split

    @property
    def size(self) -> int:
        """Return how many candidates are scored at a time."""
        return world_size() if self.split else 1

    def run(self, score: Attempt, candidates: Mapping[int, Subnet]) -> dict[int, Outcome]:
        """Return what came of each numbered candidate; all processes wait for the last one."""
        mine: dict[int, Outcome] = {}
        for index, (number, subnet) in enumerate(candidates.items()):
            if not self.split or index % world_size() == rank():
                mine[number] = score(subnet)
                if mine[number].stop:
                    break
        return _joined(gather_objects(mine if world_size() == 1 else _sendable(mine)))


def check_stop(outcomes: Mapping[int, Outcome], kept: int) -> None:
    """Raise what stopped a search, the same in all processes.

    Args:
        outcomes: of numbered candidates.
        kept: trials that were recorded before.

    Raises:
        KeyboardInterrupt: any process was interrupted.
        RazorliteError: scoring broke down.
    """
    stopped = {number: o for number, o in sorted(outcomes.items()) if o.stop}
    if any(o.stop and o.stop[0] is KeyboardInterrupt for o in stopped.values()):
        raise KeyboardInterrupt
    for number, outcome in stopped.items():
        assert outcome.stop is not None
        kind, message = outcome.stop
        raise kind(
            f"scoring trial {number} stopped the search: {message}; the {kept} trials before it "
            f"are kept, and resuming scores it again"
        ) from outcome.cause


def _joined(parts: list[dict[int, Outcome]]) -> dict[int, Outcome]:
    """Return all outcomes; where processes scored one candidate, what stopped any of them."""
    joined: dict[int, Outcome] = {}
    for part in parts:
        joined |= {n: o for n, o in part.items() if n not in joined or o.stop}
    return joined


def _sendable(outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    return {number: replace(outcome, cause=None) for number, outcome in outcomes.items()}


def _named(result: Any, names: Sequence[str]) -> dict[str, float]:
    """Return metrics by name as plain numbers."""
    if not isinstance(result, Mapping) and len(names) > 1:
        raise ConfigError(
            f"scoring gives one value, {result!r:.60}, and the search is for {', '.join(names)}; "
            f"return them by name"
        )
    named = result if isinstance(result, Mapping) else {names[0]: result}
    return {str(name): _number(name, value) for name, value in named.items()}


def _number(name: object, value: Any) -> float:
    try:
        return float(value + 0.0)  # no text
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"scoring wants a number for {name!r}, got {value!r:.60}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
