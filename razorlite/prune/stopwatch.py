"""Slim models timed beside the model that they come from; what was measured is kept."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from hashlib import sha256
from statistics import median
from typing import Any

from torch import nn

from razorlite.core.files import explain_damage
from razorlite.core.journal import Journal
from razorlite.cost import Opened, Timer
from razorlite.engine.run_folder import told_by_main
from razorlite.prune.layer_times import Timed, Times, layer_times, quickest
from razorlite.prune.rounding import Rounding, measured_rounding

_KINDS = (("ms", "whole_ms", "share"), ("round_to", "per_mac", "layers"), ("layer_ms",))
_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Paired:
    """Two models timed in turns.

    Attributes:
        ms: median of the slim model, in milliseconds for one image.
        whole_ms: of the model it comes from.
        share: median over the rounds of the one by the other.
    """

    ms: float
    whole_ms: float
    share: float


class Stopwatch:
    """Times slim models beside the whole one; no structure is timed twice.

    Args:
        whole: what slim models are compared with; it stays as it is.
        timer: measures.

    Attributes:
        timer: as given.
    """

    def __init__(self, whole: nn.Module, timer: Timer) -> None:
        self.whole, self.timer = whole, timer
        self._known: dict[str, dict[str, Any]] = {}
        self._layers: dict[str, float] = {}
        self._journal: Journal | None = None
        self._whole_form = _form(whole)

    @property
    def has_measured(self) -> bool:
        """Whether anything was measured, or taken over from a file."""
        return bool(self._known)

    def remember(self, journal: Journal) -> None:
        """Take over what a file holds, which a resumed run must find again; nothing is written.

        The main process reads it: all must know the same when they measure together.

        Raises:
            RunFolderError: the file is damaged.
        """
        self._known |= told_by_main(lambda: _records(journal))

    def write_to(self, journal: Journal) -> None:
        """Append to a file what was measured before and what will be."""
        written = {record.get("candidate") for record in journal}
        for key, record in self._known.items():
            if key not in written:
                journal.append(record)
        self._journal = journal

    @property
    def whole_ms(self) -> float:
        """Milliseconds of the whole model for one image."""
        known = (record["whole_ms"] for record in self._known.values() if "whole_ms" in record)
        first = next(known, None)
        return self.beside(self.whole).whole_ms if first is None else float(first)

    def beside(self, slim: nn.Module, *facts: Any) -> Paired:
        """Return how long a model takes, and the whole one in turns with it; see `record`."""
        return _paired(self.record(slim, *facts))

    def record(self, slim: nn.Module, *facts: Any) -> Mapping[str, Any]:
        """Return the same with all that it depends on, as the file has it.

        Args:
            slim: the model.
            facts: plain values that tell it from others whose weights have the same shapes.
        """
        known = [_form(slim), self._whole_form, *facts]
        return self._remembered(known, lambda: self._measured(self.timer.opened(slim)))

    def resized(self, model: nn.Module, shape: tuple[int, int]) -> Paired:
        """Return how long a model takes with images of another size than the whole one is given.

        Args:
            model: such as the whole one.
            shape: height and width in pixels.
        """
        form, size = _form(model), {"resized": list(shape)}

        def measured() -> dict[str, Any]:
            known = form == self._whole_form  # writing it again would take longer than timing it
            run = self._whole_run if known else self.timer.opened(model)
            return {**size, **self._measured(run.resized(shape))}

        return _paired(self._remembered([size, form, self._whole_form], measured))

    def rounding(self, example: Any) -> Rounding:
        """Return the multiples of channels that the whole model's layers compute well with.

        Args:
            example: as for `Channels`.

        Raises:
            ConfigError: it has no layers that can be timed.
        """

        def measured() -> dict[str, Any]:
            found = measured_rounding(self.whole, example, self.timer)
            per_mac = {str(step): ratio for step, ratio in found.per_mac.items()}
            return {"round_to": found.channels, "per_mac": per_mac, "layers": found.layers}

        record = self._remembered(["round_to", self._whole_form], measured)
        per_mac = {int(step): ratio for step, ratio in record["per_mac"].items()}
        return Rounding(record["round_to"], per_mac, record["layers"])

    def layers(self, model: nn.Module, example: Any) -> Times:
        """Return what the layers of a model take, channel by channel; see `layer_times`.

        Layers that were timed in another model are not timed again.
        """
        return layer_times(model, example, self._layer_ms)

    def _layer_ms(self, timed: Mapping[str, Timed]) -> Mapping[str, float]:
        new = {key: one for key, one in timed.items() if key not in self._layers}
        if new:
            facts = ["layer_ms", *sorted(new)]
            found = self._remembered(facts, lambda: {"layer_ms": quickest(new, self.timer)})
            self._layers |= found["layer_ms"]
        return self._layers

    def _remembered(
        self, facts: list[Any], measure: Callable[[], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Return a record of facts; it is measured once, by the main process, and written down."""
        conditions = dict(self.timer.conditions)
        text = json.dumps([*facts, conditions], default=str)
        key = sha256(text.encode()).hexdigest()[:16]
        if key not in self._known:
            self._known[key] = told_by_main(lambda: self._written(key, measure()))
        return self._known[key]

    def _written(self, key: str, found: Mapping[str, Any]) -> dict[str, Any]:
        today = date.today().isoformat()
        record = {"candidate": key, **found, **self.timer.conditions, "date": today}
        if self._journal is not None:
            self._journal.append(record)
        return record

    @cached_property
    def _whole_run(self) -> Opened:
        return self.timer.opened(self.whole)

    def _measured(self, slim: Callable[[], float]) -> dict[str, Any]:
        runs: dict[str, Callable[[], float]] = {"whole": self._whole_run, "slim": slim}
        times = self.timer.in_turns(runs)
        shares = [b / a for a, b in zip(times["whole"], times["slim"], strict=True)]
        pair = Paired(median(times["slim"]), median(times["whole"]), median(shares))
        return {**asdict(pair), "rounds": len(shares)}


def _paired(record: Mapping[str, Any]) -> Paired:
    return Paired(*(record[name] for name in ("ms", "whole_ms", "share")))


def _form(model: nn.Module) -> list[Any]:
    return [[name, list(value.shape)] for name, value in model.state_dict().items()]


def paired_text(record: Mapping[str, Any]) -> str:
    """Return a measurement as logs show it."""
    shape = " x ".join(map(str, record.get("shape", ()))) or "the example"
    return (
        f"from {record['whole_ms']:.1f} to {record['ms']:.1f} ms ({record['share']:.0%}; measured "
        f"in turns in {record['runtime']}, {record['threads']} thread(s), batch "
        f"{record['batch']}, {shape})"
    )


def _records(journal: Journal) -> dict[str, dict[str, Any]]:
    with explain_damage(journal.path):
        return {str(record["candidate"]): _whole(record) for record in journal}


def _whole(record: dict[str, Any]) -> dict[str, Any]:
    if not any(record.keys() >= set(kind) for kind in _KINDS):
        raise ValueError(f"a record of {', '.join(record)} is of no kind that is kept")
    return record
