"""Batch norms on shapes alone, without the many small steps that torch takes there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_EVALUATING = torch.ops.aten._native_batch_norm_legit_no_training.default
_EITHER = torch.ops.aten.native_batch_norm.default


class QuickNorms(TorchDispatchMode):
    """Gives the shapes of evaluated batch norms of tensors without values at once.

    What torch does instead takes half of the time of a run of a ResNet without values.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any other operation as it is."""
        if args and isinstance(args[0], Tensor) and args[0].is_meta and _evaluates(func, args):
            return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
        return func(*args, **(kwargs or {}))


def _evaluates(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    return func is _EVALUATING or (func is _EITHER and len(args) > 5 and args[5] is False)
