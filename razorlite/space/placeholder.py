"""The mark that a searchable model leaves where an operation may vary."""

from typing import Any

from torch import nn


class Placeholder(nn.Module):
    """Stands where a `Mutator` puts a choice of operations.

    Args:
        group: name under which the mutator's `placeholder_mapping` gives the choices.
        space_id: name of this place in the search space; places of one name choose alike.
        **kwargs: what every operation put here is built with (in_channels, out_channels, ...).
    """

    def __init__(self, group: str, space_id: str, **kwargs: Any) -> None:
        super().__init__()
        self.group, self.space_id, self.kwargs = group, space_id, kwargs

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: there is nothing here yet."""
        raise RuntimeError(
            f"{self.space_id!r} is still a placeholder; call Mutator.prepare(model) before "
            f"running the model"
        )

    def extra_repr(self) -> str:
        """Return what printing shows."""
        kwargs = "".join(f", {key}={value}" for key, value in self.kwargs.items())
        return f"{self.group!r}, {self.space_id!r}{kwargs}"
