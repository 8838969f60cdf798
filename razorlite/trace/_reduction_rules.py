"""Rules for what mixes values along a dimension: sums, means, softmax, division by a norm.

Sums and norms over channels are the same without those that are zero.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from razorlite.trace import maps
from razorlite.trace._move_rules import fixed, pointwise
from razorlite.trace.calls import Call
from razorlite.trace.ledger import Ledger

_MIXED = "mixed over channels by"


def reduce(call: Call, ledger: Ledger) -> Any:
    """Means and extremes over dimensions without channels; sums and norms over any."""
    if len(call.maps()) > 1:
        return pointwise(call, ledger)
    x = call.maps()[0]
    dims = _dims(x, call.argument(2 if "norm" in call.name else 1, "dim"))
    along = bool(set(dims) & set(maps.varying(x)))
    additive = call.name == "sum" or ("norm" in call.name and _is_order(call.argument(1, "p", 2)))
    if along and not (additive and _summed(ledger, x, dims)):
        return fixed(call, ledger, _MIXED)
    if call.name == "logsumexp":
        ledger.shifted.append(maps.numbers(x))
    return tree_map(lambda out: _reduced(x, dims, out, along), call.out)


def _dims(x: Tensor, dims: int | Sequence[int] | None) -> list[int]:
    """Return dimensions from the last one on."""
    dims = range(x.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    return sorted({d % x.dim() for d in dims}, reverse=True)


def _is_order(order: Any) -> bool:
    """Tell whether zeros do not count in a norm of an order."""
    return order == "fro" or (isinstance(order, int | float) and order > 0)


def _summed(ledger: Ledger, x: Tensor, dims: Sequence[int]) -> bool:
    """Tell whether a sum is one over all channels, in which those that go are zero."""
    if not set(maps.varying(x)) <= set(dims) or ledger.is_shifted(maps.numbers(x)):
        return False
    ledger.summed.append(maps.numbers(x))
    return True


def _reduced(x: Tensor, dims: Sequence[int], out: Any, mixed: bool) -> Any:
    if not isinstance(out, Tensor):
        return out
    kept = out.dim() == x.dim()
    for dim in dims:
        x = x.narrow(dim, 0, 1) if kept else x.select(dim, 0)
    return maps.blank(out.shape) if mixed else x


def softmax(call: Call, ledger: Ledger) -> Any:
    """Softmax along a dimension without channels."""
    x = call.maps()[0]
    dim = getattr(call.module, "dim", None) if call.module else call.argument(1, "dim")
    if dim is None or dim % x.dim() in maps.varying(x):
        return fixed(call, ledger, _MIXED)
    ledger.shifted.append(maps.numbers(x))
    return x


def normalize(call: Call, ledger: Ledger) -> Any:
    """Division by the norm along a dimension."""
    x = call.maps()[0]
    dim = call.argument(2, "dim", 1) % x.dim()
    mixed = dim in maps.varying(x)
    if mixed and not (_is_order(call.argument(1, "p", 2)) and _summed(ledger, x, [dim])):
        return fixed(call, ledger, _MIXED)
    return x


def similarity(call: Call, ledger: Ledger) -> Any:
    """Cosine similarity along a dimension: what is compared has the same channels."""
    first, second, *_ = call.maps()
    dims = _dims(first, call.argument(2, "dim", 1))
    if first.shape != second.shape or not all(_summed(ledger, x, dims) for x in (first, second)):
        return fixed(call, ledger, _MIXED)
    ledger.match(maps.compact(first).numpy(), maps.compact(second).numpy(), call.where)
    return maps.blank(call.out.shape)
