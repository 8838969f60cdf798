"""Turns a model with placeholders into a supernet."""

from dataclasses import dataclass

from torch import nn

from razorlite.core.config import Partial
from razorlite.core.errors import ConfigError
from razorlite.core.registry import register, suggestion
from razorlite.space.mutable import Mutable
from razorlite.space.placeholder import Placeholder
from razorlite.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the places of one group may hold.

    Attributes:
        choices: name of each operation to what builds it, called with the place's own arguments
            (in_channels, out_channels, stride, ...).
    """

    choices: dict[str, Partial[nn.Module]]


@register()
class Mutator:
    """Puts a choice of operations in the place of each placeholder."""

    def __init__(self, *, placeholder_mapping: dict[str, Choices]) -> None:
        """Keep the mapping.

        Args:
            placeholder_mapping: name of each group of placeholders to its choices.

        Raises:
            ConfigError: a group has no choices, or a choice's name cannot be a module's name.
        """
        for group, options in placeholder_mapping.items():
            if not options.choices:
                raise ConfigError(f"mutator: group {group!r} has no choices; name at least one")
            for name in options.choices:
                if not name or "." in name:
                    raise ConfigError(
                        f"mutator: group {group!r}: {name!r} cannot name a choice; use no dot"
                    )
        self.placeholder_mapping = dict(placeholder_mapping)

    def prepare(self, model: nn.Module) -> SearchSpace:
        """Replace every placeholder of `model`, in place, and return what may be chosen.

        Raises:
            ConfigError: the model has no placeholders, or groups and mapping do not agree; the
                model is unchanged.
        """
        places = [(n, m) for n, m in model.named_modules() if isinstance(m, Placeholder)]
        self._check(model, [place for _, place in places])
        built = [(name, self._build(name, place)) for name, place in places]
        for name, mutable in built:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, mutable)
        model.train(model.training)
        return SearchSpace(model)

    def _build(self, name: str, place: Placeholder) -> Mutable:
        options = self.placeholder_mapping[place.group].choices
        operations: dict[str, nn.Module] = {}
        for choice, build in options.items():
            try:
                operations[choice] = build(**place.kwargs)
            except TypeError as error:
                raise ConfigError(f"mutator: {choice!r} does not fit {name}: {error}") from error
        return Mutable(choices=operations, space_id=place.space_id, kwargs=place.kwargs)

    def _check(self, model: nn.Module, places: list[Placeholder]) -> None:
        if not places:
            raise ConfigError(
                f"mutator: {type(model).__name__} has no placeholders; use a searchable backbone, "
                f"and prepare a model only once"
            )
        groups = {place.group for place in places}
        for group in sorted(groups - self.placeholder_mapping.keys()):
            raise ConfigError(
                f"mutator: the model's group {group!r} has no entry in placeholder_mapping, which "
                f"has {sorted(self.placeholder_mapping)}; add it"
            )
        for group in sorted(self.placeholder_mapping.keys() - groups):
            raise ConfigError(
                f"mutator: placeholder_mapping names {group!r}, but the model's groups are "
                f"{sorted(groups)}{suggestion(group, groups)}"
            )
