"""When a teacher teaches, and how much: spans of a run, and a weight over its steps."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Rule, Whole

_TEXT = re.compile(r"(\d+(?:\.\d+)?) ?(%|epochs?)")


@dataclass(frozen=True)
class SpanText(Rule):
    """Epochs or a share of a run: "3 epochs", "80%"."""

    def holds(self, value: Any) -> bool:
        match = _TEXT.fullmatch(value) if isinstance(value, str) else None
        return match is not None and (match[2] != "%" or float(match[1]) <= 100)

    def __str__(self) -> str:
        return "such as '3 epochs' or '80%'"


Span = Whole | Annotated[str, SpanText()]


@dataclass(frozen=True)
class Length:
    """How long a run is, as far as that is known.

    Attributes:
        total: optimiser steps of the whole run.
        epoch: optimiser steps of one epoch, which may be a fraction.
        unit: what all is counted in; "epochs" where no one knows yet how many steps they have.
    """

    total: int | None = None
    epoch: float | None = None
    unit: Literal["steps", "epochs"] = "steps"

    def steps(self, span: int | str) -> float | None:
        """Return a span in the unit, steps rounded; None where that is not known.

        Raises:
            ConfigError: the text is none.
        """
        in_steps = self.unit == "steps"
        if isinstance(span, int):
            return span if in_steps or not span else None
        match = _TEXT.fullmatch(span)
        if match is None:
            raise ConfigError(f"wants whole steps, or text {SpanText()}, got {span!r:.60}")
        number, unit = float(match[1]), match[2]
        whole = None if self.total is None else self.total / 100
        each = whole if unit == "%" else self.epoch
        if each is None:
            return None
        return round(number * each) if in_steps else number * each


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """The weight of a distillation over the steps of a run: a trapezium.

    It is 0 before `start`, rises linearly over `warmup` steps to 1, and falls linearly over
    `cooldown` steps until it is 0 at `stop`.

    Attributes:
        start: the first step that is taught.
        stop: the first that is not any more; None for the end of the run.
        warmup: steps of the rise.
        cooldown: steps of the fall.
        total: steps of the run, if that is known.
        unit: what all of these are counted in, for messages.

    Raises:
        ConfigError: they contradict one another.
    """

    start: float = 0
    stop: float | None = None
    warmup: float = 0
    cooldown: float = 0
    total: float | None = None
    unit: str = "steps"

    def __post_init__(self) -> None:
        if self.stop is not None and self.stop <= self.start:
            raise ConfigError(
                f"stop_step {self._shown(self.stop)} must come after start_step "
                f"{self._shown(self.start)}",
                key="distiller",
            )
        if self.cooldown and self.end is None:
            raise ConfigError("cooldown_steps need a stop_step that they lead to", key="distiller")
        if self.cooldown and self.end is not None:
            self._check_room(self.end - self.start)

    @property
    def end(self) -> float | None:
        """The first step that is not taught any more, if it is known."""
        ends = [step for step in (self.stop, self.total) if step is not None]
        return min(ends, default=None)

    @property
    def is_idle(self) -> bool:
        """Whether the run ends before anything is taught."""
        return self.total is not None and self.start >= self.total

    def at(self, step: int) -> float:
        """Return the weight, between 0 and 1, at a step from 0."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return 0.0
        rising = (step - self.start + 1) / max(1, self.warmup)
        if not self.cooldown or self.end is None:
            return min(1.0, rising)
        return max(0.0, min(1.0, rising, (self.end - step) / self.cooldown))

    def _check_room(self, room: float) -> None:
        if self.warmup + self.cooldown > room:
            spans = [f"{span:g}" for span in (self.warmup, self.cooldown, max(0, room), self.start)]
            warmup, cooldown, left, start = spans
            raise ConfigError(
                f"warmup_steps {warmup} and cooldown_steps {cooldown} are more than the "
                f"{left} {self.unit} from start_step {start} to {self.end:g}; shorten them",
                key="distiller",
            )

    def _shown(self, span: float) -> str:
        return f"{span:g}" if self.unit == "steps" else f"{span:g} {self.unit}"
