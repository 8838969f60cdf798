"""Norms that see some of their channels alone, and layers called as functions that read fewer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SHAPED = ("layer_norm", "rms_norm")  # their channels lie along the first of the last dimensions


class KeptNorm:
    """A hook behind a norm: statistics and results are of the channels that stay.

    Attributes:
        stays: (C,) bool; None for all channels.
    """

    def __init__(self, stays: Tensor | None = None) -> None:
        self.stays = stays

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor
    ) -> Any:
        """Return the norm of what stays, and 0 for the other channels."""
        if self.stays is None or bool(self.stays.all()):
            return out
        with _Seen(self._change):
            return module.forward(*args, **kwargs)

    def _change(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        assert self.stays is not None
        name = getattr(func, "__name__", "")
        dim = 1 if name == "group_norm" else -len(_shape(args, kwargs)) if name in _SHAPED else None
        if dim is None or args[0].shape[dim] != len(self.stays):
            return func(*args, **kwargs)
        kept = torch.nonzero(self.stays.to(args[0].device)).flatten()
        x = args[0].movedim(dim, -1)
        normed = _of_kept(func, dim, kept, [x[..., kept].movedim(-1, dim), *args[1:]], kwargs)
        normed = normed.movedim(dim, -1).to(x.dtype)
        return torch.zeros_like(x).index_copy(-1, kept, normed).movedim(-1, dim)


def _shape(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[int]:
    """Return the shape that a norm is over."""
    found: Sequence[int] = kwargs["normalized_shape"] if len(args) < 2 else args[1]
    return found


def _of_kept(
    func: Any, dim: int, kept: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call a norm with the parts of its weights that belong to some channels."""
    x, *rest = args
    if dim < 0:
        shape = (len(kept), *_shape(args, kwargs)[1:])
        named = {"normalized_shape": shape} if "normalized_shape" in kwargs else {}
        rest = rest if named else [shape, *rest[1:]]
        kwargs = {**kwargs, **named}
    parts = [p[kept] if isinstance(p, Tensor) else p for p in rest]
    return func(
        x, *parts, **{k: p[kept] if isinstance(p, Tensor) else p for k, p in kwargs.items()}
    )


class ReadingFunction:
    """A hook behind a layer whose forward calls a function with its weight: what that reads.

    Attributes:
        factors: (C,) for the channels that the function reads; None for all ones.
    """

    def __init__(self, dims: int) -> None:
        """Take the number of dimensions behind the channels."""
        self.dims = dims
        self.factors: Tensor | None = None

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> Any:
        """Return the results with the factors."""
        factors = self.factors
        if factors is None:
            return out

        def change(func: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
            if not any(x is module.weight for x in [*given, *named.values()]):
                return func(*given, **named)
            x = given[0] * factors.to(given[0]).reshape(-1, *[1] * self.dims)
            return func(x, *given[1:], **named)

        with _Seen(change):
            return module.forward(*args, **kwargs)


class _Seen(TorchFunctionMode):
    """Lets calls of functions be changed."""

    def __init__(self, change: Callable[..., Any]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.change(func, args, kwargs or {})
