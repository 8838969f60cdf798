"""One scored candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from razorlite.space import Subnet


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate and what came of it.

    Attributes:
        number: its position in the order of proposals, from 0.
        subnet: the candidate.
        values: one for each objective, more is better: where an objective is to be small, its
            negative; none if the candidate failed.
        scores: all metrics that scoring gave.
        cost: macs, params, ... ; empty without a cost table.
        error: why it failed, in one line; None if it did not.
        seconds: how long scoring took.
        images: of an elastic search, on how many images it was scored last; None elsewhere.
        first_values: what `values` would be on the first images; never compared with these.
        promoted: whether it may be scored on all images; only then it has `values`.
    """

    number: int
    subnet: Subnet
    values: tuple[float, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, int | float] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    images: int | None = None
    first_values: tuple[float, ...] = ()
    promoted: bool = True

    @property
    def score(self) -> float | None:
        """The value of the first objective; None if the candidate failed."""
        return self.values[0] if self.values else None

    def to_record(self) -> dict[str, Any]:
        """Return the journal's line."""
        elastic = {
            "images": self.images,
            "promoted": self.promoted,
            "first_values": list(self.first_values),
        }
        return {
            "trial": self.number,
            "score": self.score,
            "scores": dict(self.scores),
            "cost": dict(self.cost),
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "choices": dict(self.subnet.choices),
            **(elastic if self.images is not None else {}),
        }
