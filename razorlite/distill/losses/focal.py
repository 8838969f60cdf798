"""Focal and global distillation: where the objects are, where the teacher looks, and context."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Count, NonNegative, Positive
from razorlite.core.registry import register
from razorlite.distill.connectors import aligned
from razorlite.distill.losses.base import LayeredLoss, image_boxes, per_image
from razorlite.distill.scene import Scene


@register()
class FGD(LayeredLoss):
    """Squared difference by objects and teacher's attention; global context.

    Four parts: locations inside objects, each object counting alike whatever its size; locations
    outside; the difference of spatial and channel attention; and of the maps with their global
    context. Sums over the map, means over images. Needs the images' boxes. Each level of a pyramid
    has a loss of its own.

    Args:
        weight: factor of the loss.
        student_channels: channels of the student's map; another number than the teacher's gets a
            1 x 1 convolution.
        teacher_channels: channels of the teacher's map, at least 2.
        tau: temperature of attention.
        foreground: weight of locations inside objects; 1e-3 for anchor-based one-stage, 1.6e-3 for
            anchor-free, 5e-5 for two-stage detectors.
        background: weight of locations outside; half of that.
        attention: weight of attention.
        context: weight of global context.

    Yang et al., Focal and Global Knowledge Distillation for Detectors,
    https://arxiv.org/abs/2111.11837, focal and global distillation.
    """

    needs = "boxes"

    def __init__(
        self,
        *,
        weight: NonNegative = 1.0,
        student_channels: Count,
        teacher_channels: Count,
        tau: Positive = 0.5,
        foreground: NonNegative = 1e-3,
        background: NonNegative = 5e-4,
        attention: NonNegative = 1e-3,
        context: NonNegative = 5e-6,
    ) -> None:
        super().__init__(
            weight=weight, student_channels=student_channels, teacher_channels=teacher_channels
        )
        self.tau, self.foreground, self.background = tau, foreground, background
        self.attention, self.context = attention, context
        self.align = aligned(student_channels, teacher_channels)
        self.student_context = GlobalContext(teacher_channels)
        self.teacher_context = GlobalContext(teacher_channels)

    def known(self, scene: Scene) -> dict[str, Any]:
        """Return the boxes of each image, and the size of the batch's images.

        Raises:
            ConfigError: the images have no boxes.
        """
        height, width = scene.batch.images.shape[-2:]
        return {"boxes": image_boxes(self, scene), "image_size": (height, width)}

    def project(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, teacher_channels, H, W) of both sides."""
        return self.align(student), teacher

    def compare(  # type: ignore[override]
        self,
        student: Tensor,
        teacher: Tensor,
        boxes: Sequence[Tensor],
        image_size: tuple[int, int],
    ) -> Tensor:
        """Return the 0-dim loss.

        Args:
            student: (N, C, H, W) map.
            teacher: map of the same shape.
            boxes: (K, 4) of each image, x1, y1, x2, y2 in pixels.
            image_size: (height, width) in pixels of what the map covers, padding included.
        """
        inside, outside = object_masks(boxes, image_size, teacher)
        space, channels = attentions(teacher, self.tau)
        squares = (space[:, None] * channels[..., None, None] * (student - teacher).square()).sum(1)
        weights = self.foreground * inside + self.background * outside
        total = (weights * squares).sum()
        own = attentions(student, self.tau)
        total = total + self.attention * _absolute(own, (space, channels))
        context = self.student_context(student) - self.teacher_context(teacher)
        return per_image(total + self.context * context.square().sum(), student)


class GlobalContext(nn.Module):
    """Adds to a map what a small network makes of its mean, weighted by a learnt softmax.

    The last layer begins with zeros, so that nothing is added at first.

    Args:
        channels: of the map, at least 2.

    Cao et al., GCNet, https://arxiv.org/abs/1904.11492, global context block; FGD's global part.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(channels // 2, 1)
        self.mask = nn.Conv2d(channels, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(channels, middle, 1),
            nn.LayerNorm([middle, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, channels, 1),
        )
        for parameter in self.add[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        shares = self.mask(maps).flatten(2).softmax(2)
        context = maps.flatten(2) @ shares.transpose(1, 2)
        added: Tensor = maps + self.add(context[..., None])
        return added


def attentions(maps: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Return (N, H, W) and (N, C) attention of a (N, C, H, W) map: means of 1 over each image.

    FGD, https://arxiv.org/abs/2111.11837, the binary and the scale mask.
    """
    sizes = maps.abs()
    space = (sizes.mean(1).flatten(1) / tau).softmax(1) * (maps.shape[2] * maps.shape[3])
    channels = (sizes.mean((2, 3)) / tau).softmax(1) * maps.shape[1]
    return space.unflatten(1, maps.shape[2:]), channels


@torch.no_grad()
def object_masks(
    boxes: Sequence[Tensor], image_size: tuple[int, int], maps: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (N, H, W) weights of locations inside objects, and outside.

    A box covers the cells it touches; inside, a location weighs one over the number of its
    smallest box's cells; outside, one over the number of locations outside.

    Args:
        boxes: (K, 4) of each image, x1, y1, x2, y2 in pixels.
        image_size: (height, width) in pixels of what the map covers.
        maps: (N, C, H, W), for size, device and precision.

    FGD, https://arxiv.org/abs/2111.11837, spatial and channel attention.
    """
    inside = torch.stack([_box_weights(own, image_size, maps) for own in boxes])
    outside = (inside == 0).to(maps.dtype)
    return inside, outside / outside.sum((1, 2), keepdim=True).clamp_min(1)


def _box_weights(boxes: Tensor, image_size: tuple[int, int], maps: Tensor) -> Tensor:
    """Return (H, W) weights of locations inside (K, 4) boxes; see `object_masks`."""
    height, width = maps.shape[-2:]
    scale = boxes.new_tensor([width / image_size[1], height / image_size[0]]).repeat(2)
    cells = boxes * scale
    x1, y1 = cells[:, :2].floor().unbind(1)
    x2, y2 = cells[:, 2:].ceil().unbind(1)
    rows, columns = (
        torch.arange(height, device=boxes.device),
        torch.arange(width, device=boxes.device),
    )
    tall = (rows >= y1[:, None]) & (rows <= y2[:, None])
    wide = (columns >= x1[:, None]) & (columns <= x2[:, None])
    shares = 1 / ((x2 - x1 + 1) * (y2 - y1 + 1))
    weights = (tall[:, :, None] & wide[:, None]) * shares[:, None, None]
    none = weights.new_zeros(1, height, width)
    return torch.cat([weights, none]).amax(0).to(maps.dtype)


def _absolute(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Return the 0-dim sum of absolute differences of pairs of tensors."""
    return torch.stack([(a - b).abs().sum() for a, b in zip(ours, theirs, strict=True)]).sum()
