"""Detectors with one head over all cells."""

from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ExportError
from razorlite.core.registry import register
from razorlite.models.heads.dense import DenseHead, sizes_in
from razorlite.models.resizing import Resizable
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.structures import Batch, Detections, Target


class Detector(nn.Module):
    """What every detector offers.

    Images are normalised float (N, 3, H, W). `forward` returns raw maps, does not depend on
    `train()` and can be traced by torch.fx.
    """

    @property
    def max_detections(self) -> int | None:
        """How many detections of an image `predict` returns at most, if that is known."""
        head = getattr(self, "roi_head", None) or getattr(self, "bbox_head", None)
        settings = getattr(head, "post_process", None)
        return None if settings is None else settings.max_per_img

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        """Return kinds of raw maps of (N, 3, H, W) images, each a tuple over the levels."""
        raise NotImplementedError

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return named scalars to be summed; crowd boxes do not count."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images.

        Args:
            batch: images, and targets that say where each lies in its padding and how large it was
                before; `Batch(images)` is of whole images that are the original ones.
        """
        raise NotImplementedError

    def decode(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return candidates in tensors of fixed shapes, which can be exported.

        Args:
            images: (N, 3, H, W).
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            (N, K, 4) boxes in pixels of `images`, clipped; (N, K) scores, 0 in empty slots; (N, K)
            labels. Overlaps are not suppressed yet, see `post_process`.

        Raises:
            ExportError: this kind of detector has no such form.
        """
        raise no_fixed_shapes(self)

    @property
    def post_process(self) -> PostProcess:
        """What is kept of the candidates.

        Raises:
            ExportError: as `decode`.
        """
        raise no_fixed_shapes(self)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `detect` returns."""
        return ("boxes", "scores", "labels")

    def detect(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return what is found in tensors of fixed shapes, which can be exported.

        Args:
            images: (N, 3, H, W).
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            (N, K, 4) boxes in pixels of `images`, (N, K) scores, best first and 0 in empty slots,
            and (N, K) labels. Of detectors with masks (N, M, H', W') bool masks too, from the
            images' upper left corner on and no smaller than these, where M is how many slots the
            fullest image fills, but at least 1.

        Raises:
            ExportError: as `decode`.
        """
        return self.post_process.keep_fixed(*self.decode(images, sizes))


@register()
class SingleStageDetector(Resizable, Detector):
    """A backbone, a neck and a dense head."""

    def __init__(
        self, *, backbone: nn.Module, bbox_head: DenseHead, neck: nn.Module | None = None
    ) -> None:
        """Take the built parts.

        Args:
            backbone: images to a tuple of maps.
            bbox_head: maps to raw maps, losses and detections.
            neck: maps to maps.
        """
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the (N, C, H, W) maps of (N, 3, H, W) images that the head sees."""
        maps = self.backbone(self.resized(images))
        features: tuple[Tensor, ...] = maps if self.neck is None else self.neck(maps)
        return features

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        """Return the head's raw maps of (N, 3, H, W) images, each kind a tuple over the levels."""
        raw: tuple[Any, ...] = self.bbox_head(self.features(images))
        return raw

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the head's losses for (N, 3, H, W) images."""
        raw = self(images)
        targets = self.resized_targets(targets, _size(images))
        sizes = sizes_in(self.resized_size(_size(images)), targets)
        return self.bbox_head.loss(raw, targets, sizes)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """Return the head's detections, in pixels of the original images."""
        frames = self.resized_frames(batch.frames(), _size(batch.images))
        return self.bbox_head.predict(self(batch.inputs), frames)

    def decode(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the head's candidates: (N, K, 4) boxes, (N, K) scores and (N, K) labels."""
        found = self.bbox_head.decode(self(images), self.resized_sizes(sizes, images))
        boxes, scores, labels = self.in_given_pixels(found, images)
        return boxes, scores, labels

    def detect(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return what the head finds, (N, K, 4) boxes first, see `Detector.detect`."""
        found = self.bbox_head.detect(self(images), self.resized_sizes(sizes, images))
        return self.in_given_pixels(found, images)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `detect` returns."""
        return (*super().outputs, *(["masks"] if self.bbox_head.has_masks else []))

    @property
    def post_process(self) -> PostProcess:
        """The head's settings."""
        return self.bbox_head.post_process


@register()
class RetinaNet(SingleStageDetector):
    """With `RetinaHead`: https://arxiv.org/abs/1708.02002."""


@register()
class FCOS(SingleStageDetector):
    """With `FCOSHead`: https://arxiv.org/abs/1904.01355."""


@register()
class ATSS(SingleStageDetector):
    """With `ATSSHead`: https://arxiv.org/abs/1912.02424."""


@register()
class GFL(SingleStageDetector):
    """With `GFLHead`: https://arxiv.org/abs/2006.04388."""


@register()
class RTMDet(SingleStageDetector):
    """With `RTMDetSepBNHead`: https://arxiv.org/abs/2212.07784."""


@register()
class RTMDetIns(SingleStageDetector):
    """With `RTMDetInsSepBNHead`, which also gives masks: https://arxiv.org/abs/2212.07784.

    `forward` returns class logits, box distances and mask kernels per level, and one map of
    mask features.
    """


def no_fixed_shapes(model: nn.Module) -> ExportError:
    """Return what to raise for a detector whose detections are no tensors of fixed shapes."""
    return ExportError(
        f"{type(model).__name__} cannot be exported: it has no `decode`, which gives detections as "
        f"tensors of fixed shapes"
    )


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
