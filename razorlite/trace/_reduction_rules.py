"""Rules for what mixes values along a dimension: sums, means, softmax, division by a norm."""

from typing import Any

from torch import Tensor

from razorlite.trace import maps
from razorlite.trace._move_rules import fixed, pointwise
from razorlite.trace.calls import Call
from razorlite.trace.ledger import Ledger


def reduce(call: Call, ledger: Ledger) -> Any:
    """Means, sums and extremes over dimensions without channels."""
    if len(call.maps()) > 1:
        return pointwise(call, ledger)
    x = call.maps()[0]
    dims = call.argument(2 if call.name == "norm" else 1, "dim")
    dims = range(x.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    dims = sorted({d % x.dim() for d in dims}, reverse=True)
    if not isinstance(call.out, Tensor) or set(dims) & set(maps.varying(x)):
        return fixed(call, ledger, "mixed over channels by")
    if call.name == "logsumexp":
        ledger.shifted.append(maps.numbers(x))
    keep = call.out.dim() == x.dim()
    for dim in dims:
        x = x.narrow(dim, 0, 1) if keep else x.select(dim, 0)
    return x


def softmax(call: Call, ledger: Ledger) -> Any:
    """Softmax along a dimension without channels."""
    x = call.maps()[0]
    dim = getattr(call.module, "dim", None) if call.module else call.argument(1, "dim")
    if dim is None or dim % x.dim() in maps.varying(x):
        return fixed(call, ledger, "mixed over channels by")
    ledger.shifted.append(maps.numbers(x))
    return x


def normalize(call: Call, ledger: Ledger) -> Any:
    """Division by the norm along a dimension without channels."""
    x = call.maps()[0]
    if call.argument(2, "dim", 1) % x.dim() in maps.varying(x):
        return fixed(call, ledger, "mixed over channels by")
    return x
