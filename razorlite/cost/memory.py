"""The most memory that the maps of one image take at a time, counted without running on data."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from razorlite.cost.count import evaluating, moved, on_meta, plain_attention
from razorlite.structures import inputs_of, tensors_in


def peak_memory(model: nn.Module, example: Any = (224, 224)) -> int:
    """Return the most bytes that activations of one sample take at a time, the inputs included.

    Tensors count from the operation that makes them until the forward lets go of them, as PyTorch
    runs it in evaluation mode, without gradients; weights and what kernels use inside do not count.
    Views and what is computed in place take no memory of their own.

    Args:
        model: what to count; unchanged.
        example: as for `count`.
    """
    return max(memory_trace(model, example))


def memory_trace(model: nn.Module, example: Any = (224, 224)) -> list[int]:
    """Return the bytes that activations take after each operation that makes a tensor.

    Arguments: as for `peak_memory`.
    """
    inputs = inputs_of(model, example)
    with evaluating(model), plain_attention():
        try:
            return _traced(torch.device("meta"), model, inputs)
        except Exception:  # whatever a forward does that wants values: it gets some
            first = next(model.parameters(), torch.empty(0))
            if first.is_meta:
                raise
            return _traced(first.device, model, inputs)


def _traced(device: torch.device, model: nn.Module, inputs: Any) -> list[int]:
    without_values = on_meta(model) if device.type == "meta" else nullcontext()
    with torch.no_grad(), without_values:
        own = [*model.parameters(), *model.buffers()]
        given = moved(inputs, device)
        living = _Living(own)
        with living:
            for tensor in tensors_in(given):
                living.note(tensor)
            model(*given)
    return living.trace


class _Living(TorchDispatchMode):
    """Adds up the storages that are alive.

    Attributes:
        trace: bytes after each operation that took some.
    """

    def __init__(self, own: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.trace: list[int] = []
        self._known = {x.untyped_storage()._cdata for x in own}
        self._bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and note what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tensors_in(made):
            self.note(tensor)
        return made

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, if it is new, until it goes."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._bytes += size
        self.trace.append(self._bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._bytes -= size
