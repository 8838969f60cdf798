"""What a searcher proposes at a time, and its line in the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Proposals of which all are scored before there are others.

    Attributes:
        number: its position among the batches, from 0.
        first: number of its first trial.
        points: (N, D) int64, in canonical form.
        state: the searcher's after it has proposed them; None in processes that do not ask it.
    """

    number: int
    first: int
    points: np.ndarray
    state: Mapping[str, Any] | None = None

    @property
    def end(self) -> int:
        """The number after that of its last trial."""
        return self.first + len(self.points)

    def to_record(self) -> dict[str, Any]:
        """Return the journal's line.

        Raises:
            ConfigError: the state holds what JSON does not.
        """
        record = {"batch": self.number, "proposals": self.points.tolist(), "state": self.state}
        try:
            return {**record, "digest": _digest(record)}
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"a searcher's state_dict gives plain values alone, as the journal needs: {error}"
            ) from error


def read_batch(record: Mapping[str, Any], number: int, first: int) -> Batch | str:
    """Return the batch of a journal's line, or what is wrong with it.

    Args:
        record: the line's content.
        number: of the batch that is due.
        first: number of its first trial.
    """
    content = {key: record.get(key) for key in ("batch", "proposals", "state")}
    if set(record) != {*content, "digest"} or record["digest"] != _digest(content):
        return f"batch {number} is damaged: it is not what its digest says"
    if record["batch"] != number:
        return f"wants batch {number}, got batch {record['batch']}"
    points = np.array(record["proposals"], dtype=np.int64)
    return Batch(number=number, first=first, points=points, state=record["state"])


def _digest(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
