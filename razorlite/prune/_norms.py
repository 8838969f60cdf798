"""Layer norms that see some of their channels alone."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.trace import norm_dim


class KeptNorm:
    """A hook behind a layer norm: statistics and results are of the channels that stay.

    Attributes:
        stays: (C,) bool; None for all channels.
    """

    def __init__(self, stays: Tensor | None = None) -> None:
        self.stays = stays

    def __call__(
        self, module: nn.LayerNorm, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor
    ) -> Tensor:
        """Return the norm of what stays, and 0 for the other channels."""
        if self.stays is None or bool(self.stays.all()):
            return out
        dim, x = norm_dim(module), args[0] if args else kwargs["input"]
        kept = torch.nonzero(self.stays.to(x.device)).flatten()
        weight, bias = (None if p is None else p[kept] for p in (module.weight, module.bias))
        x = x.movedim(dim, -1)
        normed = F.layer_norm(x[..., kept], (len(kept),), weight, bias, module.eps)
        return torch.zeros_like(x).index_copy(-1, kept, normed.to(x.dtype)).movedim(-1, dim)
