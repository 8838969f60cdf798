"""Processor seconds of one inference and of one training step on one thread, by part.

Start it by `python -m projects.detr3d.timing CONFIG`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from projects.detr3d.detector import DETR3D
from projects.detr3d.records import Objects
from projects.detr3d.sampling import Views
from razorlite.core.errors import ConfigError
from razorlite.recipes.experiment import read
from razorlite.structures import example_inputs

_ROUNDS = 2


def timings(model: DETR3D, shape: tuple[int, int], rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the median seconds of each part of an inference, then of a training step.

    Of the processor, so that other jobs beside count little. One frame of noise with twenty
    objects; the optimiser's own work is left out.

    Args:
        model: on the CPU.
        shape: (height, width) in pixels of the padded images.
        rounds: how often each is timed, after a first time that does not count.
    """
    found = [{**_inference(model, shape), **_step(model, shape)} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


@torch.no_grad()
def _inference(model: DETR3D, shape: tuple[int, int]) -> dict[str, float]:
    model.eval()
    inputs = _inputs(model, shape)
    return {
        f"inference: {name}": seconds for name, seconds in _parts(model, inputs, _found).items()
    }


def _step(model: DETR3D, shape: tuple[int, int]) -> dict[str, float]:
    model.train()
    inputs, objects = _inputs(model, shape), _objects()
    clock: dict[str, float] = {}

    def learn(head: Any, raw: Any) -> None:
        losses, clock["matching and losses"] = _timed(lambda: head.loss(raw, [objects]))
        total = torch.stack(list(losses.values())).sum()
        _, clock["backward"] = _timed(total.backward)

    parts = _parts(model, inputs, learn)
    parts.pop("decoding")
    return {f"step: {name}": seconds for name, seconds in {**parts, **clock}.items()}


def _parts(
    model: DETR3D, inputs: dict[str, Any], last: Callable[[Any, Any], None]
) -> dict[str, float]:
    images = inputs["images"].flatten(0, 1).contiguous(memory_format=torch.channels_last)
    maps, backbone = _timed(lambda: model.img_backbone(images))
    levels, neck = _timed(lambda: model.img_neck(maps))
    seen = Views(levels, inputs["lidar2img"], (images.shape[-2], images.shape[-1]))
    raw, head = _timed(lambda: model.pts_bbox_head(seen))
    _, decoding = _timed(lambda: last(model.pts_bbox_head, raw))
    return {"backbone": backbone, "neck": neck, "head": head, "decoding": decoding}


def _found(head: Any, raw: Any) -> None:
    head.predict(raw)


def _inputs(model: DETR3D, shape: tuple[int, int]) -> dict[str, Any]:
    inputs: Any = example_inputs(model, shape)
    return {**inputs, "images": torch.randn(inputs["images"].shape)}


def _objects(count: int = 20) -> Objects:
    boxes = torch.rand(count, 9) * torch.tensor([80, 80, 2, 4, 2, 2, 3, 1, 1.0])
    boxes[:, :2] -= 40
    boxes[:, 3:6] += 0.5
    labels = torch.arange(count) % 10
    return Objects(boxes, labels, torch.ones(count, 2, dtype=torch.long))


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def main(arguments: list[str]) -> None:
    """Print the table of a configuration's model."""
    if len(arguments) != 1:
        raise ConfigError("usage: python -m projects.detr3d.timing CONFIG")
    torch.set_num_threads(1)
    experiment = read(arguments[0])[1]
    model: Any = experiment.model()
    model.to(memory_format=torch.channels_last)
    for name, seconds in timings(model, experiment.shape).items():
        print(f"{name:32} {seconds:7.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
