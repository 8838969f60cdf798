"""Scoring candidates on a Ray cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.search.workers import Attempt, Outcome, SearchError
from razorlite.space import Subnet

_PAUSE = 0.5  # seconds before an actor that is not back yet is asked again


class RayWorkers:
    """Actors of a Ray cluster, each with a copy of what scores candidates.

    Ray places the actors, starts them anew where a worker or a node dies, and keeps what scores
    (the supernet, its images) once in its object store. An actor that dies, or takes longer than
    the timeout and is killed, costs its candidate a try; while it starts anew the others go on.

    Args:
        size: number of actors; by default as many as the cluster has CPUs, or GPUs where these are
            used.
        gpus: of each actor.
        timeout: seconds that one candidate may take.
        retries: how often a candidate is tried again before the search stops.
        start: seconds that actors may take to start.

    Raises:
        ConfigError: the cluster has no such resources.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        gpus: float = 0.0,
        timeout: float = 600.0,
        retries: int = 3,
        start: float = 300.0,
    ) -> None:
        self._ray = _imported()
        self._gpus, self._timeout, self._retries, self._start = gpus, timeout, retries, start
        self._size = size or self._capacity()
        self._score: Attempt | None = None
        self._kept: Any = None
        self._ready: list[Any] = []  # actors that can be given work
        self._starting: dict[Any, Any] = {}  # what says that one has started: actor

    @property
    def size(self) -> int:
        """Return how many candidates are scored at a time."""
        return self._size

    def run(self, score: Attempt, candidates: Mapping[int, Subnet]) -> dict[int, Outcome]:
        """Return what came of each numbered candidate.

        One that no actor has scored stops the search, with the last reason.
        """
        self._hire(score)
        outcomes: dict[int, Outcome] = {}
        faults: dict[int, str] = {}
        for _ in range(1 + self._retries):
            left = {n: subnet for n, subnet in candidates.items() if n not in outcomes}
            if left and self._await():
                outcomes |= self._attempted(left, faults, score.on_first)
        lost = {n: _lost(faults.get(n)) for n in candidates if n not in outcomes}
        return outcomes | lost

    def close(self) -> None:
        """End the actors, so that others may have their CPUs."""
        for actor in [*self._ready, *self._starting.values()]:
            self._ray.kill(actor)
        self._score, self._kept, self._ready, self._starting = None, None, [], {}

    def _capacity(self) -> int:
        """Return how many actors the cluster has room for."""
        found = self._ray.cluster_resources()
        room = found.get("GPU", 0) / self._gpus if self._gpus else found.get("CPU", 0)
        if room < 1:
            kind = "GPU" if self._gpus else "CPU"
            raise ConfigError(f"the Ray cluster has no {kind} for a worker; add a node with one")
        return int(room)

    def _hire(self, score: Attempt) -> None:
        """Start the actors, once, and wait for all of them if they come in time."""
        score = replace(score, on_first=False)  # workers have both
        if self._score == score:
            return
        self.close()
        self._score = score
        self._kept = self._ray.put(score)  # held, as actors that start anew read it again
        kind = self._ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=-1)(_Scorer)
        for _ in range(self._size):
            self._begin(kind.remote(self._kept))
        self._ray.wait(list(self._starting), num_returns=self._size, timeout=self._start)

    def _begin(self, actor: Any) -> None:
        self._starting[actor.ready.remote()] = actor

    def _await(self) -> bool:
        """Take over the actors that have started, waiting where there is none; say if there is."""
        deadline = time.monotonic() + self._start
        self._take_over(0.0)
        while not self._ready and (left := deadline - time.monotonic()) > 0:
            self._take_over(left)
        return bool(self._ready)

    def _take_over(self, wait: float) -> None:
        """Wait some seconds for an actor to start; take over those that have."""
        refs = list(self._starting)
        if refs and wait:
            self._ray.wait(refs, num_returns=1, timeout=wait)
        started = self._ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        for ref in started:
            actor = self._starting.pop(ref)
            if self._result(ref) is True:
                self._ready.append(actor)
            else:  # Ray is still restarting it, and says so at once
                time.sleep(_PAUSE)
                self._begin(actor)

    def _attempted(
        self, candidates: Mapping[int, Subnet], faults: dict[int, str], on_first: bool
    ) -> dict[int, Outcome]:
        """Return the outcomes of one try; why others have none is noted in `faults`."""
        actors, outcomes = list(self._ready), {}
        numbers, owners = {}, {}
        for index, (number, subnet) in enumerate(candidates.items()):
            actor = actors[index % len(actors)]
            ref = actor.score.remote(subnet, on_first)
            numbers[ref], owners[ref] = number, actor
        turns = -(-len(candidates) // len(actors))
        waiting = {"num_returns": len(numbers), "timeout": turns * self._timeout}
        done, hung = self._ray.wait(list(numbers), **waiting)
        for ref in done:
            found = self._result(ref)
            if isinstance(found, Outcome):
                outcomes[numbers[ref]] = found
            else:
                faults[numbers[ref]] = str(found)
        failed = [ref for ref in numbers if numbers[ref] not in outcomes]
        faults |= {numbers[ref]: f"it took more than {self._timeout:g} s" for ref in hung}
        self._restart([owners[ref] for ref in hung], [owners[ref] for ref in failed])
        return outcomes

    def _restart(self, hung: Sequence[Any], failed: Sequence[Any]) -> None:
        """Kill actors that hang, and give no work to those that failed until they have started."""
        for actor in {id(actor): actor for actor in hung}.values():
            self._ray.kill(actor, no_restart=False)
        for actor in {id(actor): actor for actor in failed}.values():
            self._ready = [other for other in self._ready if other is not actor]
            self._begin(actor)

    def _result(self, ref: Any) -> object:
        """Return what a task gave, or the text of Ray's error."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return f"{type(error).__name__}: {lines[0] if lines else ''}"


class _Scorer:
    """What an actor does."""

    def __init__(self, score: Attempt) -> None:
        self._score = score

    def ready(self) -> bool:
        """Return that it has started."""
        return True

    def score(self, subnet: Subnet, on_first: bool) -> Outcome:
        """Return what came of a candidate, on all images or on the first ones."""
        attempt = replace(self._score, on_first=on_first)
        return replace(attempt(subnet), cause=None)


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Connect to a Ray cluster and leave it at the end.

    Args:
        address: host:port of its head, or "auto" for one of this machine; by default what
            RAY_ADDRESS says, or a cluster of this machine alone that is started and ended here.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    ray = _imported()
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (OSError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"no Ray cluster at {address or 'this machine'}: {text}; start one by: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str | None) -> None:
    """Fail at once where nothing listens at host:port, for which Ray would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--workers ray needs Ray; pip install 'razorlite[ray]'") from error
    return ray


def _lost(fault: str | None) -> Outcome:
    why = fault or "no worker has started; does the cluster have room for one?"
    return Outcome(stop=(SearchError, f"no Ray worker has scored it: {why}"))
