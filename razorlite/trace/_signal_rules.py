"""Rules for what works along places: transforms, patches, orders of values, looking up."""

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_map

from razorlite.trace import maps
from razorlite.trace._move_rules import fixed, joined
from razorlite.trace.calls import Call
from razorlite.trace.ledger import Ledger


def roll(call: Call, ledger: Ledger) -> Any:
    """Rolling along dimensions without channels."""
    return _along(call, ledger, call.argument(2, "dims"))


def fourier(call: Call, ledger: Ledger) -> Any:
    """Fourier transforms along dimensions without channels; zeros stay zeros."""
    ends = {"2": [-2, -1], "n": None}
    dims = call.argument(2, "dim", ends.get(call.name[-1], [-1]))
    return _along(call, ledger, dims)


def shifted(call: Call, ledger: Ledger) -> Any:
    """`fftshift` and its inverse."""
    return _along(call, ledger, call.argument(1, "dim"))


def cumulate(call: Call, ledger: Ledger) -> Any:
    """Running sums and products along a dimension without channels."""
    if call.name != "cumsum":
        ledger.shifted.append(maps.numbers(call.maps()[0]))
    return _along(call, ledger, call.argument(1, "dim"))


def order(call: Call, ledger: Ledger) -> Any:
    """Largest values and their places, along a dimension without channels."""
    place = 2 if call.name in ("topk", "kthvalue") else 1
    default = None if call.name in ("argmax", "argmin") else -1
    ledger.shifted.append(maps.numbers(call.maps()[0]))
    return _along(call, ledger, call.argument(place, "dim", default))


def _along(call: Call, ledger: Ledger, dims: Any) -> Any:
    """Keep the channels of what changes along other dimensions, whatever its size becomes."""
    x = call.maps()[0]
    dims = range(x.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    dims = {d % x.dim() for d in dims}
    if len(call.maps()) > 1 or dims & set(maps.varying(x)):
        return fixed(call, ledger, "mixed over channels by")
    return tree_map(lambda out: _stretched(x, dims, out), call.out)


def _stretched(x: Tensor, dims: set[int], out: Any) -> Any:
    if not isinstance(out, Tensor):
        return out
    kept = out.dim() == x.dim()
    for dim in sorted(dims, reverse=True):
        x = x.narrow(dim, 0, 1) if kept else x.select(dim, 0)
    return x.expand(out.shape)


def gather(call: Call, ledger: Ledger) -> Any:
    """Values from places along a dimension without channels, as many of these as there are."""
    x, index = call.maps()
    dim = call.argument(1, "dim") % x.dim()
    along = maps.varying(x)
    if dim in along or any(call.out.shape[d] != x.shape[d] for d in along):
        return fixed(call, ledger, "mixed over channels by")
    ledger.fix(maps.numbers(index), f"places of {call.where}")
    shape = [n if d in along else 1 for d, n in enumerate(x.shape)]
    return x[tuple(slice(0, n) for n in shape)].expand(call.out.shape)


def look_up(call: Call, ledger: Ledger) -> Any:
    """Rows of a table: channels lie along its last dimension."""
    *_, table = call.maps()
    for other in call.maps()[:-1]:
        ledger.fix(maps.numbers(other), f"places of {call.where}")
    return _rows(call, ledger, table, along=0)


def resize(call: Call, ledger: Ledger) -> Any:
    """Position embeddings (1, T, C) that are resized to other places."""
    return _rows(call, ledger, call.maps()[0], along=1)


def _rows(call: Call, ledger: Ledger, table: Tensor, along: int) -> Any:
    """Other rows of a table, all of which have the channels of its last dimension."""
    if ledger.is_free(maps.numbers(table)):
        table = maps.tie_along(table, [along], ledger, call.where)
    labels = maps.line(table, -1)
    if labels is None:
        return fixed(call, ledger)
    ledger.shifted.append(labels)
    return maps.broadcast(labels, -1, call.out.shape)


def unfold(call: Call, ledger: Ledger) -> Any:
    """Patches: `F.unfold` lays the places of a patch behind each channel, `Tensor.unfold` last."""
    x = call.maps()[0]
    if call.out.dim() > x.dim():
        dim = call.argument(1, "dimension") % x.dim()
        if dim in maps.varying(x):
            return fixed(call, ledger, "mixed over channels by")
        return x.narrow(dim, 0, 1).unsqueeze(-1).expand(call.out.shape)
    labels = maps.line(x, 1)
    if labels is None:
        return fixed(call, ledger)
    return maps.broadcast(np.repeat(labels, call.out.shape[1] // len(labels)), 1, call.out.shape)


def fold(call: Call, ledger: Ledger) -> Any:
    """From patches to maps: the places of a patch that become one channel are tied."""
    return joined(call, ledger, maps.line(call.maps()[0], -2))


def as_complex(call: Call, ledger: Ledger) -> Any:
    """Two numbers become one: they are tied."""
    x = call.maps()[0]
    return maps.tie_along(maps.settle(x), [x.dim() - 1], ledger, call.where).select(-1, 0)


def as_real(call: Call, ledger: Ledger) -> Any:
    """One number becomes two."""
    return call.maps()[0].unsqueeze(-1).expand(call.out.shape)


def gated(call: Call, ledger: Ledger) -> Any:
    """One half times the sigmoid of the other: the same places of both are tied."""
    x = call.maps()[0]
    default = getattr(call.module, "dim", -1)
    dim = call.argument(1, "dim", default) % x.dim()
    if dim not in maps.varying(x):
        return fixed(call, ledger)
    halves = maps.settle(x.unflatten(dim, (2, -1)))
    tied = maps.tie_along(halves, [dim], ledger, call.where)
    return tied.select(dim, 0)
