"""Bit-operations of supernets whose layers compute with few bits."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from razorlite.core.config import Given
from razorlite.core.ranges import Range
from razorlite.core.registry import register
from razorlite.cost.dependence import Dependence, Group
from razorlite.cost.factored import FactoredCost
from razorlite.cost.model import Number
from razorlite.cost.observing import CountedRuns, Supernet
from razorlite.cost.tabulate import kept_point, mac_parts
from razorlite.structures import example_inputs


@register()
class BitOperations:
    """Multiply-accumulates times the bits of weights times those of inputs, as `bitops`.

    Args:
        space: of the supernet, see `razorlite.search.spaces.MixedPrecision`.
        shape: (height, width) in pixels of the images.
        others: bits of weights and inputs of what does not round; 0 leaves it out, as SPOS does
            with the first and the last layer.

    Attributes:
        names: `bitops`.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 4.4.
    """

    names = ("bitops",)

    def __init__(
        self,
        space: Given[Supernet],
        *,
        shape: Given[tuple[int, int]],
        others: Annotated[int, Range(least=0, most=64)] = 32,
    ) -> None:
        self.space, self.others = space, others
        with kept_point(space):
            inputs = example_inputs(space.model, shape, device="cpu")
            dependence = Dependence(space, CountedRuns(space, inputs))
            dependence.points()
            parts = mac_parts(dependence, name="bitops", factor=self._bits)
        fixed = sum(int(p.costs["bitops"].item()) for p in parts if not p.dimensions)
        varying = [part for part in parts if part.dimensions]
        self.costs = FactoredCost(space, fixed={"bitops": fixed}, parts=varying)

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the bit-operations of (N, D) points, (N,) int64."""
        return self.costs.many(points)

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest."""
        return self.costs.bounds()

    def _bits(self, path: str, group: Group, combination: np.ndarray) -> int:
        """Return the product of the bits of a module at a combination of a group's values."""
        bits_at = getattr(self.space.mutables.get(path), "bits_at", None)
        if bits_at is None:
            return self.others**2
        options = [self.space.dimensions[d] for d in group]
        pairs = zip(options, combination.tolist(), strict=True)
        weight, inputs = bits_at({option.name: option.values[i] for option, i in pairs})
        return int(weight * inputs)
