"""From the mutables of a model to the dimensions of its search space."""

from collections.abc import Iterator, Mapping, Sequence

from razorlite.core.errors import SubnetError
from razorlite.space.dimension import Dimension, Value
from razorlite.space.mutable import Mutable

When = Mapping[str, tuple[Value, ...]]


def collect(mutables: Mapping[str, Mutable]) -> list[Dimension]:
    """Return the dimensions that mutables follow, each once, in order.

    Args:
        mutables: by module path, outer ones first.

    Raises:
        SubnetError: mutables give one dimension different values.
    """
    found: dict[str, list[Dimension]] = {}
    for path, mutable in mutables.items():
        outer = _outer(path, mutables)
        for dimension in mutable.dimensions:
            when = {**outer, **dimension.when}
            found.setdefault(dimension.name, []).append(
                Dimension(dimension.name, dimension.values, when)
            )
    return _without_needless([_joined(same) for same in found.values()])


def _without_needless(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Return dimensions without conditions that hold at every value of one that always counts."""
    always = {d.name: set(d.values) for d in dimensions if not d.when}
    return [
        Dimension(
            d.name,
            d.values,
            {name: v for name, v in d.when.items() if not set(v) >= always.get(name, {None})},
        )
        for d in dimensions
    ]


def around(path: str) -> Iterator[str]:
    """Yield the paths of the modules around one, the innermost first and the model itself last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _outer(path: str, mutables: Mapping[str, Mutable]) -> When:
    """Return under which values of a mutable around it a module runs; {} if it always does."""
    for start in around(path):
        inside = path[len(start) :].removeprefix(".")
        when = mutables[start].condition(inside) if start in mutables else {}
        if when:  # under which that mutable runs itself, its own dimensions say
            return when
    return {}


def _joined(same: Sequence[Dimension]) -> Dimension:
    """Return the one dimension that mutables mean by one name."""
    first = same[0]
    options = {dimension.values for dimension in same}
    if len(options) > 1:
        listed = ", ".join(sorted(map(str, options)))
        raise SubnetError(
            f"the dimensions named {first.name!r} have different values: {listed}; give "
            f"them different space ids or one group"
        )
    return Dimension(first.name, first.values, _any_of([dimension.when for dimension in same]))


def _any_of(conditions: Sequence[When]) -> When:
    """Return a condition that holds where any of several does; {} if none says just that."""
    first = conditions[0]
    if all(when == first for when in conditions):
        return first
    if len(first) != 1 or any(when.keys() != first.keys() for when in conditions):
        return {}
    (name,) = first
    return {name: tuple(dict.fromkeys(value for when in conditions for value in when[name]))}
