"""Where a configuration says something, and making the calls that it spells out."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from razorlite.core._config_kinds import title
from razorlite.core._config_load import Config, LocatedConfigError, join_path, split_path
from razorlite.core.errors import ConfigError

Thunk = Callable[[], Any]
_TRACE = " (RAZORLITE_TRACEBACK=1 shows where)"


@dataclasses.dataclass(frozen=True)
class Place:
    """A path into a configuration."""

    config: Config
    key: tuple[str, ...] = ()

    def __truediv__(self, part: str | int) -> "Place":
        return Place(self.config, (*self.key, str(part)))

    def at(self, path: str) -> "Place":
        """Return the place of a dotted path within this one."""
        return Place(self.config, (*self.key, *split_path(path)))

    def __str__(self) -> str:
        source, path = self.config.where(self.key), join_path(self.key)
        return source if not path or source == f"--set {path}" else f"{source}: {path}"


def nothing() -> None:
    """Stand in for the thunk of a wrong value, which is noted already."""
    raise LocatedConfigError("")


def lines_of(error: LocatedConfigError) -> list[str]:
    return [line for line in str(error).split("\n") if line]


def build_all(thunks: Mapping[Any, Thunk]) -> dict[Any, Any]:
    """Call all thunks; raise the complaints of all that fail."""
    values: dict[Any, Any] = {}
    faults: list[str] | None = None
    for key, thunk in thunks.items():
        try:
            values[key] = thunk()
        except LocatedConfigError as error:
            faults = [*(faults or []), *lines_of(error)]
    if faults is not None:
        raise LocatedConfigError("\n".join(faults))
    return values


def call(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    thunks: Mapping[str, Thunk],
    kwargs: Mapping[str, Any],
    place: Place,
) -> Any:
    """Build the arguments and make the call; its own complaints get the block's place in front."""
    built = build_all(thunks)
    try:
        return target(*args, **{**built, **kwargs})
    except LocatedConfigError:
        raise
    except ConfigError as error:
        raise _located(place.at(error.key), target, str(error)) from error
    except ValueError as error:
        raise _located(place, target, str(error)) from error
    except (TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        # of constructors that do not check what they are given: torch's, timm's, the user's own
        raise _located(place, target, f"{type(error).__name__}: {error}{_TRACE}") from error


def _located(place: Place, target: Any, reason: str) -> LocatedConfigError:
    name = title(target)
    names_itself = reason.startswith((name, f"{name.strip()}."))
    text = f"{'' if names_itself else name}{' '.join(reason.split())[:500]}"
    return LocatedConfigError(f"{place}: {text}")
