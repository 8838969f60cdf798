"""What heads that predict at every cell share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from razorlite.core.distributed import all_reduce_mean, world_size
from razorlite.models.layers import Activation, ConvModule, Norm
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.boxes import clip
from razorlite.ops.nms import top_candidates
from razorlite.structures import Detections, Frame, Target

Maps = tuple[Tensor, ...]
Size = tuple[int, int]


class DenseHead(nn.Module):
    """Base of one-stage heads.

    `forward` returns kinds of maps, each a tuple over the levels: class logits (N, A * C, H, W)
    first, box codes (N, A * 4, H, W) second, and a quality logit (N, A, H, W) third or not at all.
    """

    num_classes: int
    post_process: PostProcess

    def priors(self, logits: Maps) -> list[Tensor]:
        """Return per level what box codes refer to, (H * W * A, 2 or 4)."""
        raise NotImplementedError

    def decode(self, priors: Tensor, codes: Tensor) -> Tensor:
        """Return (N, 4) boxes in pixels of N priors and codes."""
        raise NotImplementedError

    def loss(self, raw: tuple[Maps, ...], targets: list[Target], size: Size) -> dict[str, Tensor]:
        """Return named scalars to be summed, for what `forward` returned."""
        raise NotImplementedError

    def predict(self, raw: tuple[Any, ...], frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of every image, in pixels of the original images.

        Args:
            raw: what `forward` returned.
            frames: where each image lies in its padding, and how large it was before.
        """
        priors = self.priors(raw[0])
        return [
            self._predict_one([[m[i] for m in kind] for kind in raw], priors, frame)
            for i, frame in enumerate(frames)
        ]

    def _predict_one(
        self, kinds: list[list[Tensor]], priors: list[Tensor], frame: Frame
    ) -> Detections:
        levels = [
            self._candidates(*maps, priors=p) for *maps, p in zip(*kinds, priors, strict=True)
        ]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        found = self.post_process.finish(clip(boxes, frame.size), scores, labels)
        return replace(found, boxes=frame.to_original(found.boxes))

    def _candidates(
        self, logits: Tensor, codes: Tensor, quality: Tensor | None = None, *, priors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (K, 4) boxes, (K,) scores and (K,) labels of one level of one image."""
        settings = self.post_process
        scores, labels, anchor, cell = top_candidates(
            logits, self.num_classes, settings.score_thr, settings.nms_pre
        )
        anchors = len(logits) // self.num_classes
        chosen = codes.reshape(anchors, len(codes) // anchors, -1)[anchor, :, cell]
        boxes = self.decode(priors[cell * anchors + anchor], chosen.float())
        if quality is not None:
            scores = scores * quality.reshape(anchors, -1)[anchor, cell].float().sigmoid()
        return boxes, scores, labels


def tower(
    in_channels: int,
    channels: int,
    count: int,
    norm: Norm | None,
    bias: bool | None = None,
    activation: Activation = "ReLU",
) -> nn.Sequential:
    """Return `count` 3 x 3 convolutions with norm and activation."""
    inputs = [in_channels, *[channels] * (count - 1)][:count]
    return nn.Sequential(
        *[
            ConvModule(c, channels, 3, padding=1, norm=norm, bias=bias, activation=activation)
            for c in inputs
        ]
    )


def towers(
    in_channels: int,
    channels: int,
    count: int,
    norm: Norm | None,
    bias: bool | None = None,
    levels: int | None = None,
    activation: Activation = "ReLU",
) -> nn.Sequential | nn.ModuleList:
    """Return a tower for all levels, or one for each of `levels` that share the convolutions.

    Norms that are not shared: RTMDet, https://arxiv.org/abs/2212.07784, section 3.4.
    """
    shape = (in_channels, channels, count, norm, bias, activation)
    first = tower(*shape)
    if levels is None:
        return first
    others = [tower(*shape) for _ in range(levels - 1)]
    for other in others:
        for mine, shared in zip(other, first, strict=True):
            mine.conv = shared.conv
    return nn.ModuleList([first, *others])


def tower_of(built: nn.Sequential | nn.ModuleList, level: int) -> nn.Module:
    """Return a level's tower of what `towers` built."""
    return built[level] if isinstance(built, nn.ModuleList) else built


def map_shapes(maps: Maps) -> list[Size]:
    """Return (H, W) of each map."""
    return [(m.shape[-2], m.shape[-1]) for m in maps]


def join_levels(maps: Maps, channels: int) -> Tensor:
    """Return (N, P, channels) of all levels' (N, A * channels, H, W): cells row by row, then A."""
    rows = [m.permute(0, 2, 3, 1).reshape(len(m), -1, channels) for m in maps]
    return torch.cat(rows, 1)


def pad_targets(targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, N, 4) boxes, (B, N) labels and (B, N) bool, true where there is an object."""
    boxes = pad_sequence([t.boxes for t in targets], batch_first=True)
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    counts = torch.tensor([len(t) for t in targets], device=boxes.device)
    return boxes, labels, torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]


def labels_of(assigned: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return int64 class per prior: `num_classes` for background, -1 for ignored.

    Args:
        assigned: (..., P) from `razorlite.ops.assigning`.
        labels: (..., N) of the objects.
        num_classes: how many classes there are.
    """
    background = torch.where(assigned == -1, num_classes, -1)
    if labels.shape[-1] == 0:
        return background
    return torch.where(assigned >= 0, labels.gather(-1, assigned.clamp(min=0)), background)


def centerness_of(distances: Tensor) -> Tensor:
    """Return the (N,) centre-ness of (N, 4) left, top, right, bottom distances.

    1 in the middle of a box, 0 on its sides. https://arxiv.org/abs/1904.01355, eq. 3.
    """
    left, top, right, bottom = distances.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()


def mean_over_ranks(count: Tensor, least: float = 1.0) -> Tensor:
    """Return what to divide a loss by: the mean over processes.

    All processes together count at least `least`, so that the mean of their losses is the loss of
    the joined batch.
    """
    return all_reduce_mean(count.float()).clamp(min=least / world_size())
