"""All that may be chosen in a model: names as plain data, and the model to set by them."""

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, SubnetError
from razorlite.space._reading import check_fingerprint, read_choices
from razorlite.space.mutable import Mutable, active_modules, mutables
from razorlite.space.recalibration import kept_statistics
from razorlite.space.subnet import Subnet


class ChoiceSpace:
    """Names to choices, without a model.

    A point is a `Subnet`, or a row of M indices into the choices' names; batches of points are
    integer arrays (N, M).

    Args:
        choices: names of the choices of each place.
        fingerprint: names the space in files; made from the choices by default.

    Attributes:
        choices: as given, with tuples.
        counts: (M,) how many choices each place has.
    """

    def __init__(self, choices: Mapping[str, Sequence[str]], *, fingerprint: str = "") -> None:
        self.choices = {place: tuple(names) for place, names in choices.items()}
        self.counts = np.array([len(names) for names in self.choices.values()], dtype=np.int64)
        self.fingerprint = fingerprint or _hash(self.choices)
        self._index = [{n: i for i, n in enumerate(names)} for names in self.choices.values()]

    @property
    def size(self) -> int:
        """Return the number of points."""
        return math.prod(len(names) for names in self.choices.values())

    def random(self, rng: np.random.Generator) -> Subnet:
        """Return a point drawn uniformly."""
        return self.decode(self.random_indices(rng, 1)[0])

    def random_indices(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return (count, M) int64 points drawn uniformly."""
        return rng.integers(0, self.counts, (count, len(self.counts)))

    def all_indices(self) -> np.ndarray:
        """Return (size, M) int64, every point, the last place varying fastest."""
        return np.stack(np.unravel_index(np.arange(self.size), self.counts), axis=1)

    def encode(self, subnet: Subnet) -> np.ndarray:
        """Return a point of this space, keyed by space id, as (M,) int64 indices."""
        places = zip(self.choices, self._index, strict=True)
        return np.array([index[subnet.choices[place]] for place, index in places], dtype=np.int64)

    def decode(self, indices: np.ndarray | Sequence[int]) -> Subnet:
        """Return the point of (M,) indices."""
        places = zip(self.choices.items(), indices, strict=True)
        names = {place: options[int(i)] for (place, options), i in places}
        return Subnet(choices=names, fingerprint=self.fingerprint)

    def resolve(self, subnet: Subnet) -> Subnet:
        """Return `subnet` keyed by space id, all of its choices checked.

        Raises:
            SubnetError: it is no point of this space; one line names the key, what was wanted, what
                came, and a near name.
        """
        return self._keyed(subnet, {})

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

    def _keyed(self, subnet: Subnet, paths: Mapping[str, str]) -> Subnet:
        choices = read_choices(subnet.choices, self.choices, paths)
        check_fingerprint(subnet.fingerprint, self.fingerprint)
        return replace(subnet, choices=choices, fingerprint=self.fingerprint)


class SearchSpace(ChoiceSpace):
    """The choices of one supernet.

    Args:
        model: a model with `Mutable`s, as `Mutator.prepare` leaves it; kept, not copied.

    Attributes:
        model: the supernet.
        mutables: module path to mutable.
        fingerprint: made from places, their arguments, and the shapes of their choices' weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.mutables = mutables(model)
        self._places: dict[str, list[Mutable]] = {}
        for mutable in self.mutables.values():
            self._places.setdefault(mutable.space_id, []).append(mutable)
        choices = {place: _common_choices(place, group) for place, group in self._places.items()}
        super().__init__(choices, fingerprint=_fingerprint(self.mutables.values()))

    @property
    def selected(self) -> Subnet:
        """Return the point that the supernet is set to."""
        names = {place: group[0].selected for place, group in self._places.items()}
        return Subnet(choices=names, fingerprint=self.fingerprint)

    def select(self, subnet: Subnet) -> None:
        """Set the supernet to a point; takes time in proportion to the number of places.

        Raises:
            SubnetError: it is no point of this space; the supernet is as before.
        """
        choices = self._fitting(subnet).choices
        for place, group in self._places.items():
            for mutable in group:
                mutable.selected = choices[place]

    @contextmanager
    def kept_path(self) -> Iterator[None]:
        """Leave the supernet set to the point of before the block, and its norms' statistics."""
        before = {mutable: mutable.selected for mutable in self.mutables.values()}
        with kept_statistics(self.model):
            try:
                yield
            finally:
                for mutable, name in before.items():
                    mutable.selected = name

    def resolve(self, subnet: Subnet) -> Subnet:
        """Return `subnet` keyed by space id, all of its choices checked; paths are known, too.

        Raises:
            SubnetError: it is no point of this space; one line names the key, what was wanted, what
                came, and a near name.
        """
        paths = {path: mutable.space_id for path, mutable in self.mutables.items()}
        return self._keyed(subnet, paths)

    def export(self, subnet: Subnet) -> nn.Module:
        """Return a copy of the model with the chosen operations in the mutables' places.

        Weights are copied, the supernet stays as it is. Forward gives exactly what the supernet
        gives when set to `subnet`, and the state dict has the names of a plain model.

        Raises:
            SubnetError: it is no point of this space.
        """
        choices = self._fitting(subnet).choices
        # Where the copy meets a mutable, it finds the chosen operation as its copy.
        memo: dict[int, Any] = {}
        for mutable in self.mutables.values():
            chosen = mutable.choices[choices[mutable.space_id]]
            memo[id(mutable)] = copy.deepcopy(chosen, memo)
        return copy.deepcopy(self.model, memo)

    def chosen_weights(self, state: Mapping[str, Tensor], subnet: Subnet) -> dict[str, Tensor]:
        """Return a supernet's state dict as that of the exported subnet: plain names, one path.

        Raises:
            SubnetError: the subnet is no point of this space.
            CheckpointError: the state dict is not of a supernet of this space.
        """
        choices = self._fitting(subnet).choices
        result = {}
        for name, value in state.items():
            plain = self._plain_name(name, choices)
            if plain is not None:
                result[plain] = value
        if not any(".choices." in name or name.startswith("choices.") for name in state):
            raise CheckpointError(
                "the checkpoint holds no choices; it is not of a supernet: load it as it is"
            )
        return result

    def active_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the path that is set, each once."""
        seen: set[nn.Parameter] = set()
        for module in active_modules(self.model):
            for parameter in module.parameters(recurse=False):
                if parameter not in seen:
                    seen.add(parameter)
                    yield parameter

    def _fitting(self, subnet: Subnet) -> Subnet:
        """Skip the reading of keys where the subnet came from this space."""
        known = subnet.fingerprint == self.fingerprint
        known = known and subnet.choices.keys() == self.choices.keys()
        if known and all(name in self.choices[key] for key, name in subnet.choices.items()):
            return subnet
        return self.resolve(subnet)

    def _plain_name(self, name: str, choices: Mapping[str, str]) -> str | None:
        """Return a weight's name in the exported model; None if it is not on the path."""
        for path, mutable in self.mutables.items():
            prefix = f"{path}.choices." if path else "choices."
            if name.startswith(prefix):
                choice, _, rest = name[len(prefix) :].partition(".")
                if choice != choices[mutable.space_id]:
                    return None
                return f"{path}.{rest}" if path else rest
        return name


def _common_choices(place: str, group: Sequence[Mutable]) -> tuple[str, ...]:
    options = {tuple(mutable.choices) for mutable in group}
    if len(options) > 1:
        raise SubnetError(
            f"the places named {place!r} have different choices: {sorted(options)}; give them "
            f"different space ids or one group"
        )
    return options.pop()


def _fingerprint(places: Iterable[Mutable]) -> str:
    return _hash(
        [
            [place.space_id, place.kwargs, {n: _shapes(op) for n, op in place.choices.items()}]
            for place in places
        ]
    )


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]
