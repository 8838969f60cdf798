"""Learning by heart, and what must have been learnt whatever the processor's rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from razorlite.structures import Detections, Target


def drawn(target: Target, size: tuple[int, int]) -> Tensor:
    """Return an image (1, 3, *size) of noise in which each object fills its box with a colour."""
    image = 0.3 * torch.randn(1, 3, *size)
    for label, (x1, y1, x2, y2) in zip(target.labels, target.boxes.int(), strict=True):
        image[0, label, y1:y2, x1:x2] += 2
    return image


def learn(
    model: nn.Module, images: Tensor, targets: Sequence[Target], *, steps: int, lr: float
) -> None:
    """Take steps on one batch at a rate that falls to nothing.

    At a constant rate the last steps still jump, and where they land hangs on rounding.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(steps):
        loss = sum(model.loss(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()


def assert_found(found: Detections, target: Target, *, overlap: float) -> None:
    """The best detections are the objects: of their classes, and where they are."""
    best = found[: len(target)]
    order = best.labels.argsort()
    assert best.labels[order].tolist() == target.labels.tolist()
    overlaps = box_iou(best.boxes[order], target.boxes).diagonal()
    assert overlaps.min() > overlap
