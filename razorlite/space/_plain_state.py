"""From the weights of a supernet to those of one of its subnets."""

from collections.abc import Mapping

from torch import Tensor

from razorlite.core.errors import CheckpointError
from razorlite.space._collecting import around
from razorlite.space.dimension import Values
from razorlite.space.mutable import Mutable

State = dict[str, Tensor]


def plain_state(state: Mapping[str, Tensor], paths: Mapping[str, Mutable], values: Values) -> State:
    """Return the weights that the exported model has, under its names and in its shapes.

    Args:
        state: the supernet's weights by name.
        paths: its mutables by every path that leads to them, outer ones first.
        values: of all dimensions.

    Raises:
        CheckpointError: a weight is not of the supernet; names it.
    """
    parts = _by_owner(state, paths)
    for path, mutable in reversed(list(paths.items())):  # inner ones first
        own = _exported(parts.get(path, {}), path, mutable, values)
        for owner, named in _by_owner(own, paths, inside=path).items():
            parts.setdefault(owner, {}).update(named)
    return parts.get(None, {})


def owned_names(names: Mapping[str, object], paths: Mapping[str, Mutable]) -> set[str]:
    """Return the names of weights that are inside any mutable."""
    return {name for name in names if any(owner in paths for owner in around(name))}


def _by_owner(
    state: Mapping[str, Tensor], paths: Mapping[str, Mutable], inside: str | None = None
) -> dict[str | None, State]:
    """Return weights by the path of the innermost mutable that they are in, None for none.

    Args:
        state: weights by name.
        paths: of the mutables.
        inside: look only around the mutable of this path.
    """
    parts: dict[str | None, State] = {}
    for name, value in state.items():
        owners = around(name if inside is None else inside)
        parts.setdefault(next((o for o in owners if o in paths), None), {})[name] = value
    return parts


def _exported(state: State, path: str, mutable: Mutable, values: Values) -> State:
    """Return a mutable's weights as those of its exported module, with whole names."""
    start = f"{path}." if path else ""
    own = {name.removeprefix(start): value for name, value in state.items()}
    try:
        plain = mutable.own_state(own, values)
    except CheckpointError as error:
        raise CheckpointError(f"{start}{error}") from error
    return {f"{start}{name}": value for name, value in plain.items()}
