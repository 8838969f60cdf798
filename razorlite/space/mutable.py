"""A place in a model where one of several operations runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn


class Mutable(nn.Module):
    """Runs the selected one of its operations; the others cost nothing.

    Args:
        choices: name of each operation to its module.
        space_id: name of this place in the search space.
        kwargs: what the place gave all of them (in_channels, stride, ...), for the fingerprint.

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
    def active(self) -> nn.Module:
        """Return the operation that runs."""
        return self.choices[self.selected]

    def forward(self, x: Tensor) -> Tensor:
        """Run the selected operation."""
        return self.choices[self.selected](x)

    def extra_repr(self) -> str:
        """Return what printing shows."""
        return f"{self.space_id!r}, selected={self.selected!r}"


def mutables(model: nn.Module) -> dict[str, Mutable]:
    """Return all mutables of a model by module path, in order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Mutable)}


def active_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of the selected path, each once: all but the choices not selected."""
    seen: set[nn.Module] = set()
    todo = [model]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        yield module
        below = [module.active] if isinstance(module, Mutable) else list(module.children())
        todo += reversed(below)
