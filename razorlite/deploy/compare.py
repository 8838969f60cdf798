"""Whether two runtimes find the same in an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from razorlite.core.errors import ExportError

BOX_TOLERANCE = 0.1  # pixels
SCORE_TOLERANCE = 1e-4
MASK_TOLERANCE = 0.01  # of the pixels that either mask has
_FEW = 4  # pixels that may differ in small masks


@dataclass(frozen=True)
class Agreement:
    """How far two runtimes are apart.

    Attributes:
        found: how many of PyTorch's detections the other has, or images with like probabilities.
        box: greatest difference of a box's side in pixels.
        score: greatest difference of a score.
        mask: greatest share of pixels that only one of two masks has; None without masks.
        unstable: detections of either without a partner in the other that hang on rounding in
            PyTorch alone as well.
        what: `found` counts: "detections", or "images" of a classifier.
    """

    found: int = 0
    box: float = 0.0
    score: float = 0.0
    mask: float | None = None
    unstable: int = 0
    what: Literal["detections", "images"] = "detections"

    def __add__(self, other: "Agreement") -> "Agreement":
        known = [mask for mask in (self.mask, other.mask) if mask is not None]
        return Agreement(
            self.found + other.found,
            max(self.box, other.box),
            max(self.score, other.score),
            max(known, default=None),
            self.unstable + other.unstable,
            self.what if self.found else other.what,
        )


Outputs = Sequence[Tensor]


def agreement(
    expected: Outputs, got: Outputs, where: str, own: Callable[[], Sequence[Outputs]] | None = None
) -> Agreement:
    """Compare what two runtimes give for one batch.

    Detections are matched by label, box and score: equal scores may come in any order, and those
    that score within the tolerance of the last one kept may be left out by either, where others
    are the same.

    Where two candidates of almost one score overlap, or one overlaps by almost the threshold,
    rounding decides which is suppressed. `own` tells how often it does: a file may lack twice as
    many detections of an image as PyTorch itself does when its pixels change by rounding, but no
    more than half of them, or one.

    Args:
        expected: (N, K, 4) boxes, (N, K) scores, (N, K) labels, and (N, M, H, W) bool masks of the
            first M if there are any; or (N, C) probabilities.
        got: the same of the other; M may be another.
        where: names the batch in messages.
        own: what PyTorch gives for the same images changed by rounding, several times; asked for
            where detections lack a partner. None allows none.

    Raises:
        ExportError: shapes differ, or something lies beyond the tolerances.
    """
    shapes = _shapes(expected), _shapes(got)
    if shapes[0] != shapes[1]:
        raise ExportError(f"{where}: PyTorch gives {shapes[0]}, the exported file {shapes[1]}")
    if len(expected) == 1:
        return _probabilities(expected[0], got[0], where)
    total = Agreement()
    for image in range(len(expected[0])):
        mine, theirs = [x[image] for x in expected], [x[image] for x in got]
        spare = partial(_unstable, mine, image, own)
        total += _matched(mine, theirs, f"{where}, image {image}: the file lacks", spare)
        back = _matched(theirs, mine, f"{where}, image {image}: only the file has", spare)
        total += replace(back, found=0)  # the same detections, seen from the other side
    return total


def _unstable(mine: Outputs, image: int, own: Callable[[], Sequence[Outputs]] | None) -> int:
    """Return how many detections of an image may lack a partner."""
    others = [[x[image] for x in one[:3]] for one in (own() if own is not None else ())]
    pairs = [(mine, one) for one in others] + [(one, mine) for one in others]
    return 2 * max((int(_partners(*pair)[2].sum()) for pair in pairs), default=0)


def _shapes(outputs: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Return the shapes of outputs, those of masks (N, H, W) without how many are drawn."""
    plain = [tuple(x.shape) for x in outputs[:3]]
    return [*plain, *((len(x), *x.shape[2:]) for x in outputs[3:])]


def _probabilities(expected: Tensor, got: Tensor, where: str) -> Agreement:
    apart = float((expected - got).abs().max())
    if not apart <= SCORE_TOLERANCE:
        raise ExportError(
            f"{where}: probabilities differ by {apart:.2g}, more than {SCORE_TOLERANCE:g}"
        )
    return Agreement(len(expected), 0.0, apart, what="images")


def _partners(some: Outputs, others: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return (D, K) distances of boxes, (D, K) whether it is a partner, (D,) which have none."""
    boxes, scores, labels = (x[some[1] > 0] for x in some[:3])
    if not len(scores):
        return boxes.new_zeros(0, len(others[1])), scores[:, None] > 0, scores > 0
    apart = (boxes[:, None] - others[0][None]).abs().amax(-1)
    differ = (scores[:, None] - others[1][None]).abs()
    fits = (apart <= BOX_TOLERANCE) & (differ <= SCORE_TOLERANCE)
    fits &= (labels[:, None] == others[2][None]) & (others[1] > 0)
    sure = scores > scores.min() + 2 * SCORE_TOLERANCE
    return apart, fits, (sure | ~fits.any()) & ~fits.any(1)  # where none are alike, all count


def _matched(some: Outputs, others: Outputs, what: str, spare: Callable[[], int]) -> Agreement:
    """Find a partner for each detection of one side."""
    boxes, scores, labels = (x[some[1] > 0] for x in some[:3])
    apart, fits, lonely = _partners(some, others)
    alone = int(lonely.sum())
    if alone and alone > min(spare(), max(1, len(scores) // 2)):
        i = int(lonely.nonzero()[0])
        box = [round(float(v), 2) for v in boxes[i]]
        raise ExportError(
            f"{what} the detection of label {int(labels[i])} with score {float(scores[i]):.4f} at "
            f"{box}, within {BOX_TOLERANCE:g} pixels and {SCORE_TOLERANCE:g} of score"
        )
    inside = fits.any(1)
    if not inside.any():
        return Agreement(unstable=alone)
    differ = (scores[:, None] - others[1][None]).abs()
    nearest = torch.where(fits, apart + differ, torch.inf)[inside].argmin(1)
    rows = torch.arange(len(nearest))
    return Agreement(
        int(inside.sum()),
        float(apart[inside][rows, nearest].max()),
        float(differ[inside][rows, nearest].max()),
        _masks_apart(some, others, inside, nearest, what),
        alone,
    )


def _masks_apart(
    some: Sequence[Tensor], others: Sequence[Tensor], inside: Tensor, nearest: Tensor, what: str
) -> float | None:
    """Return the greatest share of pixels that partners' masks differ in; None without masks."""
    if len(some) < 4:
        return None
    mine, theirs = some[3][: len(inside)][inside], others[3][nearest]
    differ, either = ((op(mine, theirs)).sum((1, 2)) for op in (torch.ne, torch.logical_or))
    limit = (MASK_TOLERANCE * either).clamp(min=_FEW)
    if (differ > limit).any():
        i = int((differ - limit).argmax())
        raise ExportError(
            f"{what.partition(':')[0]}: a mask differs in {int(differ[i])} of {int(either[i])} "
            f"pixels, more than {MASK_TOLERANCE:.0%}"
        )
    return float((differ / either.clamp(min=1)).max())
