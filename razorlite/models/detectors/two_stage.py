"""Detectors that first propose regions, then look at each."""

from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from razorlite.core.registry import register
from razorlite.models.detectors.single_stage import Detector
from razorlite.models.heads.dense import Maps, sizes_in
from razorlite.models.heads.region_samples import Proposals
from razorlite.models.heads.roi_head import RoIHead
from razorlite.models.heads.rpn_head import RPNHead
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.structures import Batch, Detections, Target

fx.wrap("repeat_size")  # a list as long as the batch; tracing keeps it as one call


def repeat_size(images: Tensor) -> list[tuple[int, int]]:
    """Return (height, width) of the batch's images once for each."""
    return [(images.shape[-2], images.shape[-1])] * len(images)


@register()
class TwoStageDetector(Detector):
    """A backbone, a neck, a head that proposes and a head over the proposals."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        rpn_head: RPNHead,
        roi_head: RoIHead,
        neck: nn.Module | None = None,
    ) -> None:
        """Take the built parts.

        Args:
            backbone: images to a tuple of maps.
            rpn_head: maps to proposals.
            roi_head: proposals to detections.
            neck: maps to maps.
        """
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the (N, C, H, W) maps of (N, 3, H, W) images that the heads see."""
        maps = self.backbone(images)
        features: tuple[Tensor, ...] = maps if self.neck is None else self.neck(maps)
        return features

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Return the RPN's logits and deltas per level, then what the RoI head gives.

        That is class logits (R, C + 1) and deltas (R, 4 * k) of all images' proposals, and mask
        logits if there are masks, each in a tuple over the stages.
        """
        maps = self.features(images)
        raw = self.rpn_head(maps)
        settings = self.rpn_head.test_proposals
        sizes = repeat_size(images)
        proposals = self.rpn_head.propose(raw, sizes, settings)
        return *raw, *self.roi_head.raw(maps, proposals, sizes)

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of both stages for (N, 3, H, W) images."""
        targets = [t.without_crowd() for t in targets]
        maps = self.features(images)
        raw = self.rpn_head(maps)
        sizes = sizes_in((images.shape[-2], images.shape[-1]), targets)
        losses = self.rpn_head.loss(raw, targets, sizes)
        proposals = self.rpn_head.propose(raw, sizes, self.rpn_head.train_proposals)
        return losses | self.roi_head.loss(Proposals(maps, proposals), targets, sizes)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images."""
        maps, frames = self.features(batch.images), batch.frames()
        settings = self.rpn_head.test_proposals
        sizes = [frame.size for frame in frames]
        proposals = self.rpn_head.propose(self.rpn_head(maps), sizes, settings)
        return self.roi_head.predict(maps, proposals, frames)

    def decode(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the RoI head's candidates: (N, K, 4) boxes, (N, K) scores and (N, K) labels."""
        return self._decode(self.features(images), sizes)

    def detect(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and, with mask heads, (N, M, H, W) masks; see `Detector`."""
        maps = self.features(images)
        found = self.post_process.keep_fixed(*self._decode(maps, sizes))
        if not self.roi_head.mask_heads:
            return found
        size = (images.shape[-2], images.shape[-1])
        return *found, self.roi_head.masks(maps, *found, size)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `detect` returns."""
        return (*super().outputs, *(["masks"] if self.roi_head.mask_heads else []))

    @property
    def post_process(self) -> PostProcess:
        """The RoI head's settings."""
        return self.roi_head.post_process

    def _decode(self, maps: Maps, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        settings = self.rpn_head.test_proposals
        boxes, scores = self.rpn_head.propose_fixed(self.rpn_head(maps), sizes, settings)
        raw = replace(self.roi_head(maps, boxes, sizes), filled=scores > 0)
        return self.roi_head.decode(raw, sizes)


@register()
class FasterRCNN(TwoStageDetector):
    """With `StandardRoIHead`: https://arxiv.org/abs/1506.01497."""


@register()
class MaskRCNN(TwoStageDetector):
    """With a `StandardRoIHead` that has a mask head: https://arxiv.org/abs/1703.06870."""


@register()
class CascadeRCNN(TwoStageDetector):
    """With `CascadeRoIHead`: https://arxiv.org/abs/1712.00726."""
