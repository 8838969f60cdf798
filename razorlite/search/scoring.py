"""Scoring candidates with a supernet's weights."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from razorlite.core.errors import EvaluationError
from razorlite.evaluation import Metric
from razorlite.search.workers import CandidateError
from razorlite.space import SearchSpace, Subnet, recalibrate
from razorlite.structures import Inputs


class SupernetScore:
    """Sets the supernet to a candidate, refreshes its batch-norm statistics, and evaluates it.

    Args:
        space: of the trained supernet.
        evaluate: model to metrics; in one process of several, it must see all images and talk to
            no other process (see `Study`'s `split`).
        batches: images (N, 3, H, W) for the statistics, from the training split, normalised; none
            keeps the statistics as they are.
        autocast: makes the context in which statistics are taken, such as `Compute.autocast`.
        metric: what `evaluate` leaves the images of its last call in, for intervals over images.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        evaluate: Callable[[nn.Module], Mapping[str, float]],
        batches: Sequence[Inputs] = (),
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        metric: Metric | None = None,
    ) -> None:
        self.space, self.evaluate, self.batches = space, evaluate, batches
        self.autocast, self.metric = autocast, metric

    def prepare(self, subnet: Subnet) -> None:
        """Set the supernet to a candidate and refresh its batch-norm statistics."""
        self.space.select(subnet)
        with self.autocast():
            recalibrate(self.space.model, self.batches)

    def __call__(self, subnet: Subnet) -> Mapping[str, float]:
        """Return the candidate's metrics.

        Raises:
            CandidateError: what it predicts cannot be evaluated.
        """
        self.prepare(subnet)
        try:
            return self.evaluate(self.space.model)
        except EvaluationError as error:
            raise CandidateError(str(error)) from error
