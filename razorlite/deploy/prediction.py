"""What a model says of one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

from razorlite.core.errors import DataError
from razorlite.data import Decoding
from razorlite.structures import Detections


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        name: the image's path, or its number among images in memory.
        classes: names of the labels.
        size: (height, width) of the image in pixels.
        detections: in pixels of the image, best first; None of a classifier, or with a fault.
        probabilities: (C,) of a classifier.
        fault: why there is no prediction; empty otherwise.
        frame: number in its video, from 0; None of other images.
        image: (3, H, W) uint8, kept where no file of its own holds it.
        decoding: how its file is read; as usual by default.
    """

    name: str
    classes: Sequence[str]
    size: tuple[int, int] = (0, 0)
    detections: Detections | None = None
    probabilities: Tensor | None = None
    fault: str = ""
    frame: int | None = None
    image: Tensor | None = None
    decoding: Decoding | None = None

    def pixels(self) -> Tensor:
        """Return the image, (3, H, W) uint8, read again where a file holds it.

        Raises:
            OSError: the file cannot be read.
        """
        if self.image is not None:
            return self.image
        return (self.decoding or Decoding()).read(self.name)

    def to_supervision(self, score_threshold: float = 0.0) -> Any:
        """Return the detections as `supervision.Detections`.

        Raises:
            DataError: there are none, or the package supervision is not installed.
        """
        return _supervision(self.found(score_threshold), self.classes)

    def found(self, score_threshold: float = 0.0) -> Detections:
        """Return the detections of at least a score.

        Raises:
            DataError: there are none: of a classifier, or of an image that cannot be read.
        """
        if self.detections is None:
            raise DataError(f"{self.name} has no detections: {self.fault or 'it was classified'}")
        return self.detections[self.detections.scores >= score_threshold]

    def to_dict(self, score_threshold: float = 0.0) -> dict[str, Any]:
        """Return plain values: boxes as x1, y1, x2, y2 in pixels, class names, scores."""
        record: dict[str, Any] = {"image": self.name}
        record |= {} if self.frame is None else {"frame": self.frame}
        if self.fault:
            return {**record, "fault": self.fault}
        record |= {"height": self.size[0], "width": self.size[1]}
        if self.probabilities is not None:
            best = self.probabilities.argsort(descending=True)
            scores = [(self.classes[i], float(self.probabilities[i])) for i in best.tolist()]
            return {**record, "classes": dict(scores)}
        found = self.found(score_threshold)
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        return {
            **record,
            "detections": [
                {"class": self.classes[label], "label": label, "score": score, "box": box}
                for box, score, label in rows
            ],
        }


def _supervision(found: Detections, classes: Sequence[str]) -> Any:
    """Return detections as `supervision.Detections`, names as its data "class_name".

    Raises:
        DataError: the package is not installed.
    """
    try:
        supervision = import_module("supervision")
    except ImportError as error:
        raise DataError("supervision is not installed; run: pip install supervision") from error
    names = [classes[label] for label in found.labels.tolist()]
    return supervision.Detections(
        xyxy=found.boxes.numpy(),
        mask=None if found.masks is None else found.masks.numpy(),
        confidence=found.scores.numpy(),
        class_id=found.labels.numpy(),
        data={"class_name": np.array(names)},
    )
