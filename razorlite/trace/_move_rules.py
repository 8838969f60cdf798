"""Rules for what has no channels of its own: arithmetic, pooling, reshaping, cutting, joining."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from razorlite.trace import maps
from razorlite.trace.attributes import Attribute, reckon
from razorlite.trace.calls import Call, is_computed
from razorlite.trace.ledger import Labels, Ledger
from razorlite.trace.sizes import Ratio, source_of
from razorlite.trace.zeros import keeps_zeros


def fixed(call: Call, ledger: Ledger, reason: str = "no rule for") -> Any:
    """Fix all that comes in; what comes out cannot be followed."""
    for labels in call.maps():
        ledger.fix(maps.numbers(labels), f"{reason} {call.where}")
    return tree_map(lambda x: maps.blank(x.shape) if isinstance(x, Tensor) else x, call.out)


def constant(call: Call, ledger: Ledger) -> Any:
    """Return a map of what takes nothing but type and device from its arguments."""
    return maps.blank(call.out.shape)


def altered(call: Call, ledger: Ledger) -> Any:
    """Fix what a layer reads whose class does not say what it does."""
    return fixed(call, ledger, "hooks, parametrizations or a replaced forward on")


def same(call: Call, ledger: Ledger) -> Any:
    """Keep the first argument's channels, as a change of type does."""
    return call.maps()[0]


def pointwise(call: Call, ledger: Ledger) -> Any:
    """Arithmetic place by place, with broadcasting: what meets stays together."""
    if not isinstance(call.out, Tensor):
        return fixed(call, ledger)
    for number in call.args:
        source = source_of(number)
        if source is not None:
            ledger.fix(source, f"their number is reckoned with by {call.where}")
        reckon(number)
    if _has_computed_numbers(call):
        return fixed(call, ledger, "reckoned with a size by")
    shape = call.out.shape
    labelled = [x for x in call.maps() if x.numel() > 1 or bool((x >= 0).all())]
    operands = [x[(None,) * (len(shape) - x.dim())] for x in labelled]
    if ledger.tensors:
        operands = _tied_along_channels(operands, ledger, call.where)
    carrying = {d for x in operands for d in maps.varying(x)}
    meeting = []
    for x in operands:
        if any(x.shape[d] != shape[d] for d in carrying):
            ledger.fix(maps.numbers(x), f"one channel used for many at {call.where}")
        else:
            meeting.append(x.expand(shape))
    if not meeting:
        return maps.blank(shape)
    out = _agree(meeting, ledger, call.where)
    if not keeps_zeros(call):
        ledger.shifted.append(maps.numbers(out))
    return out


def _tied_along_channels(operands: list[Tensor], ledger: Ledger, where: str) -> list[Tensor]:
    """Tie elements of bare tensors that differ along dimensions without channels.

    One that has no dimension of its own along the channels may meet any of them, and is left out.
    """
    free = [ledger.is_free(maps.numbers(x)) for x in operands]
    channels = {
        d for x, loose in zip(operands, free, strict=True) if not loose for d in maps.varying(x)
    }
    if not channels:
        return operands
    kept = []
    for x, loose in zip(operands, free, strict=True):
        others = [d for d in maps.varying(x) if d not in channels]
        if loose and others:
            x = maps.tie_along(x, others, ledger, where)
        if not loose or maps.varying(x) or any(x.shape[d] > 1 for d in channels):
            kept.append(x)
    return kept


def _has_computed_numbers(call: Call) -> bool:
    """Tell whether a number comes from the graph: it may be a count of channels."""
    written = [*call.written, *call.written_kwargs.values()]
    pairs = zip(written, [*call.args, *call.kwargs.values()], strict=True)
    return any(
        (is_computed(code) or isinstance(code, Ratio)) and not isinstance(x, Tensor)
        for code, x in pairs
    )


def spatial(call: Call, ledger: Ledger) -> Any:
    """Pooling, padding and resizing of (N, C, …): channels stay, places change."""
    x, *others = call.maps()
    labels = maps.line(x, 1) if x.dim() > 2 else None
    if labels is None or others or not isinstance(call.out, Tensor):
        return fixed(call, ledger)
    return maps.broadcast(labels, 1, call.out.shape)


def pad(call: Call, ledger: Ledger) -> Any:
    """Padding along dimensions without channels."""
    x, pads = call.labels[0], call.argument(1, "pad", ())
    padded = {x.dim() - 1 - place // 2 for place, amount in enumerate(pads) if amount}
    along = maps.varying(x)
    if padded & set(along) or (len(along) == 1 and maps.line(x, along[0]) is None):
        return fixed(call, ledger)
    ledger.shifted.append(maps.numbers(x))
    first = x
    for dim in padded:
        first = first.narrow(dim, 0, 1)
    return maps.settle(first.expand(call.out.shape))


def move(call: Call, ledger: Ledger) -> Any:
    """Permutations, flattening and the like: done on the map as on the tensor."""
    return call.run(*call.labels, **call.label_kwargs)


def item(call: Call, ledger: Ledger) -> Any:
    """Indexing: of a tuple, or of dimensions without channels, or of halves of the channels."""
    x, index = call.labels[0], call.args[1]
    if not isinstance(x, Tensor):
        return x[index]
    if len(call.maps()) > 1 or _has_lists(index):
        return fixed(call, ledger)
    written: Any = call.written[1]
    cuts = _cuts(x.shape, written, index)
    cuts = {d: cut for d, cut in cuts.items() if d in maps.varying(x)}
    if cuts and ledger.is_free(maps.numbers(x)):
        # of a tensor that meets channels along another dimension
        return maps.rooted(maps.tie_along(x, list(cuts), ledger, call.where)[index], ledger)
    for dim, (as_written, value) in cuts.items():
        if not _is_half(as_written, value, x.shape[dim]):
            ledger.fix(maps.numbers(x), f"cut at set places by {call.where}")
            return x[index]
        maps.tie_along(x.unflatten(dim, (2, -1)), [dim], ledger, call.where)
    return maps.rooted(maps.settle(x[index]), ledger)


def _has_lists(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(not isinstance(p, (int, slice)) and p not in (None, ...) for p in parts)


def _cuts(shape: Sequence[int], written: Any, index: Any) -> dict[int, tuple[Any, Any]]:
    """Return, for each dimension that an index shortens, the entry as written and as it is."""
    if not isinstance(index, tuple):
        written, index = (written,), (index,)
    used = sum(1 for entry in index if entry is not None and entry is not ...)
    found, dim = {}, 0
    for as_written, value in zip(written, index, strict=True):
        if value is ...:
            dim += len(shape) - used
        elif value is not None:
            if not _is_whole(value, shape[dim]):
                found[dim] = (as_written, value)
            dim += 1
    return found


def _is_whole(value: Any, size: int) -> bool:
    """Tell whether an index takes all of a dimension, however small it becomes."""
    if not isinstance(value, slice) or value.step not in (None, 1) or value.start not in (None, 0):
        return False
    return value.stop is None or value.stop >= size


def _is_half(written: Any, value: Any, size: int) -> bool:
    """Tell whether a slice is the first or second half by a computed bound."""
    if not isinstance(value, slice) or value.step is not None or size % 2:
        return False
    bounds = [(written.start, value.start or 0), (written.stop, value.stop)]
    inner = [(w, v) for w, v in bounds if v is not None and v not in (0, size)]
    return len(inner) == 1 and inner[0][1] == size // 2 and is_computed(inner[0][0])


def put(call: Call, ledger: Ledger) -> Any:
    """Writing into part of a tensor: what is written shares its channels with what is there."""
    target, value = call.labels[0], call.labels[2]
    if isinstance(value, Tensor) and value.numel() == 0:
        return target
    if not isinstance(value, Tensor) or len(maps.varying(value)) != 1:
        return fixed(call, ledger)
    last = maps.varying(value)[0] - value.dim()  # counted from the end
    dim, index = target.dim() + last, call.args[1]
    index = index if isinstance(index, tuple) else (index,)
    if dim < _reach(index) and not (dim < len(index) and _is_all(index[: dim + 1])):
        return fixed(call, ledger, "written to set places by")
    if call.computed and not call.computed[dim]:
        return fixed(call, ledger, "written into a tensor of a set size by")
    labels, there = maps.line(value, last), maps.line(target, dim)
    if labels is None or there is None or len(labels) != len(there):
        return fixed(call, ledger)
    if (there >= 0).any():
        labels = ledger.meet(there, labels, call.where)
    ledger.shifted.append(labels)
    return maps.broadcast(labels, dim, target.shape)


def _reach(index: tuple[Any, ...]) -> int:
    """Return how many dimensions, from the first on, an index without ellipsis looks at."""
    if any(entry is ... or entry is None for entry in index):
        return 1_000
    masks = (e.dim() for e in index if isinstance(e, Tensor) and e.dtype == torch.bool)
    return len(index) + sum(n - 1 for n in masks)


def _is_all(index: tuple[Any, ...]) -> bool:
    return all(isinstance(entry, slice) for entry in index) and index[-1] == slice(None)


def regions(call: Call, ledger: Ledger) -> Any:
    """Pooling of regions and looking up places: channels of the map, whatever says where."""
    x, *others = call.maps()
    for other in others:
        ledger.fix(maps.numbers(other), f"regions of {call.where}")
    labels = maps.line(x, 1)
    return fixed(call, ledger) if labels is None else maps.broadcast(labels, 1, call.out.shape)


def select(call: Call, ledger: Ledger) -> Any:
    """`select`, `narrow` and `unbind` on dimensions without channels."""
    x = call.labels[0]
    if call.argument(1, "dim", 0) % x.dim() in maps.varying(x):
        ledger.fix(maps.numbers(x), f"cut at set places by {call.where}")
    return move(call, ledger)


def split(call: Call, ledger: Ledger) -> Any:
    """Equal pieces: the same places of each are tied. Pieces of a written size are fixed."""
    x, dim = call.labels[0], call.argument(2, "dim", 0)
    pieces = move(call, ledger)
    if dim % x.dim() not in maps.varying(x):
        return pieces
    written: Any = call.written[1] if len(call.written) > 1 else None
    sizes = written if isinstance(written, (list, tuple)) else [written]
    if call.name in ("split", "split_with_sizes") and all(isinstance(n, Attribute) for n in sizes):
        return _counted_pieces(call, ledger, pieces, [*sizes, *sizes * len(pieces)])
    counted = call.name in ("chunk", "tensor_split") and isinstance(written, int)
    computed = counted or all(is_computed(n) for n in sizes)
    if not computed or len({piece.shape for piece in pieces}) > 1:
        ledger.fix(maps.numbers(x), f"cut at set places by {call.where}")
        return pieces
    maps.tie_along(maps.settle(torch.stack(list(pieces))), [0], ledger, call.where)
    return tuple(maps.rooted(maps.settle(piece), ledger) for piece in pieces)


def _counted_pieces(
    call: Call, ledger: Ledger, pieces: Sequence[Tensor], sizes: Sequence[Attribute]
) -> Any:
    """Pieces as long as attributes say: those of one attribute are tied place by place."""
    dim = call.argument(2, "dim", 0)
    for size, piece in zip(sizes, pieces, strict=False):
        labels = maps.line(maps.settle(piece), dim)
        if labels is None or len(labels) != size:
            ledger.fix(maps.numbers(call.labels[0]), f"cut at set places by {call.where}")
            return pieces
        ledger.count(size, labels, call.where)
    return tuple(maps.rooted(maps.settle(piece), ledger) for piece in pieces)


def cat(call: Call, ledger: Ledger) -> Any:
    """Concatenation: along the channels, or of maps with the same channels along another."""
    parts, shape = list(call.labels[0]), call.out.shape
    dim = call.argument(1, "dim", 0) % len(shape)
    free = [ledger.is_free(maps.numbers(x)) for x in parts]
    channels = {d for x, own in zip(parts, free, strict=True) if not own for d in maps.varying(x)}
    if len(channels) == 1:
        parts = [
            _tied_across(x, channels, ledger, call.where) if own else x
            for x, own in zip(parts, free, strict=True)
        ]
    if all(maps.line(x, dim) is not None for x in parts):
        lines = [maps.line(x, dim) for x in parts]
        return maps.broadcast(np.concatenate(lines), dim, shape)  # type: ignore[arg-type]
    if any(dim in maps.varying(x) for x in parts):
        return fixed(call, ledger)
    return _agree([x.narrow(dim, 0, 1) for x in parts], ledger, call.where).expand(shape)


def _tied_across(x: Tensor, channels: set[int], ledger: Ledger, where: str) -> Tensor:
    """Tie elements of a bare tensor that differ along other dimensions than the channels."""
    others = [d for d in maps.varying(x) if d not in channels]
    return maps.tie_along(x, others, ledger, where) if others else x


def stack(call: Call, ledger: Ledger) -> Any:
    """Stacking along a new dimension: what lies on one another stays together."""
    dim = call.argument(1, "dim", 0) % call.out.dim()
    parts = [x.unsqueeze(dim) for x in call.labels[0]]
    return _agree(parts, ledger, call.where).expand(call.out.shape)


def channel_shuffle(call: Call, ledger: Ledger) -> Any:
    """Shuffle of C channels in G groups: the same places of each group are tied."""
    x = call.labels[0]
    groups = getattr(call.module, "groups", None) or call.argument(1, "groups")
    if maps.line(x, 1) is None:
        return fixed(call, ledger)
    tied = maps.tie_along(maps.settle(x.unflatten(1, (groups, -1))), [1], ledger, call.where)
    return tied.transpose(1, 2).flatten(1, 2)


def pixel_shuffle(call: Call, ledger: Ledger) -> Any:
    """From C * r * r channels to C: the r * r that become one are tied."""
    return joined(call, ledger, maps.line(call.labels[0], -3))


def joined(call: Call, ledger: Ledger, labels: Labels | None) -> Any:
    """Tie the neighbours among channels that become one channel of a map (N, C, H, W)."""
    if labels is None:
        return fixed(call, ledger)
    rows = labels.reshape(call.out.shape[-3], -1)
    ledger.tie(rows, call.where)
    return maps.broadcast(ledger.roots(rows[:, 0]), -3, call.out.shape)


def pixel_unshuffle(call: Call, ledger: Ledger) -> Any:
    """From C channels to C * r * r: each becomes r * r neighbours."""
    labels = maps.line(call.labels[0], -3)
    if labels is None:
        return fixed(call, ledger)
    return maps.broadcast(np.repeat(labels, call.out.shape[-3] // len(labels)), -3, call.out.shape)


def _agree(parts: Sequence[Tensor], ledger: Ledger, where: str) -> Tensor:
    """Tie maps of one shape place by place; return the map of what they have become."""
    shape, result = parts[0].shape, maps.compact(parts[0])
    for part in parts[1:]:
        small = maps.compact(part)
        result = torch.from_numpy(ledger.meet(result.numpy(), small.numpy(), where))
    return maps.settle(result.expand(shape))
