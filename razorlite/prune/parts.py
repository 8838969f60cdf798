"""What of a model can go beside channels: residual blocks, decoder layers, queries."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.models.queries import QueryModel

Kind = Literal["channels", "blocks", "layers", "queries"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Dropped = Mapping[str, tuple[str | int, ...]]


class Shortcut(nn.Module):
    """What stays of a residual block of several inputs: the first of them."""

    def forward(self, x: Tensor, *others: Any, **settings: Any) -> Tensor:
        """Return `x`, of any shape."""
        return x


def without_parts(model: nn.Module, dropped: Dropped) -> nn.Module:
    """Return a copy of a model without some of its parts.

    Args:
        model: not changed.
        dropped: paths of `blocks`, which pass their first input on; numbers of decoder `layers`,
            the last ones, and of `queries`.

    Raises:
        SubnetError: the model has no such part, or would have none left.
    """
    slim = copy.deepcopy(model)
    for path in dropped.get("blocks", ()):
        _drop_block(slim, str(path))
    numbers = {kind: [int(i) for i in dropped.get(kind, ())] for kind in ("layers", "queries")}
    if any(numbers.values()):
        _drop_numbers(slim, numbers)
    return slim


def counts_of(model: nn.Module) -> dict[str, int]:
    """Return how many decoder `layers` and `queries` a model has; nothing if it has none."""
    if not isinstance(model, QueryModel):
        return {}
    return {"layers": model.num_decoder_layers, "queries": model.num_queries}


def joined(first: Dropped, second: Dropped, counts: Mapping[str, int]) -> Dropped:
    """Return what is dropped of a whole model by two prunings, one after the other.

    Args:
        first: of the whole model.
        second: of the model without these.
        counts: `layers` and `queries` of the whole model.
    """
    found: dict[str, tuple[str | int, ...]] = {}
    blocks = (*first.get("blocks", ()), *second.get("blocks", ()))
    if blocks:
        found["blocks"] = blocks
    for kind in ("layers", "queries"):
        gone = set(first.get(kind, ()))
        left = [i for i in range(counts.get(kind, 0)) if i not in gone]
        both = gone | {left[int(i)] for i in second.get(kind, ())}
        if both:
            found[kind] = tuple(sorted(both, key=int))
    return found


def _drop_block(model: nn.Module, path: str) -> None:
    names = [name for name, _ in model.named_modules() if name]
    if path not in names:
        raise SubnetError(
            f"the model has no block {path!r} to drop{suggestion(path, names)}; the subnet belongs "
            "to another model"
        )
    parameters = inspect.signature(model.get_submodule(path).forward).parameters
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, nn.Identity() if len(parameters) == 1 else Shortcut())


def _drop_numbers(model: nn.Module, numbers: Mapping[str, Sequence[int]]) -> None:
    counts = counts_of(model)
    for kind, gone in numbers.items():
        count = counts.get(kind, 0)
        if gone and (max(gone) >= count or len(gone) == count):
            raise SubnetError(
                f"the model has {count} {kind}; cannot drop {len(gone)} of them, up to number "
                f"{max(gone)}; the subnet belongs to another model"
            )
    layers, queries = (sorted(numbers[kind]) for kind in ("layers", "queries"))
    assert isinstance(model, QueryModel)
    if layers:
        _check_last(layers, counts["layers"])
        model.keep_decoder_layers(layers[0])
    if queries:
        model.keep_queries([i for i in range(counts["queries"]) if i not in set(queries)])


def _check_last(gone: Sequence[int], count: int) -> None:
    if list(gone) != list(range(count - len(gone), count)):
        raise SubnetError(
            f"the last of {count} decoder layers can go, from one on; cannot drop {list(gone)}"
        )
