"""Attention of which some heads count alone."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


class KeptHeads:
    """A hook behind `nn.MultiheadAttention`: what its last projection reads times factors.

    That projection is no call of its own, so the attention is computed again.

    Attributes:
        factors: (C,) for the channels of the heads; None for all ones.
    """

    def __init__(self) -> None:
        self.factors: Tensor | None = None

    def __call__(
        self, module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> Any:
        """Return the results with the factors."""
        if self.factors is None:
            return out
        weight = module.out_proj.weight
        weight = weight * self.factors.to(weight.device, weight.dtype)
        weights = {"inner.out_proj.weight": weight}
        return functional_call(_Unhooked(module), weights, args, kwargs)


class _Unhooked(nn.Module):
    """Calls a module without its hooks."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.forward(*args, **kwargs)
