"""What predictions and targets must be before they are evaluated."""

from collections.abc import Iterable, Sequence, Sized

import torch
from torch import Tensor

from razorlite.core.errors import DataError, EvaluationError
from razorlite.structures import Detections


def check_count(predictions: Sized, images: int) -> None:
    """Refuse predictions of more or fewer images than were given.

    Raises:
        EvaluationError: the numbers differ.
    """
    if len(predictions) != images:
        raise EvaluationError(
            f"the model's predict returned {len(predictions)} results for {images} images; it has "
            f"to return one for each, in their order"
        )


def check_detections(found: Detections) -> None:
    """Refuse boxes and scores that are no numbers: every comparison with them would be false.

    Raises:
        EvaluationError: there is NaN or infinity; says how much.
    """
    for name, values in (("boxes", found.boxes), ("scores", found.scores)):
        wrong = ~torch.isfinite(values)
        if wrong.any():
            count = int(wrong.view(len(found), -1).any(1).sum())
            raise EvaluationError(
                f"{count} of {len(found)} {name} that the model found in an image are NaN or "
                f"infinite; look for a checkpoint from before training went astray"
            )


def check_tensors(named: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse a model's weights or statistics of NaN, with which it finds nothing and says nothing.

    Args:
        named: parameters or buffers.

    Raises:
        EvaluationError: names the first of them.
    """
    for name, value in named:
        if _holds_nan(value):
            raise EvaluationError(
                f"the model's {name} holds NaN, so that its predictions mean nothing; take a "
                f"checkpoint from before training went astray"
            )


def _holds_nan(value: Tensor) -> bool:
    if not value.is_floating_point():
        return False
    total = value.detach().sum(dtype=torch.float64)  # quick; NaN also of infinities of both signs
    return bool(torch.isnan(total)) and bool(torch.isnan(value).any())


def names_of_labels(classes: Sequence[str] | None, labels: Iterable[int], metric: str) -> list[str]:
    """Return the names of all labels: `classes`, or numbers up to the highest one seen.

    Raises:
        DataError: a label is below 0, or beyond `classes`.
    """
    seen = set(labels)
    lowest, highest = min(seen, default=0), max(seen, default=0)
    names = list(classes) if classes else [str(label) for label in range(highest + 1)]
    if lowest < 0 or highest >= len(names):
        raise DataError(
            f"{metric} has {len(names)} classes but met label "
            f"{lowest if lowest < 0 else highest}; give it the classes of the data set"
        )
    return names


def check_probabilities(values: Tensor, targets: Tensor) -> None:
    """Refuse probabilities or logits of NaN, and labels without a probability.

    Args:
        values: (B, C).
        targets: (B,) labels.

    Raises:
        EvaluationError: there is NaN, or they are of other images.
        DataError: a label is below 0 or at least C.
    """
    check_count(values, len(targets))
    if torch.isnan(values).any():
        raise EvaluationError(
            "the model's probabilities hold NaN; take a checkpoint from before training went astray"
        )
    names_of_labels([str(c) for c in range(values.shape[1])], targets.tolist(), "the model")
