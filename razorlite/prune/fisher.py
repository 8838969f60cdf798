"""Importance by the squared gradients of masks: Group Fisher."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.prune.data_importance import DataImportance, Values
from razorlite.prune.importance import Scale
from razorlite.trace import ChannelGroup, Member


@register()
class GroupFisherImportance(DataImportance):
    """Second-order change of the loss without a unit: the squared gradient of its mask.

    The mask of a unit multiplies what all layers read of it; its gradient for one image is the sum,
    over these layers, their calls (a head that is shared by levels) and all places, of activation
    times gradient. Squares of these are summed over images. As the loss is the same for all groups,
    scores are compared as they are; to divide them by what a channel costs, as in the paper, see
    `Pruner`'s `per`.

    Where rows of a layer cannot be told apart by image, they count as one further image.

    Group Fisher Pruning, https://arxiv.org/abs/2108.00708, eq. 5 and 6.
    """

    degree = 2

    def __init__(self, *, batches: Count = 10, scale: Scale = "none") -> None:
        """Keep the settings.

        Args:
            batches, scale: as for `DataImportance`.
        """
        super().__init__(batches=batches, scale=scale)

    @contextmanager
    def watching(
        self, model: nn.Module, groups: Sequence[ChannelGroup], samples: int
    ) -> Iterator[Values]:
        """Sum activations times gradients of each image; see `DataImportance.watching`."""
        taps = {path: _tap(model, path, side, samples) for path, side in _places(groups).items()}
        try:
            yield lambda: {group.name: _squares(group, taps, samples) for group in groups}
        finally:
            for tap in taps.values():
                tap.remove()


def _tapped(group: ChannelGroup) -> list[Member]:
    """Return the members whose channels are watched: what reads them, else what makes them."""
    layers = [member for member in group.members if not member.bare]
    readers = [member for member in layers if member.side == "in"]
    return readers or [member for member in layers if member.summed]


def _places(groups: Sequence[ChannelGroup]) -> dict[str, str]:
    return {member.module: member.side for group in groups for member in _tapped(group)}


def _squares(group: ChannelGroup, taps: Mapping[str, "_Tap"], samples: int) -> Tensor:
    """Return the (size,) sums over images of the squared gradients of the group's masks."""
    total = torch.zeros(samples + 1, group.size, dtype=torch.float64)
    for member in _tapped(group):
        value, index = taps[member.module].total, torch.tensor(member.index)
        if value is not None:
            total.index_add_(1, index[index >= 0], value.double().cpu()[:, index >= 0])
    return total.square().sum(0)


def _tap(model: nn.Module, path: str, side: str, samples: int) -> "_Tap":
    module = model.get_submodule(path)
    owner = model.get_submodule(path.rpartition(".")[0])
    if side == "in" and isinstance(owner, nn.MultiheadAttention):
        return _WeightTap(module, samples)
    return _InputTap(module, samples) if side == "in" else _OutputTap(module, samples)


class _Tap:
    """Gathers (samples + 1, C) activations times gradients at one layer.

    Attributes:
        total: the last row is of what belongs to no single image; None before any gradient.
    """

    handle: RemovableHandle

    def __init__(self, module: Any, samples: int) -> None:
        self.samples, self.dims = samples, len(getattr(module, "kernel_size", ()))
        self.total: Tensor | None = None
        self.watch(module)

    def watch(self, module: Any) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        self.handle.remove()

    def through(self, x: Tensor) -> Tensor:
        """Return an (N, …) map to go on with, whose gradient is gathered."""
        if not torch.is_grad_enabled():
            return x
        seen = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        values = seen.detach()
        seen.register_hook(lambda gradient: self.add(values, gradient))
        return seen

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """Add a map (N, …), or (L, N, …) of a sequence of places, times its gradient."""
        channel = x.dim() - self.dims - 1
        products = x.float() * gradient.float()
        if len(x) != self.samples and channel == 2 and x.shape[1] == self.samples:
            products = products.transpose(0, 1)
        places = [dim for dim in range(1, x.dim()) if dim != channel]
        self.gather(products.sum(places) if places else products)

    def gather(self, rows: Tensor) -> None:
        """Add (N, C) values of rows, which are of the images in turn if N is a multiple of them."""
        own = rows.new_zeros(self.samples + 1, rows.shape[1])
        if len(rows) % self.samples:
            own[-1] = rows.sum(0)
        else:
            own[:-1] = rows.reshape(self.samples, -1, rows.shape[1]).sum(1)
        self.total = own if self.total is None else self.total + own


class _InputTap(_Tap):
    """Before a layer that reads the channels."""

    def watch(self, module: nn.Module) -> None:
        attends = isinstance(module, nn.MultiheadAttention)
        self.names = ("query", "key", "value") if attends else ("input",)
        self.handle = module.register_forward_pre_hook(self._hook, with_kwargs=True)

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        count = len(self.names)
        named = {name: kwargs[name] for name in self.names if name in kwargs}
        read = {id(x): x for x in (*args[:count], *named.values())}
        seen = {number: self.through(x) for number, x in read.items()}  # queries may be the keys
        given = (*(seen[id(x)] for x in args[:count]), *args[count:])
        return given, {**kwargs, **{name: seen[id(x)] for name, x in named.items()}}


class _OutputTap(_Tap):
    """Behind a layer that makes channels which no layer reads, but a product of activations."""

    def watch(self, module: nn.Module) -> None:
        self.handle = module.register_forward_hook(lambda _, __, out: self.through(out))


class _WeightTap(_Tap):
    """At the projection behind attention heads, which is no call of its own.

    Its weights times their gradients are the masks' gradients of the whole batch.
    """

    def watch(self, module: nn.Linear) -> None:
        self.handle = module.weight.register_hook(self._keep(module.weight))

    def _keep(self, weight: Tensor) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            products = weight.detach().float() * gradient.float()
            own = products.new_zeros(self.samples + 1, weight.shape[1])
            own[-1] = products.sum(0)
            self.total = own if self.total is None else self.total + own

        return keep
