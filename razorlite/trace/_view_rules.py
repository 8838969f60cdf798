"""Rules for views: tensors laid out by sizes that are written, computed or those of others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from razorlite.trace import maps
from razorlite.trace.attributes import Attribute, Product
from razorlite.trace.calls import Call, is_computed
from razorlite.trace.ledger import Ledger
from razorlite.trace.sizes import remembered, source_of


def reshape(call: Call, ledger: Ledger) -> Any:
    """Views: sizes written as numbers stay, one computed size may shrink.

    Where channels are laid out over several dimensions, the written ones must keep their size, so
    everything along them is tied; more than one shrinking dimension cannot be made to fit. If all
    are written, the first one that is an attribute of a module shrinks.
    """
    x, *sizes = call.labels
    view = x.reshape if call.name == "view" else partial(call.run, x)
    out = maps.settle(view(*sizes, **call.label_kwargs))
    before, after = maps.varying(call.maps()[0]), maps.varying(out)
    written = _written_dims(call)
    rigid = [d for d in after if d in written and not _is_product(written[d], out, d, ledger)]
    free = len(after) - len(rigid)
    counting = [d for d in rigid if isinstance(written[d], Attribute)][: not free]
    if counting:
        rigid, free = [d for d in rigid if d not in counting], 1
    if rigid and free == 1:
        out = maps.tie_along(out, rigid, ledger, call.where)
    elif rigid or free > max(1, len(before)):
        ledger.fix(maps.numbers(out), f"brought to a set size at {call.where}")
    for dim in counting:
        labels = maps.line(out, dim)
        if labels is not None:
            ledger.count(written[dim], labels, call.where)
    return _tied_to_sources(call, out, ledger)


def _is_product(size: Any, out: Tensor, dim: int, ledger: Ledger) -> bool:
    """Tell whether a written size is the product of what counts the channels along it."""
    labels = maps.line(out, dim)
    return isinstance(size, Product) and labels is not None and ledger.counts(size, labels)


def reshape_as(call: Call, ledger: Ledger) -> Any:
    """A view of the sizes of another tensor."""
    x, other = call.labels[:2]
    sizes = remembered(call.args[1].shape, other)
    like = replace(
        call,
        name="reshape",
        run=Tensor.reshape,
        labels=(x, *sizes),
        args=(call.args[0], *sizes),
        written=(call.written[0], *sizes),
    )
    return reshape(like, ledger)


def _written_dims(call: Call) -> dict[int, Any]:
    sizes = _sizes(call, call.written, call.written_kwargs)
    return {d: n for d, n in sizes.items() if not is_computed(n) and n != -1}


def _sizes(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[int, Any]:
    """Return the sizes that a view is given, by their dimensions."""
    offset, rest = 0, list(args[1:]) or list(kwargs.values())
    if call.name == "unflatten":
        dim = int(call.argument(1, "dim"))
        offset, rest = dim % call.maps()[0].dim(), [args[2] if len(args) > 2 else kwargs["sizes"]]
    sizes: Any = rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest
    return dict(enumerate(sizes, offset))


def _tied_to_sources(call: Call, out: Tensor, ledger: Ledger) -> Tensor:
    """Tie channels to others by whose number they are laid out: both must stay proportional."""
    for dim, size in _sizes(call, call.args, call.kwargs).items():
        source, labels = source_of(size), maps.line(out, dim)
        if source is None or dim not in maps.varying(out):
            continue
        if ledger.among([source], maps.numbers(out)).any():
            continue  # their own number
        if labels is None or max(len(labels), len(source)) % min(len(labels), len(source)):
            for numbers in (source, maps.numbers(out)):
                ledger.fix(numbers, f"brought to the size of other channels at {call.where}")
        else:
            small, large = sorted((labels, source), key=len)
            ledger.match(large.reshape(-1, len(small)), small, call.where)
    return maps.rooted(out, ledger)
