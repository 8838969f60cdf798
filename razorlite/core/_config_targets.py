"""What a block of a configuration calls: a class or function by its name."""

from collections.abc import Callable
from typing import Any

from razorlite.core._config_build import Place, Thunk, nothing
from razorlite.core._config_kinds import fits, is_default, offer, surely_fits
from razorlite.core._config_signature import show
from razorlite.core.errors import ConfigError
from razorlite.core.registry import is_path, lookup, names


class Targets:
    """Finds what blocks call, and collects faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def _note(self, place: Place, message: str) -> Thunk:
        self.faults.append(f"{place}: {message}")
        return nothing

    def _wrong(self, place: Place, expected: str, value: Any, hint: str = "") -> Thunk:
        return self._note(place, f"wants {expected}, got {show(value)}{hint}")

    def _target(
        self, block: dict[str, Any], expected: tuple[type, ...], place: Place
    ) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
        """Return what a block calls, None if that is wrong, and the arguments.

        `type` may be left out where a dataclass or one registered class is expected.
        """
        default = expected[0] if len(expected) == 1 else None
        if default is not None and is_default(default, block):
            return default, block
        kwargs = {key: value for key, value in block.items() if key != "type"}
        name = block.get("type")
        if isinstance(name, str):
            return self._lookup(name, expected, place / "type"), kwargs
        if name is None:
            self._note(place, f"needs 'type'{offer(expected)}")
        else:
            self._wrong(place / "type", "a registered name", name)
        return None, kwargs

    def _lookup(
        self, name: str, expected: tuple[type, ...], place: Place
    ) -> Callable[..., Any] | None:
        if self._is_foreign(name, place):
            return None
        try:
            target = lookup(name)
        except ConfigError as error:
            text = str(error)
            hint = offer(expected) if " (all: " in text and "did you mean" not in text else ""
            self._note(place, text.replace(" (all: ", f"{hint} (all: ") if hint else text)
            return None
        if is_path(name) and not surely_fits(target, expected):
            self._note(
                place,
                f"{name!r} is not surely a {_kinds(expected)}: a dotted path is that of such a "
                f"class, or of a function whose return annotation says so; else register it",
            )
            return None
        if not fits(target, expected):
            self._note(place, f"wants a {_kinds(expected)}, but {name!r} is none{offer(expected)}")
            return None
        return target

    def _is_foreign(self, name: str, place: Place) -> bool:
        """Return whether a name may come from a module that may not be imported; remark on it."""
        config = place.config
        if config.imported or name in names():
            return False
        foreign = is_path(name) or bool(config.tree.get("custom_imports"))
        if foreign:
            config.unchecked.append(f"{place}: {name!r} is not checked, as nothing is imported")
        return foreign


def _kinds(expected: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in expected) or "known kind of thing"
