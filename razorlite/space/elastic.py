"""Layers of which a part runs: fewer channels, a smaller kernel; all forms share their weights."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.space.dimension import Dimension, Values
from razorlite.space.mutable import Mutable, shapes
from razorlite.space.sides import Kept, Side, Whole, followed, largest

M = TypeVar("M", bound=nn.Module)
_OWN = ("_follows", "_sides", "_values", "_form", "_whole", "_base")  # beside a plain layer's


@dataclass(frozen=True)
class Form:
    """What a layer is at some values.

    Attributes:
        cuts: tensor name to what stays along each of its first dimensions.
        settings: attributes of the layer to their values.
    """

    cuts: Mapping[str, tuple[Kept, ...]]
    settings: Mapping[str, Any]


class Elastic(Mutable):
    """A layer that runs with a part of its weights, cut out anew in each forward.

    It has the names of a plain layer's weights, all of them, and the attributes (`in_channels`,
    ...) of the form it is set to. A subclass is a plain layer too, and says by `form` how that
    layer looks at some values.

    Attributes:
        plain: class of the plain layer.
    """

    plain: ClassVar[type[nn.Module]]
    _follows: tuple[Dimension, ...]
    _sides: Mapping[str, Side]
    _values: dict[str, Any]
    _form: Form
    _whole: dict[str, list[int]]
    _base: dict[str, Any]

    @classmethod
    @abstractmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return what of a plain layer can be elastic: "outputs", "inputs", "kernel" to numbers."""

    @classmethod
    def of(
        cls, layer: nn.Module, sides: Mapping[str, Side], dimensions: Mapping[str, Dimension]
    ) -> "Elastic":
        """Return an elastic layer with the weights of another, which it shares.

        Args:
            layer: of the class `plain`; or of this one, which then follows more.
            sides: of each that `sizes` tells; those left out stay whole, or as they are.
            dimensions: by name, all that the sides follow.

        Raises:
            ConfigError: at some values the layer cannot be cut, or a side follows another
                dimension already.
        """
        twin = twin_of(layer, cls)
        if not isinstance(layer, Elastic):
            twin._sides = {name: Whole(size) for name, size in cls.sizes(layer).items()}
            twin._whole, twin._base = shapes(layer), {}
        known = {d.name: d for d in layer.dimensions} if isinstance(layer, Elastic) else {}
        twin._follow(sides, {**known, **dimensions})
        return twin

    def _follow(self, sides: Mapping[str, Side], dimensions: Mapping[str, Dimension]) -> None:
        """Let sides that are whole follow dimensions, and try all of their values."""
        for name in sides:
            if self._sides[name].follows:
                followed_by = ", ".join(self._sides[name].follows)
                raise ConfigError(f"its {name} follow {followed_by} already")
        self._sides = {**self._sides, **sides}
        self._follows = tuple(dimensions[name] for name in followed(list(self._sides.values())))
        whole = {dimension.name: largest(dimension) for dimension in self._follows}
        for dimension in self._follows:
            for value in dimension.values:
                self.set({**whole, dimension.name: value})
        self.set(whole)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Those that its sides follow."""
        return self._follows

    @property
    def sides(self) -> Mapping[str, Side]:
        """Which of its channels or cells stay: "outputs", "inputs", "kernel", as far as it has."""
        return self._sides

    @property
    def values(self) -> Values:
        """What it is set to; the largest values to begin with."""
        return dict(self._values)

    def set(self, values: Values) -> None:
        """Run with the part of its weights that the values say."""
        own = {dimension.name: values[dimension.name] for dimension in self._follows}
        self._form, self._values = self._form_at(own), own
        for name in self._form.settings:
            self._base.setdefault(name, self.__dict__[name])
        self.__dict__.update({**self._base, **self._form.settings})

    @abstractmethod
    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return what the layer is, given what stays of each of its sides.

        It has the attributes of the whole layer when this is called.
        """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the plain layer's forward on the part of the weights that stays."""
        with self._cut():
            return super().forward(*args, **kwargs)

    def export(self, values: Values) -> nn.Module:
        """Return a plain layer with the part of the weights that stays."""
        form = self._form_at(values)
        plain = twin_of(self, self.plain)
        for name in _OWN:
            plain.__dict__.pop(name)
        plain.__dict__.update({**self._base, **form.settings})
        for name, part in self._parts({**self._parameters, **self._buffers}, form).items():
            kept = part.detach().clone()
            whole = self._parameters.get(name)
            if whole is not None:
                kept = nn.Parameter(kept, requires_grad=whole.requires_grad)
            setattr(plain, name, kept)
        return plain

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the part of each weight that stays.

        Raises:
            CheckpointError: a weight is not as large as the whole layer's.
        """
        for name, tensor in state.items():
            if name in self._whole and list(tensor.shape) != self._whole[name]:
                raise CheckpointError(
                    f"{name} of a supernet has the shape {tuple(self._whole[name])}, got "
                    f"{tuple(tensor.shape)}; if it is of a plain model, load it as it is"
                )
        return {**state, **self._parts(state, self._form_at(values))}

    def identity(self) -> Any:
        """Return its dimensions, which sides follow them, and its shapes."""
        return [super().identity(), {name: side.follows for name, side in self._sides.items()}]

    def extra_repr(self) -> str:
        """Return what printing shows."""
        return ", ".join([super().extra_repr(), *(f"{k}={v}" for k, v in self._values.items())])

    def _form_at(self, values: Values) -> Form:
        """Return the form at some values; the present one stays."""
        present = {name: self.__dict__[name] for name in self._base}
        self.__dict__.update(self._base)
        try:
            return self.form({name: side.kept(values) for name, side in self._sides.items()})
        finally:
            self.__dict__.update(present)

    @contextmanager
    def _cut(self) -> Iterator[None]:
        """Have only the part of the weights that stays, within the block."""
        stores: tuple[dict[str, Any], ...] = (self._parameters, self._buffers)
        before = [dict(store) for store in stores]
        try:
            for store in stores:
                store.update(self._parts(store, self._form))
            yield
            self._keep_statistics(before[1])
        finally:
            for store, values in zip(stores, before, strict=True):
                store.update(values)

    def _parts(self, tensors: Mapping[str, Tensor | None], form: Form) -> dict[str, Tensor]:
        """Return what stays of those tensors that a form cuts."""
        cut = {name: x for name, x in tensors.items() if x is not None and name in form.cuts}
        return {name: _part(x, form.cuts[name]) for name, x in cut.items()}

    @torch.no_grad()
    def _keep_statistics(self, whole: Mapping[str, Tensor | None]) -> None:
        """Write buffers back that were copied to be cut; ranges are views and need not be."""
        for name, tensor in whole.items():
            kept = self._form.cuts.get(name, ())
            if tensor is not None and self.training and kept and not isinstance(kept[0], range):
                new = self._buffers[name]
                assert new is not None
                tensor.index_copy_(0, _numbers(kept[0], tensor), new)


def twin_of(source: nn.Module, kind: type[M]) -> M:
    """Return a module of another class with the attributes of one, tensors included."""
    twin = kind.__new__(kind)
    parts = {n: copy.copy(v) if isinstance(v, dict | set) else v for n, v in vars(source).items()}
    twin.__dict__.update(parts)
    return twin


def _part(tensor: Tensor, kept: Sequence[Kept]) -> Tensor:
    """Return what stays of a tensor along its first dimensions, in the tensor's memory format."""
    part = tensor
    for i, numbers in enumerate(kept):
        if len(numbers) == part.shape[i]:
            continue
        if isinstance(numbers, range):
            part = part.narrow(i, numbers.start, len(numbers))
        else:
            part = part.index_select(i, _numbers(numbers, part))
    return part if part is tensor else part.contiguous(memory_format=_format(tensor))


def _numbers(kept: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(kept, device=like.device)


def _format(x: Tensor) -> torch.memory_format:
    lasting = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if lasting is None or x.is_contiguous() or not x.is_contiguous(memory_format=lasting):
        return torch.contiguous_format
    return lasting
