"""What may vary: a name and the values it may have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from razorlite.core.errors import ConfigError

Value = str | int | float
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Dimension:
    """One thing that may vary in a model.

    Attributes:
        name: of the dimension.
        values: what it may be, each once; the first is what it is where a condition switches it
            off.
        when: names of other dimensions to those of their values under which this one counts; all
            of them must hold, and the others must count themselves. Empty: it always counts.

    Raises:
        ConfigError: the name or the values are empty, a value is there twice, or is no text, whole
            number or finite number.
    """

    name: str
    values: tuple[Value, ...]
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "when", {name: tuple(v) for name, v in self.when.items()})
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"a dimension wants a name, got {self.name!r}")
        _check_values(f"dimension {self.name!r}", self.values)
        for name, values in self.when.items():
            _check_values(f"dimension {self.name!r}: when {name!r}", values)

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers, so that there are smaller and larger ones."""
        return not any(isinstance(value, str) for value in self.values)


def _check_values(what: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ConfigError(f"{what} has no values; give at least one")
    for value in values:
        if not is_value(value):
            raise ConfigError(f"{what} wants texts, whole or finite numbers, got {value!r}")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ConfigError(f"{what} has the value {twice!r} twice; give each once")


def is_value(value: object) -> bool:
    """Return whether something can be the value of a dimension."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and not isinstance(value, bool)
