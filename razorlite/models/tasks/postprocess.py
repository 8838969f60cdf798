"""What is kept of a head's candidates."""

from dataclasses import dataclass

from torch import Tensor

from razorlite.ops.nms import suppress
from razorlite.structures import Detections


@dataclass(frozen=True, kw_only=True)
class PostProcess:
    """Settings of detection, the usual ones for COCO.

    Attributes:
        score_thr: candidates must score higher.
        nms_pre: best candidates of each level that go on.
        iou_threshold: of non-maximum suppression within a class; None suppresses nothing.
        max_per_img: detections per image at most.
        min_bbox_size: pixels that width and height must exceed.
    """

    score_thr: float = 0.05
    nms_pre: int = 1000
    iou_threshold: float | None = 0.5
    max_per_img: int = 100
    min_bbox_size: float = 0.0

    def finish(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
        """Return the detections of one image, best first.

        Args:
            boxes: (N, 4) pixels.
            scores: (N,).
            labels: (N,) int64.
        """
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > self.min_bbox_size).all(1)
        boxes, scores, labels = boxes[large], scores[large], labels[large]
        kept = suppress(boxes, scores, labels, self.iou_threshold, self.max_per_img)
        return Detections(boxes[kept], scores[kept], labels[kept])
