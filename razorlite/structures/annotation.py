"""What a sample is known to show, whatever the task."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.structures.packing import Packed, Record

A = TypeVar("A", bound="Annotation")


class Annotation(Record):
    """What a sample is known to show: base of `Target`, `Label` and those of one's own.

    A frozen dataclass that inherits it may hold tensors and any other values that pickle: boxes in
    space, camera matrices, a token of the sample. Nothing has to be overridden; `labels`, where
    there are any, is (N,) int64, one for each object, 0 to C - 1, and `image_id` identifies the
    sample in its data set.
    """

    def original(self: A) -> A:
        """Return the annotation as metrics compare it with predictions, without transforms."""
        return self

    def objects(self) -> int:
        """Return how many objects count: something to learn from, or to judge by."""
        labels = getattr(self, "labels", None)
        return 1 if labels is None else len(labels)

    def class_labels(self) -> set[int]:
        """Return the labels that occur."""
        labels = getattr(self, "labels", None)
        return set() if labels is None else set(labels.tolist())

    def relabelled(self: A, new: Tensor) -> A:
        """Return the annotation with other labels; `new` (C,) int64 has one for each old one."""
        labels = getattr(self, "labels", None)
        return self if labels is None else replace(self, labels=new[labels])  # type: ignore[type-var]

    def renumbered(self: A, image_id: int) -> A:
        """Return the annotation with another `image_id`, where it has one."""
        return replace(self, image_id=image_id) if hasattr(self, "image_id") else self  # type: ignore[type-var]

    def for_evaluation(self: A) -> A:
        """Return the annotation with what `original` needs; called before transforms."""
        return self

    def padded(self: A, canvas: tuple[int, int]) -> A:
        """Return the annotation for images that are padded to (height, width) at right and bottom.

        Called once all transforms are done.
        """
        return self


class Label(int, Annotation):
    """The one label of an image, 0 to C - 1; a batch has them as one (B,) int64 tensor."""

    def __new__(cls, value: int) -> "Label":
        """Make a label of a number."""
        return super().__new__(cls, value)

    def to(self, device: torch.device | str) -> "Label":
        """Return the label: a number is everywhere."""
        return self

    def pack(self) -> Packed:
        """Return the class to call and the number."""
        return type(self), {"value": int(self)}

    def class_labels(self) -> set[int]:
        """Return the label."""
        return {int(self)}

    def relabelled(self, new: Tensor) -> "Label":
        """Return the label that stands at this one's position of `new` (C,)."""
        return Label(int(new[int(self)]))


def as_annotation(value: Any) -> Annotation:
    """Return what a data set gives as an annotation: a bare number is a `Label`.

    Raises:
        DataError: it is neither.
    """
    try:
        return value if isinstance(value, Annotation) else Label(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"a data set gives a {type(value).__name__} with an image; expected a label or a class "
            f"that inherits razorlite.structures.Annotation"
        ) from error
