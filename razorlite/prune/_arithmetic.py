"""Computing exactly, whatever a forward asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_COARSE = (torch.float32, torch.float16, torch.bfloat16)
_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")
_RANDOM = (*_DROPOUTS, "feature_alpha_dropout", "rrelu")


@contextmanager
def arithmetic(exact: bool) -> Iterator[None]:
    """Compute in double precision and drop nothing out, within the block, where that is asked."""
    if not exact:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Exact():
            yield
    finally:
        torch.set_default_dtype(before)


class _Exact(TorchFunctionMode):
    """Computes in double precision whatever a forward asks for, and drops nothing out."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _RANDOM:
            return args[0] if args else kwargs["input"]
        if name in ("float", "half", "bfloat16"):
            return args[0].double()
        return func(*map(_finer, args), **{key: _finer(value) for key, value in kwargs.items()})


def _finer(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _COARSE else value
