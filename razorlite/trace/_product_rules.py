"""Rules for products of activations, as attention has them: which channels meet, what it costs.

A dropped channel must count nothing where it is summed over: it comes straight from a layer that
makes it, by operations that leave zeros what they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from razorlite.trace import maps
from razorlite.trace._move_rules import fixed
from razorlite.trace.calls import Call, is_computed
from razorlite.trace.ledger import Ledger
from razorlite.trace.sizes import Ratio


@dataclass(frozen=True)
class _Product:
    """A sum over products of two activations.

    Attributes:
        maps: label maps of both, with a dimension for each of all letters, of size 1 where one
            lacks it.
        out: positions of the result's dimensions among the letters.
    """

    maps: tuple[Tensor, Tensor]
    out: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        first, second = self.maps
        return tuple(torch.broadcast_shapes(first.shape, second.shape))

    def result(self, labels: Tensor) -> Tensor:
        """Return the map of the result, given one with all letters."""
        inside = labels.permute(*self.out, *self._summed)
        for _ in self._summed:
            inside = inside.select(-1, 0)
        return maps.settle(inside.expand([self.sizes[d] for d in self.out]))

    @property
    def _summed(self) -> list[int]:
        return [d for d in range(len(self.sizes)) if d not in self.out]


def matmul(call: Call, ledger: Ledger) -> Any:
    """Product of matrices or of batches of them."""
    found = call.maps()
    if len(found) != 2 or min(x.dim() for x in found) < 2:
        return fixed(call, ledger)
    return _multiply(call, ledger, _matrices(*found))


def einsum(call: Call, ledger: Ledger) -> Any:
    """Sum of products of two tensors that are named by letters, each once in each of them."""
    found, text = call.maps(), str(call.argument(0, "equation")).replace(" ", "")
    terms, _, out = text.partition("->")
    letters = terms.split(",")
    plain = "." not in text and all(len(set(term)) == len(term) for term in letters)
    if len(found) != 2 or len(letters) != 2 or "->" not in text or not plain:
        return fixed(call, ledger)
    return _multiply(call, ledger, _named(found, letters, out))


def attention(call: Call, ledger: Ledger) -> Any:
    """`scaled_dot_product_attention`: where it takes its scale from the width, that stays."""
    query, key, value, *others = call.maps()
    for other in others:
        ledger.fix(maps.numbers(other), f"mask of {call.where}")
    if call.argument(7, "enable_gqa", False):
        return fixed(call, ledger)
    scale = call.as_written(6, "scale")
    if scale is None or is_computed(scale) or isinstance(scale, Ratio):
        for x in (query, key):
            if x.dim() - 1 in maps.varying(x):
                reason = f"the scale follows the width of heads at {call.where}"
                ledger.fix(maps.numbers(x), reason)
    weights = _multiply(call, ledger, _matrices(query, key.transpose(-2, -1)))
    return _multiply(call, ledger, _matrices(weights, value))


def _matrices(first: Tensor, second: Tensor) -> _Product:
    batch = "".join(chr(ord("a") + i) for i in range(max(first.dim(), second.dim()) - 2))
    letters = [batch[len(batch) + 2 - x.dim() :] for x in (first, second)]
    return _named((first, second), [letters[0] + "xy", letters[1] + "yz"], batch + "xz")


def _named(found: Sequence[Tensor], letters: Sequence[str], out: str) -> _Product:
    order = "".join(dict.fromkeys("".join(letters)))
    first, second = (
        x.permute(*sorted(range(x.dim()), key=lambda d: order.index(term[d])))[
            tuple(slice(None) if letter in term else None for letter in order)
        ]
        for x, term in zip(found, letters, strict=True)
    )
    return _Product((first, second), tuple(order.index(letter) for letter in out))


def _multiply(call: Call, ledger: Ledger, product: _Product) -> Tensor:
    """Tie what is multiplied and summed over; return the map of the result."""
    blank = maps.blank([product.sizes[d] for d in product.out])
    varying = [set(maps.varying(x)) for x in product.maps]
    for x, along in zip(product.maps, varying, strict=True):
        summed = along - set(product.out)
        if not along or (summed and (summed != along or ledger.is_shifted(maps.numbers(x)))):
            ledger.fix(maps.numbers(x), f"multiplied with others at {call.where}")
    if all(varying):
        if varying[0] != varying[1]:
            return _left(call, ledger, product)
        first, second = (maps.compact(x).numpy() for x in product.maps)
        labels = torch.from_numpy(ledger.meet(first, second, call.where))
    elif any(varying):
        number = int(bool(varying[1]))
        labels = maps.compact(product.maps[number])
        other = product.maps[1 - number].shape
        if any(other[d] > 1 or d not in product.out for d in varying[number]):
            return _left(call, ledger, product)
    else:
        return blank
    ledger.multiply(maps.numbers(labels), math.prod(product.sizes) // labels.numel())
    if set().union(*varying) <= set(product.out):
        return maps.rooted(product.result(labels), ledger)
    ledger.summed.append(maps.numbers(labels))
    return blank


def _left(call: Call, ledger: Ledger, product: _Product) -> Tensor:
    """Fix what is multiplied; the result has the channels that only lie along its dimensions."""
    for x in product.maps:
        ledger.fix(maps.numbers(x), f"multiplied with what cannot be followed at {call.where}")
    for x in reversed(product.maps):
        if maps.varying(x) and set(maps.varying(x)) <= set(product.out):
            return product.result(x)
    return maps.blank([product.sizes[d] for d in product.out])
