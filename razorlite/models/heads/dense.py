"""What heads that predict at every cell share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from razorlite.core.distributed import all_reduce_mean, world_size
from razorlite.models.heads.assignment import Assignment
from razorlite.models.heads.class_head import ClassHead
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.boxes import clip_each
from razorlite.ops.fixed_shapes import MOST_CANDIDATES
from razorlite.ops.nms import entries_of, top_candidates
from razorlite.structures import Detections, Frame, Target

Maps = tuple[Tensor, ...]
Size = tuple[int, int]


@dataclass(frozen=True)
class Candidates:
    """What a head says of each image before suppression; slots with the score 0 are empty.

    Attributes:
        boxes: (N, K, 4) x1, y1, x2, y2 in pixels of the batch, clipped to the images.
        scores: (N, K) in [0, 1], best first within each level.
        labels: (N, K) int64.
        row: (N, K) int64, the number of each one's prior among those of all levels.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    row: Tensor

    def detections(
        self, image: int, settings: PostProcess, frame: Frame
    ) -> tuple[Detections, Tensor]:
        """Return what is kept of one image, in pixels of the original, and its priors' numbers."""
        full = self.scores[image].nonzero().squeeze(1)
        boxes, labels = self.boxes[image, full], self.labels[image, full]
        kept, scores = settings.keep(boxes, self.scores[image, full], labels)
        found = Detections(frame.to_original(boxes[kept]), scores, labels[kept])
        return found, self.row[image, full[kept]]


class DenseHead(ClassHead):
    """Base of one-stage heads.

    `forward` returns kinds of maps, each a tuple over the levels: class logits (N, A * C, H, W)
    first, box codes (N, A * D, H, W) second, and a quality logit (N, A, H, W) third or not at all.
    """

    post_process: PostProcess
    has_quality = False
    has_masks = False  # whether `detect` returns masks

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return per level what box codes refer to, (H * W * A, 2 to 4)."""
        raise NotImplementedError

    def boxes_of(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (..., 4) boxes in pixels of (..., 2 to 4) priors and (..., D) codes."""
        raise NotImplementedError

    def assign(
        self, raw: tuple[Any, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> Assignment:
        """Return which predictions learn which objects.

        Args:
            raw: what `forward` returned.
            targets: what the images show, without crowd boxes.
            sizes: (height, width) in pixels of each image, without padding.
        """
        raise NotImplementedError

    def losses(
        self, raw: tuple[Any, ...], targets: list[Target], assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return named scalars to be summed, for what `forward` and `assign` returned."""
        raise NotImplementedError

    def loss(
        self, raw: tuple[Any, ...], targets: list[Target], sizes: Sequence[Size]
    ) -> dict[str, Tensor]:
        """Return `losses` of what `assign` gives; crowd boxes do not count."""
        targets = [t.without_crowd() for t in targets]
        return self.losses(raw, targets, self.assign(raw, targets, sizes))

    def decode(self, raw: tuple[Any, ...], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best candidates of each image before suppression, in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            (N, K, 4) boxes in pixels, clipped to the images; (N, K) scores, 0 in empty slots;
            (N, K) labels. K is `post_process.nms_pre` times the levels, or 4096 times them where
            that is less and scores are of the classes alone.
        """
        found = self.candidates(raw, sizes)
        return found.boxes, found.scores, found.labels

    def detect(self, raw: tuple[Any, ...], sizes: Tensor) -> tuple[Tensor, ...]:
        """Return what is kept of the candidates, in tensors of fixed shapes.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels of each image, without padding.

        Returns:
            (N, K, 4) boxes in pixels, (N, K) scores, 0 in empty slots, and (N, K) labels; masks
            behind them where the head has some.
        """
        return self.post_process.keep_fixed(*self.decode(raw, sizes))

    def predict(self, raw: tuple[Any, ...], frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of every image, in pixels of the original images.

        Args:
            raw: what `forward` returned.
            frames: where each image lies in its padding, and how large it was before.
        """
        found = self.candidates(raw, sizes_of(frames), trim=True)
        return [found.detections(i, self.post_process, frame)[0] for i, frame in enumerate(frames)]

    def candidates(self, raw: tuple[Any, ...], sizes: Tensor, trim: bool = False) -> Candidates:
        """Return what `decode` does, and where it comes from.

        Args:
            raw: what `forward` returned.
            sizes: (N, 2) height and width in pixels of each image, without padding.
            trim: leave out slots that are empty in every image; shapes then depend on values.
        """
        quality = raw[2] if self.has_quality else [None] * len(raw[0])
        priors = self.priors(raw[0])
        levels = [
            self._best_of_level(*parts, trim)
            for parts in zip(raw[0], raw[1], quality, priors, strict=True)
        ]
        boxes, scores, labels, rows = zip(*levels, strict=True)
        starts = [sum(p.shape[0] for p in priors[:i]) for i in range(len(priors))]
        row = torch.cat([r + start for r, start in zip(rows, starts, strict=True)], 1)
        clipped = clip_each(torch.cat(boxes, 1), sizes)
        return Candidates(clipped, torch.cat(scores, 1), torch.cat(labels, 1), row)

    def _best_of_level(
        self, logits: Tensor, codes: Tensor, quality: Tensor | None, priors: Tensor, trim: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (N, K, 4) boxes, (N, K) scores, labels and priors' numbers of one level."""
        settings, limit = self.post_process, self.post_process.nms_pre
        if not trim and quality is None:  # more of one level never go into suppression
            limit = min(limit, MOST_CANDIDATES)
        scores, labels, anchor, cell = top_candidates(
            logits, self.num_classes, settings.score_thr, limit, trim
        )
        per_cell = logits.shape[1] // self.num_classes
        row = cell * per_cell + anchor
        boxes = self.boxes_of(priors[row], entries_of(codes, per_cell, anchor, cell).float())
        if quality is not None:
            factor = entries_of(quality, per_cell, anchor, cell)[..., 0]
            scores = scores * factor.float().sigmoid()
        return boxes, scores, labels, row


def sizes_in(canvas: Size, targets: list[Target]) -> list[Size]:
    """Return (height, width) of each image inside a batch of `canvas` pixels, without padding."""
    return [target.frame(canvas).size for target in targets]


def sizes_of(frames: Sequence[Frame]) -> Tensor:
    """Return (N, 2) height and width in pixels of the images inside the batch."""
    return torch.tensor([frame.size for frame in frames]).view(-1, 2)


def map_shapes(maps: Maps) -> list[Size]:
    """Return (H, W) of each map."""
    return [(m.shape[-2], m.shape[-1]) for m in maps]


def join_levels(maps: Maps, channels: int) -> Tensor:
    """Return (N, P, channels) of all levels' (N, A * channels, H, W): cells row by row, then A."""
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, channels) for m in maps]
    return torch.cat(rows, 1)


def centerness_of(distances: Tensor) -> Tensor:
    """Return the (N,) centre-ness of (N, 4) left, top, right, bottom distances.

    1 in the middle of a box, 0 on its sides. https://arxiv.org/abs/1904.01355, eq. 3.
    """
    left, top, right, bottom = distances.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()


def mean_over_ranks(count: Tensor, least: float = 1.0) -> Tensor:
    """Return what to divide a loss by: the mean of a 0-dim count over processes.

    All processes together count at least `least`, so that the mean of their losses is the loss of
    the joined batch.
    """
    return all_reduce_mean(count.float()).clamp(min=least / world_size())
