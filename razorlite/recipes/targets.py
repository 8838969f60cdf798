"""The path that a supernet's training ends at."""

import math
from collections.abc import Mapping
from pathlib import Path

from razorlite.core.streams import results
from razorlite.cost import cost_text
from razorlite.engine.steps import Step
from razorlite.recipes.building import Built
from razorlite.recipes.steps import chain
from razorlite.space import PathStep, Subnet


def target_of(step: Step) -> Subnet | None:
    """Return the path that a training step ends at; None where it has none."""
    targets = (one.target for one in chain(step) if isinstance(one, PathStep))
    return next(filter(None, targets), None)


def write_target(
    built: Built, step: Step, shape: tuple[int, int], folder: Path, metrics: Mapping[str, float]
) -> None:
    """Leave the path that a supernet's training has ended at in subnet.yaml; nothing without one.

    Args:
        built: the supernet.
        step: that it was trained by.
        shape: (height, width) in pixels of the images that MACs are stated for.
        folder: run folder.
        metrics: of the last evaluation.
    """
    target = target_of(step) if built.is_supernet else None
    if target is None or built.space is None:
        return
    cost = built.costs(shape)(target)
    scores = {name: value for name, value in metrics.items() if math.isfinite(value)}
    origin = {"made_by": "train", "checkpoint": str(folder / "checkpoints" / "last.pt")}
    target.with_results(cost=cost, scores=scores, origin=origin).save(folder / "subnet.yaml")
    costs = ", ".join(cost_text(name, value) for name, value in cost.items())
    results.info("training ends at a subnet of %s; written to %s", costs, folder / "subnet.yaml")
