"""Turns a model into a supernet."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from razorlite.core.config import Partial
from razorlite.core.errors import ConfigError
from razorlite.core.registry import register, suggestion
from razorlite.space.mutable import OneOf
from razorlite.space.placeholder import Placeholder
from razorlite.space.search_space import SearchSpace

_DEPTH = 16  # of placeholders in choices of placeholders


class Preparer(ABC):
    """Puts mutables into a model; several may do so one after the other."""

    @abstractmethod
    def put(self, model: nn.Module, shape: tuple[int, int]) -> None:
        """Put mutables into a model, in place.

        Args:
            model: plain, or with the mutables of earlier preparers.
            shape: (height, width) in pixels of images that the model takes.

        Raises:
            ConfigError: the preparer does not fit the model, which is unchanged.
        """

    def loaded(self, model: nn.Module) -> None:  # noqa: B027 a hook that few need
        """Rearrange a plain model's weights that a supernet starts from; nothing here.

        The supernet must compute what it did at its largest.
        """

    def prepare(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> SearchSpace:
        """Put mutables into a model, in place, and return what may be chosen.

        Arguments, errors: as for `put`.
        """
        return prepare(model, [self], shape)


def prepare(
    model: nn.Module, preparers: Sequence[Preparer], shape: tuple[int, int] = (224, 224)
) -> SearchSpace:
    """Let several preparers put mutables into a model, in place, and return what may be chosen.

    Args:
        model: a plain model, perhaps with placeholders.
        preparers: in the order in which they work; each sees the mutables of those before it.
        shape: (height, width) in pixels of images that the model takes.

    Raises:
        ConfigError: a preparer does not fit the model.
    """
    for preparer in preparers:
        preparer.put(model, shape)
    model.train(model.training)
    return SearchSpace(model)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the placeholders of one group may become.

    Attributes:
        choices: name of each operation to what builds it, called with the placeholder's own
            arguments (in_channels, out_channels, stride, ...). It may have placeholders itself.
    """

    choices: dict[str, Partial[nn.Module]]


@register()
class Mutator(Preparer):
    """Puts a choice of operations where each placeholder is.

    Placeholders of an operation become choices, too. Their dimension is named after the outer one
    and the operation, `OUTER.OPERATION.SPACE_ID`, and counts where that operation is chosen.
    """

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
                if not name or "." in name or hasattr(nn.ModuleDict(), name):
                    raise ConfigError(
                        f"mutator: group {group!r}: {name!r} cannot name a choice; use no dot and "
                        f"no name that a module has itself, such as 'type'"
                    )
        self.placeholder_mapping = dict(placeholder_mapping)

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Replace every placeholder of `model`, in place.

        Raises:
            ConfigError: the model has no placeholders, or groups and mapping do not agree; the
                model is unchanged.
        """
        if not _placeholders(model):
            raise ConfigError(
                f"mutator: {type(model).__name__} has no placeholders; use a searchable backbone, "
                f"and prepare a model only once"
            )
        builder = _Builder(self.placeholder_mapping)
        built = builder.one_each(model)
        builder.check_all_used()
        for path, mutable in built.items():
            set_module(model, path, mutable)


class _Builder:
    """Builds choices, and notes which groups there are."""

    def __init__(self, mapping: dict[str, Choices]) -> None:
        self.mapping = mapping
        self.groups: set[str] = set()

    def one_each(
        self, module: nn.Module, path: str = "", outer: tuple[str, ...] = ()
    ) -> dict[str, OneOf]:
        """Return the choices that take the positions of a module's placeholders, by path from it.

        Args:
            module: is not changed.
            path: of the module in the model.
            outer: names of the dimensions and choices around it, the outermost first.
        """
        marks = _placeholders(module)
        built: dict[Placeholder, OneOf] = {}
        for inside, mark in marks.items():
            if mark not in built:
                built[mark] = self._one_of(".".join(filter(None, (path, inside))), mark, outer)
        return {inside: built[mark] for inside, mark in marks.items()}

    def _one_of(self, path: str, mark: Placeholder, outer: tuple[str, ...]) -> OneOf:
        self.groups.add(mark.group)
        if mark.group not in self.mapping:
            raise ConfigError(
                f"mutator: the model's group {mark.group!r} has no entry in placeholder_mapping, "
                f"which has {sorted(self.mapping)}; add it"
            )
        if len(outer) > 2 * _DEPTH:
            raise ConfigError(
                f"mutator: group {mark.group!r} has placeholders in its choices without end"
            )
        operations = {
            name: self._operation(path, mark, (*outer, mark.space_id, name))
            for name in self.mapping[mark.group].choices
        }
        name = ".".join((*outer, mark.space_id))
        return OneOf(choices=operations, space_id=name, kwargs=mark.kwargs)

    def check_all_used(self) -> None:
        """Refuse a mapping with groups that no placeholder has."""
        for group in sorted(self.mapping.keys() - self.groups):
            raise ConfigError(
                f"mutator: placeholder_mapping names {group!r}, but the model's groups are "
                f"{sorted(self.groups)}{suggestion(group, self.groups)}"
            )

    def _operation(self, path: str, mark: Placeholder, outer: tuple[str, ...]) -> nn.Module:
        """Build the choice that `outer` ends with, its own placeholders replaced."""
        choice = outer[-1]
        try:
            operation = self.mapping[mark.group].choices[choice](**mark.kwargs)
        except TypeError as error:
            raise ConfigError(f"mutator: {choice!r} does not fit {path}: {error}") from error
        inner = self.one_each(operation, f"{path}.choices.{choice}", outer)
        for inside, mutable in inner.items():
            if not inside:  # the operation is a placeholder
                return mutable
            set_module(operation, inside, mutable)
        return operation


def _placeholders(model: nn.Module) -> dict[str, Placeholder]:
    """Return all placeholders by path; a shared one has several."""
    every = model.named_modules(remove_duplicate=False)
    return {path: module for path, module in every if isinstance(module, Placeholder)}


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module into the position of another."""
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def put_in_place(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module into every position of another."""
    every = list(model.named_modules(remove_duplicate=False))
    for path in [path for path, module in every if module is old]:
        set_module(model, path, new)
