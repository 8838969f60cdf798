"""Which parts of a network stay in float, so that 8 bits find what the exact file does."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from razorlite.core.progress import progress
from razorlite.deploy.quantise import Calibrated
from razorlite.deploy.runtimes import Run, open_file
from razorlite.ops.boxes import pairwise_iou

_log = logging.getLogger("razorlite")
TOLERANCE = 0.1  # of `apart`; above it a search for what should stay in float is worth its time
_SECONDS = 120.0
_MOST = 0.25  # of the parts


@dataclass(frozen=True)
class Choice:
    """What stays in float, and how far the outputs are from the exact ones, see `apart`.

    Attributes:
        floats: parts of the network.
        distance: with these in float.
    """

    floats: tuple[str, ...]
    distance: float


def apart(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Return how much of what one runtime finds in a batch another does not: 0 all, 1 nothing.

    A detection is found as far as the best one of its label overlaps it (IoU) and scores alike (the
    lower score by the higher); the mean over detections, weighted by their scores, is taken from
    both sides. Of probabilities it is half the sum of what they differ by.

    Args:
        expected: (N, K, 4) boxes, (N, K) scores, (N, K) labels, and masks, which do not count; or
            (N, C) probabilities.
        got: the same of the other.
    """
    if len(expected) == 1:
        return float((expected[0] - got[0]).abs().sum(1).mean()) / 2
    pairs = [([x[i] for x in expected], [x[i] for x in got]) for i in range(len(expected[0]))]
    return sum((_lost(a, b) + _lost(b, a)) / 2 for a, b in pairs) / len(pairs)


def _lost(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return which share of the detections of one side the other lacks."""
    boxes, scores, labels = (x[some[1] > 0] for x in some[:3])
    their_boxes, their_scores, their_labels = (x[others[1] > 0] for x in others[:3])
    if not len(scores) or not len(their_scores):
        return float(len(scores) > 0)
    first, second = scores[:, None], their_scores[None]
    alike = torch.minimum(first, second) / torch.maximum(first, second)
    found = pairwise_iou(boxes, their_boxes) * alike * (labels[:, None] == their_labels[None])
    return float(1 - (found.amax(1) * scores).sum() / scores.sum())


class Sensitivity:
    """How far 8 bits take what a file finds from what the exact one does, part by part.

    Args:
        calibrated: what is quantised.
        exact: the file in float.
        batches: (N, 3, H, W) pixels each.
        seconds: that trials of single parts may take; what is not tried then is quantised.
    """

    def __init__(
        self,
        calibrated: Calibrated,
        exact: Run,
        batches: Sequence[Tensor],
        seconds: float = _SECONDS,
    ) -> None:
        self._calibrated, self._batches, self._seconds = calibrated, batches, seconds
        self._expected = [exact(images) for images in batches]

    def distance(self, floats: Collection[str] = ()) -> float:
        """Return how far outputs are from the exact ones, see `apart`, with parts in float."""
        return _mean(self._calibrated, floats, self._batches, self._expected)

    @cached_property
    def whole(self) -> float:
        """The distance with no part in float."""
        return self.distance()

    @cached_property
    def order(self) -> list[str]:
        """Parts that gain when they alone are in float, the most sensitive first.

        They are a quarter of the parts at most.
        """
        parts = list(self._calibrated.network.parts())
        end, alone = time.monotonic() + self._seconds, {}
        for part in progress(parts, "which parts stay in float", len(parts)):
            if time.monotonic() < end:
                alone[part] = self.distance([part])
        if len(alone) < len(parts):
            _log.info("tried %d of %d parts in %.0f seconds", len(alone), len(parts), self._seconds)
        gaining = sorted((p for p in alone if alone[p] < self.whole), key=alone.__getitem__)
        return gaining[: max(1, int(_MOST * len(parts)))]

    def choose(self, tolerance: float = TOLERANCE) -> Choice:
        """Choose parts that stay in float until outputs are close enough, the most sensitive first.

        Each part is tried alone, then added in the order of what that gained while it still gains.

        Args:
            tolerance: of `apart`, below which nothing more is kept in float.
        """
        if self.whole <= tolerance:
            return Choice((), self.whole)
        return _added(self.order, self.distance, self.whole, tolerance)

    def more(self, choice: Choice) -> Iterator[Choice]:
        """Yield choices of ever more parts in float: one more, two, four, and so on."""
        others = [part for part in self.order if part not in choice.floats]
        count = 1
        while count < 2 * len(others):
            floats = (*choice.floats, *others[:count])
            yield Choice(floats, self.distance(floats))
            count *= 2


def _added(
    order: Sequence[str],
    distance: Callable[[Collection[str]], float],
    whole: float,
    tolerance: float,
) -> Choice:
    """Return the parts that helped, one after the other."""
    floats: tuple[str, ...] = ()
    best = whole
    for part in order:
        if best <= tolerance:
            break
        found = distance((*floats, part))
        if found < best:
            floats, best = (*floats, part), found
    return Choice(floats, best)


def _mean(
    calibrated: Calibrated,
    floats: Collection[str],
    batches: Sequence[Tensor],
    expected: Sequence[Sequence[Tensor]],
) -> float:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        calibrated.write(path, floats)
        run = open_file(path)
    return sum(apart(e, run(x)) for e, x in zip(expected, batches, strict=True)) / len(batches)
