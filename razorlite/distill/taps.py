"""Names of what is recorded in a model, and what was."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion

_SPELLING = re.compile(
    r"(?P<name>[^:\[\]@()]*)(?P<method>\(\))?(@(?P<call>\d+))?(?P<side>:input)?(\[(?P<index>\d+)\])?"
)


@dataclass(frozen=True)
class Tap:
    """What to record: `module`, `module:input`, `module.method()`, each with `@call` or `[index]`.

    `neck`, `bbox_head:input`, `bbox_head.assign()`; `bbox_head.conv_cls@1`, what its second call
    gave; `neck[2]`, the third of its maps; `backbone.layer*`, of all modules whose name fits.

    Attributes:
        module: name as in `model.named_modules()`, or a pattern with `*` and `?`; empty for the
            whole model.
        side: "output" or "input".
        index: which of the recorded tensors, counted over calls and tuple items; None for all.
        method: method of the module that is recorded in the place of its call.
        call: which call, from 0; None for all.
    """

    module: str
    side: str = "output"
    index: int | None = None
    method: str = ""
    call: int | None = None

    @classmethod
    def parse(cls, name: str) -> Tap:
        """Read a name.

        Raises:
            ConfigError: the name has another form.
        """
        found = _SPELLING.fullmatch(name)
        if found is None:
            raise ConfigError(
                f"recorded name {name!r}: expected 'module', 'module:input' or 'module.method()', "
                f"'@call' and '[index]' behind it"
            )
        module, method = found["name"], ""
        if found["method"]:
            module, _, method = module.rpartition(".")
        call, index = (
            None if found[part] is None else int(found[part]) for part in ("call", "index")
        )
        return cls(module, "input" if found["side"] else "output", index, method, call)

    def find(self, model: nn.Module, whose: str = "") -> dict[str, nn.Module]:
        """Return the modules that are meant, by name.

        Args:
            model: where to look.
            whose: what an error calls it; its class by default.

        Raises:
            ConfigError: there is none, or it has no such method; suggests near names.
        """
        known = dict(model.named_modules())
        found = {n: m for n, m in known.items() if n == self.module} or {
            n: m for n, m in known.items() if fnmatchcase(n, self.module)
        }
        if not found:
            whose = whose or type(model).__name__
            raise ConfigError(_no_module(whose, known, self.module))
        for name, module in found.items():
            if self.method and not callable(getattr(module, self.method, None)):
                raise ConfigError(_no_method(module, name, self.method))
        return found


@dataclass(frozen=True)
class Call:
    """What one call of a module was given, or gave.

    Attributes:
        value: as the module returned it; of inputs, the tuple of positional arguments, with a
            dict of the others behind them, if there are any.
        versions: how often each tensor in it had been changed in place.
    """

    value: Any
    versions: tuple[int, ...]

    @classmethod
    def of(cls, value: Any) -> Call:
        """Note a value."""
        return cls(value, tuple(tensor._version for tensor in flat_tensors(value)))

    def changed(self, change: Callable[[Tensor], Tensor]) -> Call:
        """Return the call with each tensor changed."""
        return Call.of(_changed(self.value, change))

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors in the value, in order."""
        return flat_tensors(self.value)

    @property
    def is_untouched(self) -> bool:
        """Whether no tensor was changed in place since."""
        return all(t._version == v for t, v in zip(self.tensors, self.versions, strict=True))


class Recorded:
    """What was recorded of a model, by the names of its taps.

    Args:
        model: whose modules were recorded.
        taps: what each name means.
        calls: of each tap, and each module that it means, the calls in order.
        whose: what errors call the model; its class by default.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, Tap],
        calls: Mapping[str, Sequence[list[Call]]],
        whose: str = "",
    ) -> None:
        self._model, self.taps, self._calls = model, taps, calls
        self._whose = whose or type(model).__name__

    def __getitem__(self, name: str) -> list[Tensor]:
        """Return the tensors recorded under a name, in call order, tuples and the like laid flat.

        Raises:
            ConfigError: the module did not run, ran too few times for the index, or what it
                gave was overwritten in place afterwards.
        """
        tensors = [tensor for call in self._chosen(name) for tensor in call.tensors]
        if not tensors:
            raise ConfigError(f"{self._nothing(name)}, or gave no tensor; {_ADVICE}")
        index = self.taps[name].index
        return tensors if index is None else [self._one(name, tensors, index, "maps", "index")]

    def calls(self, name: str) -> list[Any]:
        """Return what each call gave, as it was returned, in call order.

        Raises:
            ConfigError: as for single tensors.
        """
        chosen = self._chosen(name)
        return [call.value for call in chosen] if self.taps[name].index is None else self[name]

    def value(self, name: str) -> Any:
        """Return what the only call gave, as it was returned.

        Raises:
            ConfigError: as for single tensors, or there were several calls.
        """
        found = self.calls(name)
        if len(found) == 1:
            return found[0]
        raise ConfigError(
            f"{name!r} of {self._whose} ran {len(found)} times; name one call, '{name}@0' to "
            f"'{name}@{len(found) - 1}', or read all by calls()"
        )

    def kept(self, change: Callable[[Tensor], Tensor] | None = None) -> Recorded:
        """Return what is recorded now, to be kept.

        Args:
            change: what to do with each tensor; None leaves all as it is.

        Raises:
            ConfigError: something was overwritten in place.
        """
        kept = {}
        for name, modules in self._calls.items():
            for calls in modules:
                _check_untouched(name, calls)
            kept[name] = [
                [call.changed(change) if change else call for call in calls] for calls in modules
            ]
        return Recorded(self._model, self.taps, kept, self._whose)

    def _chosen(self, name: str) -> list[Call]:
        if name not in self.taps:
            raise ConfigError(
                f"{name!r} of {self._whose} is not recorded; add it to the term's taps"
                f"{suggestion(name, self.taps)}"
            )
        calls = [call for module in self._calls[name] for call in module]
        if not calls:
            raise ConfigError(f"{self._nothing(name)}; {self._instead(self.taps[name])}")
        number = self.taps[name].call
        if number is not None:
            calls = [self._one(name, calls, number, "calls", "call")]
        _check_untouched(name, calls)
        return calls

    def _one(self, name: str, items: Sequence[Any], number: int, what: str, which: str) -> Any:
        if number < len(items):
            return items[number]
        raise ConfigError(
            f"{name!r} of {self._whose}: there are {len(items)} {what}; the {which} must be 0 to "
            f"{len(items) - 1}"
        )

    def _nothing(self, name: str) -> str:
        what = "method" if self.taps[name].method else "module"
        ran = f"the {what} did not run in the forward pass"
        return f"{name!r} of {self._whose} recorded nothing: {ran}"

    def _instead(self, tap: Tap) -> str:
        """Say what to record in the place of a module that does not run: its parts, or others."""
        known = dict(self._model.named_modules())
        module = known.get(tap.module)
        if module is None or tap.method:
            return _ADVICE
        parts = [f"{tap.module}.{part}" for part, _ in module.named_children()]
        near = parts or difflib.get_close_matches(tap.module, known.keys() - {tap.module}, n=3)
        return f"{_ADVICE}, such as {', '.join(near[:3])}" if near else _ADVICE


_ADVICE = "name a module that runs on every batch"


def flat_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in _items(value) for tensor in flat_tensors(item)]


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return ()


def _check_untouched(name: str, calls: Sequence[Call]) -> None:
    if not all(call.is_untouched for call in calls):
        raise ConfigError(
            f"what {name!r} recorded was overwritten in place by a later layer (in-place ReLU?); "
            f"record that later layer, or build it with inplace=False"
        )


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a nested value with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, MutableMapping):
        copied = copy.copy(value)
        copied.update({key: _changed(item, change) for key, item in value.items()})
        return copied
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_changed(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_changed(item, change) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.init]
        return replace(value, **{n: _changed(getattr(value, n), change) for n in names})
    return value


def _no_module(whose: str, known: Mapping[str, nn.Module], expected: str) -> str:
    near = suggestion(expected, known) or _children(known, expected)
    return f"{whose} has no module {expected!r} to record{near}"


def _no_method(module: nn.Module, name: str, expected: str) -> str:
    methods = [n for n in dir(type(module)) if n[0] != "_" and callable(getattr(type(module), n))]
    where = f"{name!r} ({type(module).__name__})" if name else type(module).__name__
    return f"{where} has no method {expected!r} to record{suggestion(expected, methods)}"


def _children(known: Mapping[str, nn.Module], expected: str) -> str:
    """Name the parts at the deepest level where the expected name still fits."""
    parent = expected
    while parent not in known:
        parent = parent.rpartition(".")[0]
    parts = [name for name, _ in known[parent].named_children()]
    return f"; {parent or 'it'} has {', '.join(parts[:12]) or 'no parts'}"
