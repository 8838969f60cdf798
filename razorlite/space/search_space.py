"""All that may be chosen in a model, and the model to set by it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from razorlite.core.errors import CheckpointError
from razorlite.space._collecting import collect
from razorlite.space._plain_state import owned_names, plain_state
from razorlite.space._published import check_channels
from razorlite.space.choice_space import ChoiceSpace, digest
from razorlite.space.dimension import Value
from razorlite.space.mutable import Mutable, active_modules, mutables
from razorlite.space.recalibration import kept_statistics
from razorlite.space.subnet import Subnet


class SearchSpace(ChoiceSpace):
    """The dimensions of one supernet: those that its mutables follow.

    A mutable inside another counts where the outer one is set to what it is a part of; the
    dimensions say so by their conditions.

    Args:
        model: a model with `Mutable`s, as `Mutator.prepare` leaves it; kept, not copied.

    Attributes:
        model: the supernet.
        mutables: module path to mutable, outer ones first.
        fingerprint: made from the mutables, and the shapes of their weights.

    Raises:
        SubnetError: mutables give one dimension different values.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.mutables = mutables(model)
        fingerprint = digest([mutable.identity() for mutable in self.mutables.values()])
        super().__init__(collect(self.mutables), fingerprint=fingerprint)

    @property
    def selected(self) -> Subnet:
        """Return the point that the supernet is set to."""
        found: dict[str, Value] = {}
        for mutable in self.mutables.values():
            for name, value in mutable.values.items():
                found.setdefault(name, value)
        return self.decode(self.encode(Subnet(choices=found)))

    def select(self, subnet: Subnet) -> None:
        """Set the supernet to a point; takes time in proportion to the number of mutables.

        Raises:
            SubnetError: it is no point of this space; the supernet is as before.
        """
        values = self._fitting(subnet).choices
        for mutable in self.mutables.values():
            mutable.set(values)

    @contextmanager
    def kept_path(self) -> Iterator[None]:
        """Leave the supernet set to the point of before the block, and its norms' statistics."""
        before = {mutable: mutable.values for mutable in self.mutables.values()}
        with kept_statistics(self.model):
            try:
                yield
            finally:
                for mutable, values in before.items():
                    mutable.set(values)

    def resolve(self, subnet: Subnet) -> Subnet:
        """Return `subnet` in its canonical form, keyed by the dimensions' names, all checked.

        Module paths are known, too. Dimensions that do not count may be left out.

        Raises:
            SubnetError: it is no point of this space; one line names the key, what was
                expected, what came, and a near name.
        """
        check_channels(subnet.origin, self.model)
        follows = {path: mutable.dimensions for path, mutable in self.mutables.items()}
        paths = {path: found[0].name for path, found in follows.items() if len(found) == 1}
        return self._resolved(subnet, paths)

    def export(self, subnet: Subnet) -> nn.Module:
        """Return a copy of the model with plain modules where the mutables are.

        Weights are copied, the supernet stays as it is. Forward gives exactly what the supernet
        gives when set to `subnet`, and the state dict has the names of a plain model.

        Raises:
            SubnetError: it is no point of this space.
        """
        values = self._fitting(subnet).choices
        # Where the copy meets a mutable, it finds the plain module as its copy; inner ones first.
        memo: dict[int, Any] = {}
        for mutable in dict.fromkeys(reversed(self._all_paths().values())):
            memo[id(mutable)] = copy.deepcopy(mutable.export(values), memo)
        return copy.deepcopy(self.model, memo)

    def chosen_weights(self, state: Mapping[str, Tensor], subnet: Subnet) -> dict[str, Tensor]:
        """Return a supernet's state dict as that of the exported subnet: plain names, one path.

        Raises:
            SubnetError: the subnet is no point of this space.
            CheckpointError: the state dict is not of a supernet of this space.
        """
        values = self._fitting(subnet).choices
        paths, whole = self._all_paths(), self.model.state_dict()
        if not owned_names(whole, paths):  # choices without weights, such as of an image's size
            return dict(state)
        if not owned_names(state, paths) & whole.keys():
            raise CheckpointError(
                "the checkpoint holds no choices; it is not of a supernet: load it as it is"
            )
        return plain_state(state, paths, values)

    def additions(self) -> dict[str, Tensor]:
        """Return the supernet's weights by name that the plain model does not have."""
        return {
            f"{path}.{name}": value
            for path, mutable in self._all_paths().items()
            for name, value in mutable.additions().items()
        }

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
        known = subnet.fingerprint == self.fingerprint and not self._conditions
        known = known and subnet.choices.keys() == self._index.keys()
        if known and all(self._has(name, value) for name, value in subnet.choices.items()):
            return subnet
        return self.resolve(subnet)

    def _has(self, name: str, value: Value) -> bool:
        """Return whether a value is a dimension's own, of the same type."""
        index = self._index[name].get(value)
        return index is not None and type(self.choices[name][index]) is type(value)

    def _all_paths(self) -> dict[str, Mutable]:
        """Return all mutables by every path that leads to them, outer ones first."""
        every = self.model.named_modules(remove_duplicate=False)
        return {path: module for path, module in every if isinstance(module, Mutable)}
