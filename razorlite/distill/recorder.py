"""Recording what modules of a model compute, by hooks that always come off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from torch import nn

from razorlite.distill.taps import Call, Recorded, Tap


class Recorder(Recorded):
    """Record the outputs (or inputs) of named modules while the context is open.

    A module that is called several times, such as a head's convolution that runs on each pyramid
    level, has one entry per call, in call order. Values are kept as they are, tensors with their
    graph; leaving the context removes the hooks and lets go of everything, also when the forward
    raised. A method is recorded by a function that stands before it on the module for the time.

        with Recorder(model, ["neck", "bbox_head.cls_convs.3", "bbox_head.assign()"]) as recorder:
            model.loss(images, targets)
            maps = recorder["neck"]
            assignment = recorder.value("bbox_head.assign()")

    Args:
        model: any module; it is not changed.
        names: names in the form of `Tap`.
        whose: what errors call the model, such as "the teacher FCOS"; its class by default.

    Attributes:
        modules: what each name means, by the modules' names.

    Raises:
        ConfigError: the model has no such module or method; the message suggests the nearest name.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], whose: str = "") -> None:
        taps = {name: Tap.parse(name) for name in names}
        self.modules = {name: tap.find(model, whose) for name, tap in taps.items()}
        calls: dict[str, list[list[Call]]] = {n: [[] for _ in m] for n, m in self.modules.items()}
        super().__init__(model, taps, calls, whose)
        self._hooks: ExitStack | None = None

    def __enter__(self) -> Recorder:
        assert self._hooks is None, "a recorder is opened once at a time"
        with ExitStack() as hooks:
            for name, found in self.modules.items():
                for module, calls in zip(found.values(), self._calls[name], strict=True):
                    hooks.callback(_attach(module, self.taps[name], calls))
            self._hooks = hooks.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._hooks is not None
        self._hooks.close()
        self._hooks = None
        self.clear()

    def clear(self) -> None:
        """Forget what is recorded, keep the hooks."""
        for found in self._calls.values():
            for calls in found:
                calls.clear()


def _attach(module: nn.Module, tap: Tap, calls: list[Call]) -> Callable[[], None]:
    """Let the calls of a module, or of its method, be noted; return what ends that."""

    def note(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> None:
        given = (*args, kwargs) if kwargs else args
        calls.append(Call.of(given if tap.side == "input" else output))

    if tap.method:
        return _before(module, tap.method, note)
    if tap.side == "input":
        hook = module.register_forward_pre_hook(
            lambda _, args, kwargs: note(args, kwargs), with_kwargs=True
        )
    else:
        hook = module.register_forward_hook(lambda _, args, output: note(args, {}, output))
    return hook.remove


def _before(
    module: nn.Module, method: str, note: Callable[[tuple[Any, ...], dict[str, Any], Any], None]
) -> Callable[[], None]:
    """Put a function that notes calls before a method; return what takes it away again."""
    own, original = vars(module), getattr(module, method)
    known = own.get(method)

    def noting(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        note(args, kwargs, output)
        return output

    def take_away() -> None:
        del own[method]
        if known is not None:
            own[method] = known

    own[method] = noting
    return take_away
