"""A latency for every point of a space, from a file that is measured once or given."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from razorlite.core.config import Given
from razorlite.core.errors import ConfigError
from razorlite.core.files import write_text_atomic
from razorlite.core.ranges import Count
from razorlite.core.registry import register, suggestion
from razorlite.cost.end_to_end import EndToEnd, PowerLaw, end_to_end
from razorlite.cost.factored import FactoredCost, Part
from razorlite.cost.measuring import measured_latency
from razorlite.cost.model import Number
from razorlite.cost.observing import Supernet
from razorlite.cost.timed import LatencyConfig, Timer
from razorlite.engine.run_folder import told_by_main

_FORMAT = 1
_KEYS = ("format", "space", "shape", "device", "threads", "date", "fixed", "parts", "end_to_end")
_log = logging.getLogger("razorlite")


@register()
class LatencyTable:
    """Milliseconds of every point of a space, added up from a file's tables of parts.

    Where the file is not there, the supernet is measured on this machine when a cost is first asked
    for, and the file is written; so one machine may measure what another one searches by, and a
    resumed search has the same costs. The file is JSON: `fixed` is what every point takes, each of
    `parts` names `dimensions` and gives `values`, a nested list with one level for each of them;
    where `space` (a fingerprint), `shape` or `device` are given, they must be the search's.

    Attributes:
        names: the one kind of cost.
    """

    def __init__(
        self,
        *,
        space: Supernet,
        shape: tuple[int, int],
        file: str,
        device: Literal["cpu", "cuda"] = "cpu",
        rounds: Count = 10,
        name: str = "latency_ms",
        latency: LatencyConfig | None = None,
        timer: Given[Timer | None] = None,
    ) -> None:
        """Read the file if it is there.

        Args:
            space: of the supernet.
            shape: height and width in pixels.
            file: path of the table.
            device: where to measure; of a file, where it was measured.
            rounds: how often each point is timed.
            name: of the cost; `20ms` in limits needs a name that ends in `_ms`.
            latency: bring sums to what whole models take, pixels in and detections out, in this
                runtime: six of them are timed, and the rank correlation is told.
            timer: times whole models by these settings.

        Raises:
            ConfigError: the file cannot be read, or is of another space, shape or device.
        """
        self.space, self.shape, self.file = space, shape, Path(file)
        self.device, self.rounds, self.names = device, rounds, (name,)
        self.latency, self.timer = latency, timer
        self._known = self._read() if told_by_main(self.file.exists) else None

    @property
    def is_known(self) -> bool:
        """Whether costs can be told without measuring."""
        return self._known is not None

    @property
    def sums(self) -> FactoredCost:
        """What parts take, added up; measured now if need be."""
        return self._table[0]

    def many(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of (N, D) points: name to (N,) float64."""
        sums, law = self._table
        return {name: law(values) for name, values in sums.many(points).items()}

    def bounds(self) -> dict[str, tuple[Number, Number]]:
        """Return the least and the greatest; see `FactoredCost.bounds`."""
        sums, law = self._table
        ends = {name: law(np.array(values)).tolist() for name, values in sums.bounds().items()}
        return {name: (low, high) for name, (low, high) in ends.items()}

    @property
    def _table(self) -> tuple[FactoredCost, PowerLaw]:
        if self._known is None:
            told_by_main(self._measure)
            self._known = self._read()
        return self._known

    def _measure(self) -> None:
        [name] = self.names
        _log.info("%s: there is no %s yet: timing the supernet's parts", name, self.file)
        found = measured_latency(
            self.space, self.shape, rounds=self.rounds, device=self.device, name=name
        )
        tree = {
            "format": _FORMAT,
            "space": self.space.fingerprint,
            "shape": list(self.shape),
            "device": self.device,
            "threads": torch.get_num_threads(),
            "date": date.today().isoformat(),
            "fixed": found.fixed[name],
            "parts": [
                {
                    "dimensions": [self.space.dimensions[d].name for d in part.dimensions],
                    "values": part.costs[name].tolist(),
                }
                for part in found.parts
            ],
        }
        if self.timer is not None:
            whole = end_to_end(self.space, found, self.timer)
            tree["end_to_end"] = asdict(whole)
            _tell(name, whole)
        write_text_atomic(self.file, json.dumps(tree) + "\n")

    def _read(self) -> tuple[FactoredCost, PowerLaw]:
        try:
            return self._parsed(_tree(self.file))
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {error}") from error

    def _parsed(self, tree: Mapping[str, Any]) -> tuple[FactoredCost, PowerLaw]:
        for key in tree:
            if key not in _KEYS:
                raise ConfigError(f"unknown key {key!r}{suggestion(key, _KEYS)}")
        expected = {
            "format": _FORMAT,
            "space": self.space.fingerprint,
            "shape": list(self.shape),
            "device": self.device,
        }
        for key, value in expected.items():
            if tree.get(key, value) != value:
                raise ConfigError(
                    f"the table is of {key} {tree[key]}, and {value} is searched; give another "
                    f"file, or delete this one to measure again"
                )
        [name] = self.names
        fixed, parts = _numbers(tree.get("fixed", 0.0)), tree.get("parts", [])
        if fixed.ndim or not isinstance(parts, list):
            raise ConfigError("wants one number as fixed, and a list of parts")
        law, parts = self._law(tree), [self._part(name, part) for part in parts]
        return FactoredCost(self.space, fixed={name: float(fixed)}, parts=parts), law

    def _law(self, tree: Mapping[str, Any]) -> PowerLaw:
        """Return what brings sums to what whole models take.

        Raises:
            ConfigError: the file's whole models were timed otherwise, or not at all.
        """
        known = tree.get("end_to_end")
        if self.timer is not None:
            conditions = dict(self.timer.conditions)
            if known is None or known.get("conditions") != conditions:
                raise ConfigError(
                    f"the table's whole models were timed in {known and known.get('conditions')}, "
                    f"and search.costs wants {conditions}; give another file, or delete this one"
                )
        if known is None:
            return PowerLaw()
        scale, power = _numbers([known.get("scale"), known.get("power")])
        if not (scale > 0 and power >= 0):
            raise ConfigError(
                f"end_to_end wants a positive scale and power, got {known.get('scale')} and "
                f"{known.get('power')}; delete the file to measure again"
            )
        return PowerLaw(float(scale), float(power))

    def _part(self, name: str, part: Any) -> Part:
        if not isinstance(part, dict) or set(part) != {"dimensions", "values"}:
            raise ConfigError(f"parts want dimensions and values, got {part!r:.60}")
        numbers = {d.name: i for i, d in enumerate(self.space.dimensions)}
        if not isinstance(part["dimensions"], list):
            raise ConfigError(f"dimensions want a list of names, got {part['dimensions']!r:.60}")
        for dimension in map(str, part["dimensions"]):
            if dimension not in numbers:
                raise ConfigError(
                    f"no dimension {dimension!r} in the space{suggestion(dimension, numbers)}"
                )
        dimensions = tuple(numbers[str(d)] for d in part["dimensions"])
        return Part(dimensions, {name: _numbers(part["values"])})


def _tell(name: str, whole: EndToEnd) -> None:
    own = whole.conditions
    _log.info(
        "%s: %d whole models timed in %s, %s thread(s): rank correlation (tau) with the table %s",
        name,
        len(whole.times),
        own.get("runtime"),
        own.get("threads"),
        "unknown" if whole.tau is None else f"{whole.tau:.2f}",
    )


def _tree(path: Path) -> Mapping[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"wants an object with fixed and parts, got {tree!r:.60}")
    return tree


def _numbers(values: Any) -> np.ndarray:
    """Return numbers in nested lists as float64."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"wants numbers in lists of equal length, got {values!r:.60}") from error
