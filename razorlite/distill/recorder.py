"""Recording what modules of a model compute, by forward hooks that always come off again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion

_SPELLING = re.compile(r"(?P<module>[^:\[\]]*)(?P<side>:input)?(\[(?P<index>\d+)\])?")


@dataclass(frozen=True)
class Tap:
    """Where to record: `module`, `module:input`, `module[2]` or `module:input[2]`.

    Attributes:
        module: name as in `model.named_modules()`; empty for the whole model.
        side: "output" or "input".
        index: which of the recorded maps, counted over calls and tuple items; None for all.
    """

    module: str
    side: str = "output"
    index: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Tap":
        """Read a name.

        Raises:
            ConfigError: the name has another form.
        """
        found = _SPELLING.fullmatch(name)
        if found is None:
            raise ConfigError(
                f"recorded name {name!r}: wanted 'module', 'module:input' or 'module[index]'"
            )
        index = found["index"]
        side = "input" if found["side"] else "output"
        return cls(found["module"], side, None if index is None else int(index))


@dataclass(frozen=True)
class _Record:
    tensor: Tensor
    version: int


class Recorder:
    """Record the outputs (or inputs) of named modules while the context is open.

    A module that is called several times, such as a head's convolution that runs on each pyramid
    level, has one entry per call, in call order. A tuple, list or mapping of maps is laid out flat.
    Tensors are kept as they are, with their graph; leaving the context removes the hooks and
    lets go of every tensor, also when the forward raised.

        with Recorder(model, ["neck", "bbox_head.cls_convs.3"]) as recorder:
            model(images)
            maps = recorder["neck"]

    Args:
        model: any module; it is not changed.
        names: names in the form of `Tap`.

    Raises:
        ConfigError: the model has no such module; the message suggests the nearest name.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        self.taps = {name: Tap.parse(name) for name in names}
        self._modules = {name: _find(model, name, tap) for name, tap in self.taps.items()}
        self._model_name = type(model).__name__
        self._records: dict[str, list[_Record]] = {name: [] for name in self.taps}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Recorder":
        assert not self._handles, "a recorder is opened once at a time"
        self._handles = [self._attach(name, module) for name, module in self._modules.items()]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.clear()

    def __getitem__(self, name: str) -> list[Tensor]:
        """Return the tensors recorded under a name since the last `clear`, in call order.

        Raises:
            ConfigError: the module did not run, ran too few times for the index, or what it
                gave was overwritten in place afterwards.
        """
        records = self._records[name]
        if not records:
            raise ConfigError(
                f"{name!r} of {self._model_name} recorded nothing: the module did not run in the "
                f"forward pass, or gave no tensor; name a module that runs on every batch"
            )
        _check_untouched(name, records)
        return [record.tensor for record in self._chosen(name, records)]

    def clear(self) -> None:
        """Forget the recorded tensors, keep the hooks."""
        for records in self._records.values():
            records.clear()

    def _chosen(self, name: str, records: list[_Record]) -> list[_Record]:
        index = self.taps[name].index
        if index is None:
            return records
        if index >= len(records):
            raise ConfigError(
                f"{name!r} of {self._model_name}: there are {len(records)} maps; "
                f"the index must be 0 to {len(records) - 1}"
            )
        return [records[index]]

    def _attach(self, name: str, module: nn.Module) -> RemovableHandle:
        records = self._records[name]

        def keep_output(module: nn.Module, inputs: Any, output: Any) -> None:
            records.extend(_Record(t, t._version) for t in flat_tensors(output))

        def keep_input(module: nn.Module, inputs: Any) -> None:
            records.extend(_Record(t, t._version) for t in flat_tensors(inputs))

        if self.taps[name].side == "input":
            return module.register_forward_pre_hook(keep_input)
        return module.register_forward_hook(keep_output)


def flat_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and mappings, in order; nothing else."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in flat_tensors(item)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [tensor for item in value for tensor in flat_tensors(item)]
    return []


def _find(model: nn.Module, name: str, tap: Tap) -> nn.Module:
    known = dict(model.named_modules())
    if tap.module in known:
        return known[tap.module]
    raise ConfigError(
        f"{type(model).__name__} has no module {tap.module!r} to record"
        f"{suggestion(tap.module, known) or _children(model, known, tap.module)}"
    )


def _children(model: nn.Module, known: Mapping[str, nn.Module], wanted: str) -> str:
    """Name the parts at the deepest level where the wanted name still fits."""
    parent = wanted
    while parent not in known:
        parent = parent.rpartition(".")[0]
    parts = [name for name, _ in known[parent].named_children()]
    return f"; {parent or 'it'} has {', '.join(parts[:12]) or 'no parts'}"


def _check_untouched(name: str, records: Sequence[_Record]) -> None:
    if any(record.tensor._version != record.version for record in records):
        raise ConfigError(
            f"what {name!r} recorded was overwritten in place by a later layer (in-place ReLU?); "
            f"record that later layer, or build it with inplace=False"
        )
