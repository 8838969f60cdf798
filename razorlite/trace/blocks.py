"""Residual blocks: modules whose input is added to what they make, so that they can be left out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from razorlite.core.errors import ExportError
from razorlite.engine.random_state import kept_random_state
from razorlite.structures import inputs_of, map_tensors, tensors_in
from razorlite.trace.calls import is_altered
from razorlite.trace.tracing import copied, skeleton

_SUMS = ("add", "iadd", "radd")
_PASSING = (
    *("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "prelu"),
    *("dropout", "dropout2d", "layer_norm", "batch_norm", "group_norm", "rms_norm"),
    *("contiguous", "clone", "to", "float", "type_as"),
)


def residual_blocks(
    model: nn.Module, example: Any = (224, 224), *, leaves: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the modules that can be left out: their first input passes on without them.

    A block gives its input plus something of the same shape, perhaps through norms and activations.
    What changes the shape is none, nor is a stage that consists of blocks, nor a block's part. A
    copy of the model is run once in evaluation mode, without values where that goes.

    Args:
        model: what to read; not changed.
        example: what it is called with, as for `channel_graph`.
        leaves: patterns of module paths that are not looked into.

    Returns:
        Module paths, in the model's order.

    Raises:
        ExportError: the model fails on the example.
    """
    watch = _watched(model, example)
    found = watch.added - watch.others
    paths = [name for name, module in model.named_modules() if name in found and _fits(module)]
    whole = [path for path in paths if path and not _is_stage(model, path, paths)]
    blocks = [p for p in whole if not any(p.startswith(f"{q}.") for q in whole)]
    return tuple(path for path in blocks if not _is_inside(path, leaves))


def _is_stage(model: nn.Module, path: str, blocks: Sequence[str]) -> bool:
    """Return whether most parameters of a module are those of blocks inside it."""
    inside = tuple(f"{block}." for block in blocks if block.startswith(f"{path}."))
    own = {f"{path}.{n}": p.numel() for n, p in model.get_submodule(path).named_parameters()}
    return 2 * sum(size for name, size in own.items() if name.startswith(inside)) > sum(
        own.values()
    )


def _fits(module: nn.Module) -> bool:
    inside = list(module.modules())
    return any(True for _ in module.parameters()) and not any(map(is_altered, inside))


def _is_inside(path: str, leaves: Sequence[str]) -> bool:
    """Return whether a module lies in one that is not looked into."""
    parts = path.split(".")
    outer = [".".join(parts[:number]) for number in range(1, len(parts))]
    return any(fnmatchcase(name, leaf) for name in outer for leaf in leaves)


def _watched(model: nn.Module, example: Any) -> "_Watch":
    """Run a copy without values; where its operations need some, one with values."""
    try:
        return _run(skeleton(model), example, torch.device("meta"))
    except ExportError:
        raise
    except Exception:  # whatever a forward does that wants values
        first = next(model.parameters(), torch.empty(0))
        if first.is_meta:
            raise
        return _run(copied(model), example, first.device)


def _run(model: nn.Module, example: Any, device: torch.device) -> "_Watch":
    inputs = map_tensors(lambda x: x.to(device), inputs_of(model, example))
    watch = _Watch()
    with kept_random_state(), watch.hooks(model), watch:
        model(*inputs)
    return watch


@dataclass
class _Frame:
    """A module while it runs.

    Attributes:
        first: its first tensor.
        stream: by their ids, what that has become: whether something was added to it.
    """

    path: str
    first: Tensor | None
    stream: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.first is not None:
            self.stream[id(self.first)] = False


class _Watch(TorchFunctionMode):
    """Follows the first input of every module that runs.

    Attributes:
        added: modules that give their input with something added to it, in its shape.
        others: modules that gave something else at one of their calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.added, self.others = set[str](), set[str]()
        self._frames: list[_Frame] = []
        self._alive: list[Tensor] = []  # so that no other tensor gets the id of one

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self._alive.append(made)
            name = str(getattr(func, "__name__", "")).strip("_")
            for frame in self._frames:
                self._follow(frame, name, args, made)
        return made

    def _follow(self, frame: _Frame, name: str, args: tuple[Any, ...], made: Tensor) -> None:
        known = [frame.stream[id(x)] for x in args if id(x) in frame.stream]
        if known and name in _SUMS and all(isinstance(x, Tensor) for x in args[:2]):
            frame.stream[id(made)] = True
        elif known and name in _PASSING and id(args[0]) in frame.stream:
            frame.stream[id(made)] = frame.stream[id(args[0])]
        elif any(made is x for x in args):  # it was overwritten
            frame.stream.pop(id(made), None)

    @contextmanager
    def hooks(self, model: nn.Module) -> Iterator[None]:
        """Tell when modules begin and end."""
        handles = []
        for path, module in model.named_modules():
            enter, leave = self._hooks(path)
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = [*args, *kwargs.values()][:1]
            first = given[0] if given and isinstance(given[0], Tensor) else None
            self._frames.append(_Frame(path, first))

        def leave(_: Any, __: Any, made: Any) -> None:
            self._alive.extend(tensors_in(made))
            frame = self._frames.pop()
            known = self.added if _is_residual(frame, made) else self.others
            known.add(path)

        return enter, leave


def _is_residual(frame: _Frame, made: Any) -> bool:
    first = frame.first
    if first is None or not isinstance(made, Tensor) or first.shape != made.shape:
        return False
    return frame.stream.get(id(made), False)
