"""A supernet run at points of its space, watched module by module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from razorlite.core.errors import ConfigError
from razorlite.cost.count import counter, evaluating, moved, on_meta, plain_attention
from razorlite.cost.factored import Points
from razorlite.structures import Inputs

Form = tuple[Any, ...]


class Varies(Protocol):
    """A dimension: `razorlite.space.Dimension`."""

    @property
    def name(self) -> str: ...

    @property
    def values(self) -> Sequence[Any]: ...

    @property
    def when(self) -> Mapping[str, Sequence[Any]]: ...


class Supernet(Points, Protocol):
    """What tabulating needs: `razorlite.space.SearchSpace` has it.

    Attributes:
        model: the supernet.
        mutables: module path to the modules whose form follows dimensions.
        dimensions: of the space.
        fingerprint: names the space in files.
    """

    model: nn.Module
    mutables: Any
    fingerprint: str

    @property
    def dimensions(self) -> Sequence[Varies]: ...

    @property
    def selected(self) -> Any: ...

    def select(self, subnet: Any) -> None:
        """Set the supernet to a point."""

    def export(self, subnet: Any) -> nn.Module:
        """Return a plain copy of the model at a point."""

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """Return (N, D) points with what a condition switches off set to one value."""


@dataclass
class Observation:
    """One run.

    Attributes:
        amounts: path of each module that ran to what it took itself, without the modules that it
            called; "" is the model. Multiply-accumulates, or milliseconds.
        forms: path of each mutable that ran to the shapes that went in and came out, call by call.
    """

    amounts: dict[str, float] = field(default_factory=dict)
    forms: dict[str, list[Form]] = field(default_factory=dict)


class Clock:
    """Tells each module's own share of what a meter counts, while hooks say which one runs."""

    def __init__(self, meter: Callable[[], float]) -> None:
        self.meter = meter
        self.observation = Observation()
        self._running: list[tuple[float, float]] = []  # meter at the start, and what others took

    def enter(self) -> None:
        """Begin a call."""
        self._running.append((self.meter(), 0.0))

    def leave(self, path: str) -> None:
        """End the innermost call, which is of the module at a path."""
        now = self.meter()
        start, others = self._running.pop()
        amounts = self.observation.amounts
        amounts[path] = amounts.get(path, 0) + now - start - others
        if self._running:
            before, inner = self._running.pop()
            self._running.append((before, inner + now - start))


@contextmanager
def watched(
    modules: Mapping[str, nn.Module], clock: Clock, forms_of: Collection[str] = ()
) -> Iterator[None]:
    """Let a clock see each call of modules within the block.

    Args:
        modules: by path.
        clock: its observation gets what each module took without the others.
        forms_of: paths of those whose shapes are noted.
    """

    def begin(*_: object) -> None:
        clock.enter()

    def end(path: str) -> Callable[..., None]:
        def note(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            clock.leave(path)
            if path in forms_of:
                form = (_shapes((args, kwargs)), _shapes(out))
                clock.observation.forms.setdefault(path, []).append(form)

        return note

    with ExitStack() as stack:
        for path, module in modules.items():
            hooks = (
                module.register_forward_pre_hook(begin),
                module.register_forward_hook(end(path), with_kwargs=True),
            )
            for hook in hooks:
                stack.callback(hook.remove)
        yield


def _shapes(values: Any) -> Form:
    return tuple(tuple(x.shape) if isinstance(x, Tensor) else repr(x) for x in tree_leaves(values))


class CountedRuns:
    """Multiply-accumulates of a supernet by module, at any point, each point run once.

    Runs on shapes alone; where the model's operations need values, on zeros.

    Args:
        space: the supernet; set to other points by `at`.
        inputs: of the model, one sample.
    """

    def __init__(self, space: Supernet, inputs: Inputs) -> None:
        self.space, self.inputs = space, inputs
        self._known: dict[bytes, Observation] = {}
        self._on_meta = True

    def __iter__(self) -> Iterator[tuple[np.ndarray, Observation]]:
        """Yield each point that was run, and what was seen."""
        for key, observation in self._known.items():
            yield np.frombuffer(key, dtype=np.int64), observation

    def at(self, point: np.ndarray) -> Observation:
        """Return what is seen at a (D,) canonical point.

        Raises:
            ConfigError: the model fails there.
        """
        key = point.astype(np.int64).tobytes()
        if key not in self._known:
            self.space.select(self.space.decode(point))
            self._known[key] = self._observed(point)
        return self._known[key]

    def _observed(self, point: np.ndarray) -> Observation:
        model, failed = self.space.model, None
        with evaluating(model), plain_attention():
            if self._on_meta:
                try:
                    with on_meta(model):
                        return self._run(torch.device("meta"))
                except Exception as error:  # whatever a forward does that wants values
                    failed = error
            try:
                first = next(model.parameters(), torch.empty(0))
                observation = self._run(first.device)
                self._on_meta = False
                return observation
            except Exception as error:
                raise _cannot_run(self.space, point, failed, error) from error

    def _run(self, device: torch.device) -> Observation:
        with torch.no_grad(), counter() as flops:
            clock = Clock(lambda: _macs(flops))
            model = self.space.model
            with watched(dict(model.named_modules()), clock, forms_of=self.space.mutables):
                model(moved(self.inputs, device))
        return clock.observation


def _macs(flops: FlopCounterMode) -> int:
    return flops.get_total_flops() // 2


def _cannot_run(
    space: Supernet, point: np.ndarray, on_shapes: Exception | None, on_zeros: Exception
) -> ConfigError:
    pairs = zip(space.dimensions, point, strict=True)
    values = ", ".join(f"{d.name}={d.values[i]}" for d, i in list(pairs)[:4])
    also = "" if on_shapes is None else f", and on shapes alone (meta device) as {_line(on_shapes)}"
    return ConfigError(
        f"cannot count what {type(space.model).__name__} costs: its forward fails on zeros at "
        f"{values}{', …' if len(point) > 4 else ''} as {_line(on_zeros)}{also}; give a `shape` "
        f"that it takes, or a cost model of your own"
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
