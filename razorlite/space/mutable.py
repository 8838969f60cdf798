"""A layer that can be set to one of several forms."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from razorlite.space.dimension import Dimension, Value, Values


class Mutable(nn.Module, ABC):
    """A module whose form follows one or several dimensions of a search space.

    A subclass is a module that runs in the form it is set to, and gives that form as a plain
    module. Mappings of values may be whole points of a space: a mutable takes those it follows.

    Set and exported forms compute the same, to the bit.
    """

    @property
    @abstractmethod
    def dimensions(self) -> tuple[Dimension, ...]:
        """What its form follows; mutables that name one dimension follow it together."""

    @property
    @abstractmethod
    def values(self) -> Values:
        """What it is set to, by the names of its dimensions."""

    @abstractmethod
    def set(self, values: Values) -> None:
        """Take the form of the values; they are known to be among those of the dimensions."""

    @abstractmethod
    def export(self, values: Values) -> nn.Module:
        """Return a plain module that computes what this one computes when set to the values.

        It may be a module inside this one or share tensors with it, as the search space copies it;
        mutables inside it are exported by the search space. The present form stays.
        """

    @abstractmethod
    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return those weights that the exported module has, under its names and in its shapes.

        Args:
            state: of this module, by the names of its state dict; mutables inside it have their
                exported names and shapes already.
            values: as for `export`.
        """

    def running(self) -> Iterable[nn.Module]:
        """Return the modules directly below this one that run in its present form."""
        return self.children()

    def additions(self) -> dict[str, Tensor]:
        """Return the weights by name that no plain model has: its checkpoint may lack them."""
        return {}

    def condition(self, path: str) -> Mapping[str, tuple[Value, ...]]:
        """Return under which values of its dimensions a module inside it runs.

        Args:
            path: of that module, from this one.

        Returns:
            Dimensions to values, as in `Dimension.when`; empty where it always runs.
        """
        return {}

    def identity(self) -> Any:
        """Return plain values that tell it apart from other mutables, for the fingerprint."""
        dimensions = [[d.name, d.values, d.when] for d in self.dimensions]
        return [type(self).__name__, dimensions, shapes(self)]


class OneOf(Mutable):
    """Runs the selected one of its operations; the others cost nothing.

    Args:
        choices: name of each operation to its module.
        space_id: name of the dimension; its values are the names of the operations.
        kwargs: what all of them were built with (in_channels, stride, ...), for the fingerprint.

    Attributes:
        choices: the operations, in the order given.
        selected: name of the operation that runs; the first to begin with.
    """

    choices: nn.ModuleDict

    def __init__(
        self,
        *,
        choices: Mapping[str, nn.Module],
        space_id: str,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.choices = nn.ModuleDict(choices)
        self.space_id, self.kwargs = space_id, dict(kwargs or {})
        self.selected = next(iter(choices))

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The one that its operations are the values of."""
        return (Dimension(self.space_id, tuple(self.choices)),)

    @property
    def values(self) -> Values:
        """The name of the operation that runs."""
        return {self.space_id: self.selected}

    @property
    def active(self) -> nn.Module:
        """Return the operation that runs."""
        return self.choices[self.selected]

    def set(self, values: Values) -> None:
        """Select an operation."""
        self.selected = str(values[self.space_id])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the selected operation on whatever it takes."""
        return self.choices[self.selected](*args, **kwargs)

    def export(self, values: Values) -> nn.Module:
        """Return the chosen operation."""
        return self.choices[str(values[self.space_id])]

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the chosen operation's weights."""
        prefix = f"choices.{values[self.space_id]}."
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    def running(self) -> Iterable[nn.Module]:
        """Return the selected operation."""
        return [self.active]

    def condition(self, path: str) -> Mapping[str, tuple[Value, ...]]:
        """Return which choice of operation a module belongs to."""
        return {self.space_id: (path.split(".")[1],)}

    def identity(self) -> Any:
        """Return its name, arguments and operations."""
        operations = {name: shapes(module) for name, module in self.choices.items()}
        return [self.space_id, self.kwargs, operations]

    def extra_repr(self) -> str:
        """Return what printing shows."""
        return f"{self.space_id!r}, selected={self.selected!r}"


def shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of a module's weights by name."""
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def mutables(model: nn.Module) -> dict[str, Mutable]:
    """Return all mutables of a model by module path, outer ones first."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Mutable)}


def active_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of the selected path, each once: all but those not running."""
    seen: set[nn.Module] = set()
    todo = [model]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        yield module
        below = module.running() if isinstance(module, Mutable) else module.children()
        todo += reversed(list(below))
