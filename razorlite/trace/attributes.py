"""Whole numbers that a model's own modules keep as attributes, such as `self.num_heads`.

Where a forward lays out channels by one, as `x.view(n, t, self.num_heads, self.width)` and
`x.split([self.c, self.c], 1)` do, it can shrink with them: the slim model's attribute is how many
of the channels that it counts are left. Of several in one view the first one shrinks, so that of
heads and their width whole heads go.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Owner:
    """Where an attribute is.

    Attributes:
        module: path of its module.
        name: of the attribute.
        item: place in a tuple or list, or -1 for a number by itself.
        reckoned: not empty once a forward has computed with it: then it must stay.
    """

    module: str
    name: str
    item: int
    reckoned: list[bool] = field(default_factory=list, compare=False)


class Attribute(int):
    """An attribute's value, or a whole part of it.

    Attributes:
        owner: where it is.
        times: how many times this number the attribute is.
    """

    owner: Owner
    times: int

    @staticmethod
    def of(owner: Owner, value: int, times: int = 1) -> "Attribute":
        """Return a number that knows its owner."""
        made = Attribute(value)
        made.owner, made.times = owner, times
        return made

    def __mul__(self, other: Any) -> Any:
        """Return a product of two attributes that knows both."""
        if isinstance(other, Attribute):
            made = Product(int(self) * int(other))
            made.factors = self, other
            return made
        return _reckoned(int.__mul__, self, other)

    def __floordiv__(self, other: Any) -> Any:
        """Return a part that knows its owner, too."""
        if type(other) is int and other > 0 and int(self) % other == 0:
            return Attribute.of(self.owner, int(self) // other, self.times * other)
        return _reckoned(int.__floordiv__, self, other)


class Product(int):
    """The product of two attributes, such as of heads and their width.

    Attributes:
        factors: both of them, the first one as the slower.
    """

    factors: tuple[Attribute, Attribute]


def reckon(number: Any) -> None:
    """Note that a forward computes with a number."""
    for part in number.factors if isinstance(number, Product) else (number,):
        if isinstance(part, Attribute):
            part.owner.reckoned.append(True)


def _reckoned(run: Callable[..., Any], number: Attribute, other: Any) -> Any:
    reckon(number)
    reckon(other)
    return run(int(number), other)


def _install(names: Collection[str]) -> None:
    for name in names:
        run = getattr(int, f"__{name}__")
        setattr(Attribute, f"__{name}__", lambda x, y, run=run: _reckoned(run, x, y))


_install(
    [f"{side}{name}" for side in ("", "r") for name in ("add", "sub", "truediv", "pow", "mod")]
)
_install(["rmul", "rfloordiv"])


def remember_attributes(model: nn.Module, is_leaf: Callable[[nn.Module, str], bool]) -> None:
    """Let the whole numbers of a copy's modules know their owners; layers keep plain ones."""
    for path, module in model.named_modules():
        if not is_leaf(module, path):
            numbers = {name: _owned(path, name, x) for name, x in vars(module).items()}
            vars(module).update(numbers)


def _owned(path: str, name: str, value: Any) -> Any:
    if name.startswith("_"):
        return value
    if type(value) is int and value > 1:
        return Attribute.of(Owner(path, name, -1), value)
    if type(value) in (tuple, list) and all(type(x) is int for x in value):
        parts = (Attribute.of(Owner(path, name, i), x) for i, x in enumerate(value))
        return type(value)(x if x > 1 else int(x) for x in parts)
    return value


def set_attribute(module: nn.Module, name: str, item: int, value: int) -> None:
    """Give an attribute, or one of the numbers in it, another value."""
    old = getattr(module, name)
    if item >= 0:
        new = [value if i == item else x for i, x in enumerate(old)]
        setattr(module, name, type(old)(new))
    else:
        setattr(module, name, value)
