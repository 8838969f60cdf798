"""What a search makes large or small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion

Direction = Literal["max", "min"]
MetricSpec = str | Sequence[str] | Mapping[str, Direction]


@dataclass(frozen=True)
class Objectives:
    """Names and directions of what candidates are compared by; the first one decides the best.

    An objective is a metric that scoring gives, or a kind of cost.

    Attributes:
        directions: name to "max" or "min", in order.

    Raises:
        ConfigError: there is none, or a direction is another word.
    """

    directions: Mapping[str, Direction]

    def __post_init__(self) -> None:
        if not self.directions:
            raise ConfigError("metric names nothing to search by; name a metric such as AP")
        for name, direction in self.directions.items():
            if direction not in get_args(Direction):
                raise ConfigError(f"metric.{name} takes max or min, got {direction!r:.60}")

    @classmethod
    def parse(cls, spec: MetricSpec) -> Objectives:
        """Read objectives as configurations write them.

        Args:
            spec: a name, several names (more is better), or names to "max" or "min".

        Raises:
            ConfigError: there is none, one is named twice, or a direction is another word.
        """
        if isinstance(spec, Mapping):
            return cls(dict(spec))
        names = [spec] if isinstance(spec, str) else list(spec)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"metric names {twice!r} twice; name each metric once")
        return cls(dict.fromkeys(names, "max"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(self.directions)

    @property
    def first(self) -> str:
        """The name of the one that decides the best."""
        return self.names[0]

    def __len__(self) -> int:
        return len(self.directions)

    def __str__(self) -> str:
        return ", ".join(f"{name} ({way})" for name, way in self.directions.items())

    def values(
        self, scores: Mapping[str, float], cost: Mapping[str, int | float]
    ) -> tuple[float, ...]:
        """Return the value of each objective, more is better.

        Args:
            scores: metrics of a candidate.
            cost: its costs; a metric of the same name comes first.

        Raises:
            ConfigError: an objective is neither a metric nor a cost; suggests a near one.
        """
        known = {**cost, **scores}
        for name in self.names:
            if name not in known:
                costs = f", nor among the costs {', '.join(cost)}" if cost else ""
                raise ConfigError(
                    f"search.metric {name!r} is not among the metrics {', '.join(scores)}{costs}"
                    f"{suggestion(name, list(known))}"
                )
        return tuple(self._signed(name, float(known[name])) for name in self.names)

    def measured(self, values: Sequence[float]) -> dict[str, float]:
        """Return the objectives by name as they were measured, given what `values` returned."""
        pairs = zip(self.names, values, strict=True)
        return {name: self._signed(name, value) for name, value in pairs}

    def fault(self, values: Sequence[float]) -> str | None:
        """Return what is wrong with a candidate's values, None if nothing is."""
        for name, value in self.measured(values).items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        return None

    def _signed(self, name: str, value: float) -> float:
        return value if self.directions[name] == "max" else -value
