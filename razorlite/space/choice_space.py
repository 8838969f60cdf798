"""All points of a search space as plain data, without a model."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorlite.core.errors import ConfigError, SubnetError
from razorlite.space._resolving import check_complete, check_fingerprint, found_values
from razorlite.space.conditions import Conditions, Points
from razorlite.space.dimension import Dimension, Value
from razorlite.space.subnet import Subnet


class ChoiceSpace:
    """Dimensions and their values, without a model.

    A point is a `Subnet`, or a row of D indices into the dimensions' values; batches of points are
    int64 arrays (N, D). Where conditions switch dimensions off, points that differ in these alone
    are the same, and the canonical one has their first values.

    Args:
        dimensions: what may vary; or the values by name, where there are no conditions.
        fingerprint: names the space in files; made from the dimensions by default.

    Attributes:
        dimensions: as given, in order.
        choices: the values by name.
        counts: (D,) how many values each has.

    Raises:
        ConfigError: two dimensions have one name, or conditions make no sense.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Sequence[Value]] | Iterable[Dimension],
        *,
        fingerprint: str = "",
    ) -> None:
        if isinstance(dimensions, Mapping):
            dimensions = [Dimension(name, tuple(v)) for name, v in dimensions.items()]
        self.dimensions = tuple(dimensions)
        self.counts = np.array([len(d.values) for d in self.dimensions], dtype=np.int64)
        self.choices = {d.name: d.values for d in self.dimensions}
        self._index = {d.name: {v: i for i, v in enumerate(d.values)} for d in self.dimensions}
        if len(self._index) < len(self.dimensions):
            names = [d.name for d in self.dimensions]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two dimensions have the name {twice!r}; name each its own way")
        self._conditions = Conditions(self.dimensions)
        self.fingerprint = fingerprint or digest(_plain(self.dimensions))

    @property
    def size(self) -> int:
        """Return the number of points, those alike counted once."""
        return self._conditions.size() if self._conditions else math.prod(self.counts.tolist())

    def random(self, rng: np.random.Generator) -> Subnet:
        """Return a random point, as `random_indices` draws it."""
        return self.decode(self.random_indices(rng, 1)[0])

    def random_indices(self, rng: np.random.Generator, count: int) -> Points:
        """Return (count, D) canonical points, every dimension that counts drawn uniformly."""
        return self.canonical(rng.integers(0, self.counts, (count, len(self.counts))))

    def all_indices(self) -> Points:
        """Return (size, D), every canonical point, the last dimension varying fastest."""
        return self._conditions.all_points()

    def covering(self) -> Points:
        """Return a few points that have every value of every dimension somewhere: (K, D) indices.

        K is the most values that a dimension has; values of different dimensions meet at random,
        the same each time. What conditions switch off at all of them may be left out.
        """
        rng, most = np.random.default_rng(0), max(self.counts, default=0)
        columns = [np.resize(rng.permutation(count), most) for count in self.counts.tolist()]
        mixed = [rng.permutation(column) for column in columns]
        return self.canonical(np.array(mixed, dtype=np.int64).reshape(-1, most).T)

    def active(self, points: Points) -> np.ndarray:
        """Return which dimensions count at (N, D) points, as (N, D) bool."""
        return self._conditions.active(points)

    def canonical(self, points: Points) -> Points:
        """Return (N, D) points with the first value in every dimension that does not count.

        Points that are alike become equal. Without conditions they are returned as they are.
        """
        return self._conditions.canonical(points)

    def encode(self, subnet: Subnet) -> Points:
        """Return a point of this space, keyed by the dimensions' names, as (D,) indices."""
        found = [index[subnet.choices[name]] for name, index in self._index.items()]
        point: Points = self.canonical(np.array([found], dtype=np.int64))[0]
        return point

    def decode(self, indices: Points | Sequence[int]) -> Subnet:
        """Return the canonical point of (D,) indices."""
        point = self.canonical(np.asarray(indices, dtype=np.int64)[None])[0].tolist()
        pairs = zip(self.dimensions, point, strict=True)
        values = {dimension.name: dimension.values[i] for dimension, i in pairs}
        return Subnet(choices=values, fingerprint=self.fingerprint)

    def resolve(self, subnet: Subnet) -> Subnet:
        """Return `subnet` in its canonical form, keyed by the dimensions' names, all checked.

        Dimensions that do not count may be left out.

        Raises:
            SubnetError: it is no point of this space; one line names the key, what was
                expected, what came, and a near name.
        """
        return self._resolved(subnet, {})

    def load(self, path: str | Path) -> Subnet:
        """Read a subnet file (see `Subnet.load`) as a point of this space.

        Raises:
            SubnetError: the file cannot be read, is malformed, or is no point of this space; one
                line names the file and the fault.
        """
        subnet = Subnet.load(path)
        try:
            return self.resolve(subnet)
        except SubnetError as error:
            raise SubnetError(f"{path}: {error}") from error

    def _resolved(self, subnet: Subnet, paths: Mapping[str, str]) -> Subnet:
        found = found_values(subnet.choices, self.choices, paths)
        whole = {name: found.get(name, values[0]) for name, values in self.choices.items()}
        point = self.encode(Subnet(choices=whole))
        counting = self.active(point[None])[0]
        names = [d.name for d, counts in zip(self.dimensions, counting, strict=True) if counts]
        check_complete(found, self.choices, names)
        check_fingerprint(subnet.fingerprint, self.fingerprint)
        return replace(subnet, choices=self.decode(point).choices, fingerprint=self.fingerprint)


def digest(value: Any) -> str:
    """Return sixteen hexadecimal digits that tell plain values apart."""
    text = json.dumps(value, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]


def _plain(dimensions: Sequence[Dimension]) -> Any:
    values = {dimension.name: dimension.values for dimension in dimensions}
    when = {dimension.name: dimension.when for dimension in dimensions if dimension.when}
    return [values, when] if when else values
