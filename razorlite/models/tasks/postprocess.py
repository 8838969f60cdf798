"""What is kept of a head's candidates."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from razorlite.core.ranges import Count, Positive, Share, checked
from razorlite.ops.fixed_shapes import best_rows, rows_of
from razorlite.ops.nms import soft_suppress, suppress
from razorlite.structures import Detections


@checked
@dataclass(frozen=True, kw_only=True)
class PostProcess:
    """Settings of detection, the usual ones for COCO.

    Attributes:
        score_thr: candidates must score higher.
        nms_pre: best candidates of each level that go on.
        iou_threshold: of non-maximum suppression within a class; None suppresses nothing.
        max_per_img: detections per image at most.
        min_bbox_size: pixels that width and height must exceed.
        soft_nms: let scores fall with the overlap instead of dropping boxes, and how.
        soft_nms_sigma: how slowly they fall, for "gaussian".
        soft_nms_min_score: boxes whose score falls below it are dropped.
    """

    score_thr: Share = 0.05
    nms_pre: Count = 1000
    iou_threshold: Share | None = 0.5
    max_per_img: Count = 100
    min_bbox_size: float = 0.0
    soft_nms: Literal["linear", "gaussian"] | None = None
    soft_nms_sigma: Positive = 0.5
    soft_nms_min_score: Share = 1e-3

    def finish(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
        """Return the detections of one image, best first.

        Args:
            boxes: (N, 4) pixels.
            scores: (N,).
            labels: (N,) int64.
        """
        kept, scores = self.keep(boxes, scores, labels)
        return Detections(boxes[kept], scores, labels[kept])

    def keep(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the candidates that stay, best first, and their final scores.

        Takes what `finish` takes, (N, 4), (N,) and (N,).
        """
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > self.min_bbox_size).all(1).nonzero().squeeze(1)
        kept, scores = self._suppress(boxes[large], scores[large], labels[large])
        return large[kept], scores

    def keep_fixed(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `finish` keeps of each image, in tensors of fixed shapes.

        Soft suppression has no such form; boxes are dropped whatever `soft_nms` says.

        Args:
            boxes: (N, K, 4) pixels.
            scores: (N, K), 0 in empty slots.
            labels: (N, K) int64.

        Returns:
            (N, M, 4) boxes, (N, M) scores, best first and 0 in empty slots, and (N, M) labels,
            where M is `max_per_img`, or K where that is less.
        """
        index, kept = self.rows_fixed(boxes, scores, labels)
        return rows_of(boxes, index), kept, labels.gather(1, index)

    def rows_fixed(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (N, M) numbers of the candidates that `keep_fixed` keeps, and their scores.

        Takes what `keep_fixed` takes.
        """
        return best_rows(
            boxes,
            scores,
            labels,
            iou_threshold=self.iou_threshold,
            limit=self.max_per_img,
            min_size=self.min_bbox_size,
        )

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.soft_nms:
            return soft_suppress(
                boxes,
                scores,
                labels,
                0.5 if self.iou_threshold is None else self.iou_threshold,
                self.max_per_img,
                gaussian=self.soft_nms == "gaussian",
                sigma=self.soft_nms_sigma,
                min_score=self.soft_nms_min_score,
            )
        kept = suppress(boxes, scores, labels, self.iou_threshold, self.max_per_img)
        return kept, scores[kept]
