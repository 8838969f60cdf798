"""Finding the keys and values of a subnet file among the dimensions of a space."""

from collections.abc import Mapping, Sequence

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.space._reading import short, shown
from razorlite.space.dimension import Value, Values, is_value

Options = Mapping[str, tuple[Value, ...]]


def found_values(given: Values, options: Options, paths: Mapping[str, str]) -> dict[str, Value]:
    """Return the values that a subnet gives, by the names of a space's dimensions.

    Args:
        given: by name of a dimension or module path.
        options: values of each dimension.
        paths: module path of each mutable to the dimension that it follows alone.

    Raises:
        SubnetError: a key or value is not of the space, or two keys contradict each other.
    """
    found: dict[str, Value] = {}
    for key, value in given.items():
        name = _dimension(key, options, paths)
        if not is_value(value) or value not in options[name]:
            raise SubnetError(
                f"{short(key)} wants one of {_listed(options[name])}, got {shown(value)}"
                f"{_advice(value, options[name])}"
            )
        if found.setdefault(name, value) != value:
            raise SubnetError(
                f"{short(key)} wants {found[name]} as elsewhere in {name}, got {value}"
            )
    return found


def check_complete(found: Values, options: Options, needed: Sequence[str]) -> None:
    """Refuse values that leave out a dimension which counts.

    Raises:
        SubnetError: one is left out; names it.
    """
    for name in needed:
        if name not in found:
            first, *others = options[name]
            more = f" or another of {_listed(options[name])}" if others else ""
            raise SubnetError(
                f"no value for {name}: wants {len(options)} dimensions, got {len(found)}; add "
                f"'{name}: {first}'{more}"
            )


def check_fingerprint(theirs: str, ours: str) -> None:
    """Refuse a subnet of another space.

    Raises:
        SubnetError: both fingerprints are known and differ.
    """
    if theirs not in ("", ours):
        raise SubnetError(
            f"belongs to another search space: wants fingerprint {ours}, got {short(theirs)}; use "
            f"the config it was searched with"
        )


def _dimension(key: str, options: Options, paths: Mapping[str, str]) -> str:
    """Return the dimension that a key means; a path may have more or fewer parts in front."""
    if key in options:
        return key
    named = {name: name for name in options if "." in name} | dict(paths)
    ends = {
        name
        for path, name in named.items()
        if f".{path}".endswith(f".{key}") or f".{key}".endswith(f".{path}")
    }
    if len(ends) == 1:
        return ends.pop()
    known = [*options, *paths]
    what = f", which has {len(options)} ({known[0]} to {list(options)[-1]})" if known else ""
    raise SubnetError(
        f"{short(key)} is no dimension of this search space{what}"
        f"{suggestion(key, known) or '; is the file of another model?'}"
    )


def _advice(value: object, options: Sequence[Value]) -> str:
    """Say how to write an option that is spelt as a text and is a number, or is near in spelling.

    YAML reads 16 as a number, '16' and 5e-1 as texts.
    """
    for option in options:
        if isinstance(option, str) != isinstance(value, str) and _alike(option, value):
            quoted = isinstance(option, str)
            return f"; write {f'{option!r}, in quotes' if quoted else f'{option}, a number'}"
    return suggestion(str(value), options)


def _alike(option: Value, value: object) -> bool:
    """Return whether a text and a number say the same."""
    try:
        return str(option) == str(value) or float(option) == float(str(value))
    except ValueError:
        return False


def _listed(values: Sequence[Value]) -> str:
    return ", ".join(map(str, values))
