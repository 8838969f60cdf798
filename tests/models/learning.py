"""Learning by heart, and what must have been learnt whatever the processor's rounding."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from razorlite.data import build_loader
from razorlite.data.coco import CocoDataset
from razorlite.data.transforms.geometry import Pad, Resize
from razorlite.evaluation.coco import CocoMetric
from razorlite.evaluation.evaluate import eval_mode
from razorlite.structures import Batch, Detections, Target

SIDE = 128


@dataclass(frozen=True)
class Course:
    """How a detector is made to learn by heart."""

    build: Callable[[], nn.Module]
    steps: int = 300
    lr: float = 3e-3


def marked(names: Iterable[Any], release: Collection[Any]) -> list[Any]:
    """Return parameters of slow tests; those whose parts others check wait for a release."""
    marks = {name: pytest.mark.release if name in release else pytest.mark.slow for name in names}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def eight_photos(test_data: Path) -> Batch:
    """Photographs with one to four objects, none small or behind another, and their masks."""
    folder = test_data / "coco_permissive"
    photos = CocoDataset(
        annotation=str(folder / "annotations/instances_from_panoptic_train2017.json"),
        images=str(folder / "images/train2017"),
        masks=True,
    )
    clear = [i for i in range(len(photos)) if is_clear(photos[i])][:8]
    shrink = [Resize(size=(SIDE, SIDE)), Pad(size=(SIDE, SIDE))]
    [batch] = build_loader(photos.subset(clear), transforms=shrink, training=False)
    return Batch(batch.images, [relabelled(t) for t in batch.targets])


def is_clear(item: tuple[Tensor, Target]) -> bool:
    target = item[1]
    areas = target.masks.flatten(1).float().mean(1)
    apart = box_iou(target.boxes, target.boxes).triu(1) < 0.4
    few = 1 <= len(target) <= 4 and not target.crowd.any()
    return few and bool((areas > 0.03).all() and apart.all())


def relabelled(target: Target) -> Target:
    """Fold the classes into the three that the small models have."""
    return Target(target.boxes, target.labels % 3, masks=target.masks, size=(SIDE, SIDE))


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


def assert_overfits(course: Course, eight: Batch) -> None:
    """A new detector finds all that it has been shown, and each of its parameters took part."""
    torch.manual_seed(0)
    model = course.build()
    learn(model, eight.images, eight.targets, steps=course.steps, lr=course.lr)
    with eval_mode(model), torch.no_grad():
        found = model.predict(Batch(eight.images))
    assert metrics(found, eight.targets, "bbox")["AP50"] >= 0.95
    if found[0].masks is not None:
        assert metrics(found, eight.targets, "segm")["AP50"] >= 0.95
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def metrics(found: list[Detections], targets: list[Target], kind: str) -> dict[str, float]:
    metric = CocoMetric(kind=kind)
    metric.update(found, targets)
    return metric.compute()
