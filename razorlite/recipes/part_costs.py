"""What the parts of a detector cost, at the points of a front."""

from collections.abc import Sequence
from dataclasses import dataclass

from razorlite.cost import count
from razorlite.search import Trial
from razorlite.space import SearchSpace

REST = "rest"  # what lies in no part: operations of the model itself


@dataclass(frozen=True)
class PartCosts:
    """A trial's costs by part.

    Attributes:
        name: of the trial.
        macs: part to multiply-accumulates for one image; together those of the whole model.
        params: part to parameters.
    """

    name: str
    macs: dict[str, int]
    params: dict[str, int]


def part_costs(
    trials: Sequence[Trial], space: SearchSpace, shape: tuple[int, int]
) -> list[PartCosts]:
    """Count the backbone, the neck, the head, ... of exported subnets.

    Parts without parameters and MACs are left out.

    Args:
        trials: of the search.
        space: of the supernet.
        shape: height and width in pixels that costs are stated for.
    """
    return [_counted(trial, space, shape) for trial in trials]


def _counted(trial: Trial, space: SearchSpace, shape: tuple[int, int]) -> PartCosts:
    whole = count(space.export(trial.subnet), shape)
    parts = {name: part for name, part in whole.modules.items() if "." not in name}
    macs = {name: part.macs for name, part in parts.items() if part.macs or part.params}
    params = {name: parts[name].params for name in macs}
    rest = {REST: whole.macs - sum(macs.values())}
    if rest[REST]:
        macs, params = macs | rest, params | {REST: whole.params - sum(params.values())}
    return PartCosts(f"trial {trial.number}", macs, params)
