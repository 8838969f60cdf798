"""The detector: images of all cameras and their matrices to boxes in space."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projects.detr3d.example import looking_around
from projects.detr3d.grid_mask import GridMask
from projects.detr3d.head import DETR3DHead, Raw
from projects.detr3d.records import Found, Objects
from projects.detr3d.sampling import Views
from razorlite.core.registry import register
from razorlite.structures import Batch, Inputs


@register()
class DETR3D(nn.Module):
    """A backbone and a pyramid for each camera's image, and queries that look into all of them.

    Inputs are a mapping: "images" (B, N, 3, H, W), and "lidar2img" (B, N, 4, 4), whose first three
    rows take (x, y, z, 1) in metres to (u * depth, v * depth, depth), with u and v in pixels of
    these images. The cameras' order is that of the training data.

    https://arxiv.org/abs/2110.06922
    """

    def __init__(
        self,
        *,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        pts_bbox_head: DETR3DHead,
        grid_mask: GridMask | None = None,
    ) -> None:
        """Take the built parts.

        Args:
            img_backbone: images to a tuple of maps.
            img_neck: maps to maps with the head's channels.
            pts_bbox_head: what the cameras see to classes and boxes.
            grid_mask: what is blanked out of images in training.
        """
        super().__init__()
        self.pts_bbox_head, self.img_neck, self.img_backbone = pts_bbox_head, img_neck, img_backbone
        self.grid_mask = grid_mask
        self.scale: nn.Module = nn.Identity()  # of images, where a search space puts another size

    @property
    def max_detections(self) -> int:
        """How many objects are found in a frame at most."""
        return self.pts_bbox_head.max_per_frame

    @property
    def num_queries(self) -> int:
        """How many objects can be found in a frame."""
        return self.pts_bbox_head.num_query

    @property
    def num_decoder_layers(self) -> int:
        """How many layers the decoder has; each is supervised."""
        return self.pts_bbox_head.num_layers

    def keep_queries(self, kept: Sequence[int]) -> None:
        """Drop all other queries."""
        self.pts_bbox_head.keep_queries(kept)

    def keep_decoder_layers(self, count: int) -> None:
        """Drop all decoder layers behind the first ones."""
        self.pts_bbox_head.keep_layers(count)

    def query_scores(self, inputs: Inputs) -> Tensor:
        """Return (B, Q), the probability of the likeliest class of each query, 0 to 1."""
        logits: Tensor = self(inputs)[0][-1]
        return logits.float().sigmoid().amax(-1)

    def example(self, shape: tuple[int, int]) -> Inputs:
        """Return one frame of empty images of (height, width) pixels, cameras looking around."""
        cameras = self.pts_bbox_head.num_cameras
        matrices = looking_around(cameras, shape)
        images = torch.zeros(1, cameras, 3, *shape, device="cpu")
        return {"images": images, "lidar2img": matrices[None]}

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the (B * N, C, h, w) maps of (B, N, 3, H, W) images."""
        pixels = self.scale(images.flatten(0, 1))
        maps: tuple[Tensor, ...] = self.img_neck(self.img_backbone(pixels))
        return maps

    def views(self, inputs: Mapping[str, Any]) -> Views:
        """Return what the cameras see in (B, N, 3, H, W) images."""
        images = inputs["images"]
        size = (images.shape[-2], images.shape[-1])
        return Views(self.features(images), inputs["lidar2img"], size)

    def forward(self, inputs: Mapping[str, Any]) -> Raw:
        """Return (L, B, Q, C) logits and (L, B, Q, 10) box codes of all decoder layers."""
        raw: Raw = self.pts_bbox_head(self.views(inputs))
        return raw

    def loss(self, inputs: Mapping[str, Any], targets: list[Objects]) -> dict[str, Tensor]:
        """Return the head's losses of every decoder layer."""
        if self.grid_mask is not None:
            inputs = {**inputs, "images": self.grid_mask(inputs["images"])}
        return self.pts_bbox_head.loss(self(inputs), targets)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Found]:
        """Return what is found in each frame, in the lidar's frame, best first."""
        return self.pts_bbox_head.predict(self(batch.inputs))
