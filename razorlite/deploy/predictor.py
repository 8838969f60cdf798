"""Predictions of a trained model on images as they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from razorlite.core.compute import Compute
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import Normalise, Preprocess, Transform, collate
from razorlite.data.transforms import apply_all
from razorlite.deploy.sources import Picture, pictures
from razorlite.evaluation.evaluate import eval_mode
from razorlite.structures import Batch, Detections, Target, input_names


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
    """

    name: str
    classes: Sequence[str]
    size: tuple[int, int] = (0, 0)
    detections: Detections | None = None
    probabilities: Tensor | None = None
    fault: str = ""

    def to_dict(self, score_threshold: float = 0.0) -> dict[str, Any]:
        """Return plain values: boxes as x1, y1, x2, y2 in pixels, class names, scores."""
        record: dict[str, Any] = {"image": self.name}
        if self.fault:
            return {**record, "fault": self.fault}
        record |= {"height": self.size[0], "width": self.size[1]}
        if self.probabilities is not None:
            best = self.probabilities.argsort(descending=True)
            scores = [(self.classes[i], float(self.probabilities[i])) for i in best.tolist()]
            return {**record, "classes": dict(scores)}
        assert self.detections is not None
        found = self.detections[self.detections.scores >= score_threshold]
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        return {
            **record,
            "detections": [
                {"class": self.classes[label], "label": label, "score": score, "box": box}
                for box, score, label in rows
            ],
        }


class Predictor:
    """Runs a trained model on images of any size and kind.

    An image goes through the same transforms and normalisation as in evaluation, so predictions are
    those that the metrics were computed on.

    Args:
        model: has `predict`, as detectors and classifiers here have; it is put on the device.
        classes: names of its labels.
        preprocess: what its images go through.
        transforms: what is done to an image before, such as `Resize`, nothing random; those of
            `preprocess` by default.
        device: where it runs.

    Raises:
        ConfigError: the model takes other inputs than images.

    Attributes:
        model, classes, preprocess, transforms, device: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        preprocess: Preprocess,
        transforms: Sequence[Transform] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if names := input_names(model):
            raise ConfigError(
                f"{type(model).__name__} takes {', '.join(names)}, not single images; give a batch "
                f"of its data set to its own `predict`"
            )
        self.device = torch.device(device)
        self.model = Compute(self.device).place(model)
        self.classes, self.preprocess = tuple(classes), preprocess
        self.transforms = list(preprocess.image_transforms() if transforms is None else transforms)
        self._normalise = Normalise(preprocess, self.device)

    def __call__(self, source: Any, *, batch_size: int = 1) -> list[Prediction]:
        """Return the predictions on all images of a source, see `razorlite.deploy.pictures`."""
        return list(self.stream(source, batch_size=batch_size))

    def stream(self, source: Any, *, batch_size: int = 1) -> Iterator[Prediction]:
        """Yield predictions in the order of the images, a batch at a time.

        An image that cannot be read gives a prediction with its fault, and the others go on.

        Raises:
            DataError: there is nothing to predict on.
        """
        todo = pictures(source)
        while some := list(islice(todo, batch_size)):
            readable = [picture for picture in some if picture.image is not None]
            made = iter(self._predict(readable) if readable else [])
            for picture in some:
                fault = Prediction(picture.name, self.classes, fault=picture.fault)
                yield fault if picture.image is None else next(made)

    def pixels(self, source: Any, limit: int) -> list[Tensor]:
        """Return up to `limit` readable images of a source, (3, H, W) uint8, as they are.

        Raises:
            DataError: there is none.
        """
        found = (picture.image for picture in pictures(source))
        some = list(islice((image for image in found if image is not None), limit))
        if not some:
            raise DataError(f"no image of {source} can be read")
        return some

    @torch.no_grad()
    def _predict(self, some: Sequence[Picture]) -> list[Prediction]:
        items = [self._transformed(picture) for picture in some]
        images, sizes = collate([image for image, _ in items], self.preprocess.pad_multiple)
        targets = [target for _, target in items]
        batch = Batch(self._normalise(images, sizes), targets, tuple(sizes))
        with eval_mode(self.model):
            found = cast(Any, self.model).predict(batch)
        return [
            self._prediction(picture, target, output)
            for picture, (_, target), output in zip(some, items, found, strict=True)
        ]

    def _transformed(self, picture: Picture) -> tuple[Tensor, Target]:
        assert picture.image is not None
        size = (picture.image.shape[-2], picture.image.shape[-1])
        none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        target = Target(*none, size=size, original_size=size)
        return apply_all(self.transforms, picture.image, target)

    def _prediction(self, picture: Picture, target: Target, output: Any) -> Prediction:
        blank = Prediction(picture.name, self.classes, target.original_size)
        if isinstance(output, Detections):
            return replace(blank, detections=output.to("cpu"))
        return replace(blank, probabilities=output.cpu())
