"""Sums of a step's metrics between two logged lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from razorlite.core.distributed import gather_objects


class Window:
    """Running sums of the metrics since the last logged line; part of checkpoints."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start a new window."""
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, float] = {}
        self.images, self.seconds = 0, 0.0

    def add(self, metrics: Mapping[str, Any], images: int, seconds: float) -> None:
        """Add one step's metrics (numbers or 0-dim tensors), images and seconds."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self.images += images
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        """Return the means over steps and ranks; all ranks must call it."""
        everywhere = gather_objects((self.state_dict()["sums"], self._counts))
        names = dict.fromkeys(name for sums, _ in everywhere for name in sums)
        return {
            name: sum(sums.get(name, 0.0) for sums, _ in everywhere)
            / sum(counts.get(name, 0) for _, counts in everywhere)
            for name in names
        }

    def images_per_second(self) -> float:
        """Return the throughput of all ranks together; all ranks must call it."""
        return sum(gather_objects(self.images)) / max(self.seconds, 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain numbers."""
        return {
            "sums": numbers_of(self._sums),
            "counts": dict(self._counts),
            "images": self.images,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self.images, self.seconds = state["images"], state["seconds"]

    def load_joined(self, states: Sequence[Mapping[str, Any]], scale: float) -> None:
        """Go on with the sums of several processes in one.

        Args:
            states: what `state_dict` returned in each of them.
            scale: number of processes now, divided by the number of them then: how much a step
                of theirs weighs.
        """
        self.clear()
        for state in states:
            for name, value in state["sums"].items():
                self._sums[name] = self._sums.get(name, 0.0) + value * scale
                self._counts[name] = self._counts.get(name, 0) + state["counts"][name] * scale
            self.images += state["images"]
            self.seconds = state["seconds"]  # their clocks have run side by side


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Return numbers and 0-dim tensors as plain numbers, fetched from the device at once."""
    tensors = [value.double() for value in values.values() if isinstance(value, Tensor)]
    fetched = iter(torch.stack(tensors).tolist() if tensors else ())
    return {
        name: next(fetched) if isinstance(value, Tensor) else float(value)
        for name, value in values.items()
    }
