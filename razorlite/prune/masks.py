"""Channels set to zero in place, where layers read them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.prune._heads import KeptHeads
from razorlite.prune._norms import KeptNorm, ReadingFunction
from razorlite.prune.kept import kept_units
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph, Member


class Masks:
    """Factors on the channels of a model, by a hook before every layer that reads them.

    Layer norms, and products of activations that sum over channels, see those with other factors
    than 0 alone.

    A dropped channel (factor 0) has no influence, whatever activations make of it: the model
    computes what the slim one does. Factors may be anything, also tensors that learn.

    Args:
        model: gets the hooks; its weights are not touched.
        graph: its channel groups.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph) -> None:
        self._graph = graph
        self._readers: dict[str, Reader | KeptHeads | ReadingFunction] = {}
        self._norms: dict[str, KeptNorm] = {}
        self._makers: dict[str, _Maker] = {}
        self._handles: list[RemovableHandle] = []
        for group in graph.prunable:
            for member in group.members:
                if member.module not in (*self._readers, *self._norms) and not member.bare:
                    self._hook(model, member)
                if member.summed and member.module not in self._makers and not member.normed:
                    self._hook_maker(model, member.module)

    def keep(self, subnet: Subnet) -> "Masks":
        """Let only the units count that a subnet keeps.

        Raises:
            SubnetError: the subnet does not fit the model.
        """
        kept = kept_units(self._graph, subnet)
        free = {group.name for group in self._graph.prunable}
        return self.set({n: torch.from_numpy(m).float() for n, m in kept.items() if n in free})

    def set(self, factors: Mapping[str, Tensor]) -> "Masks":
        """Multiply units by factors, those of groups that are not named by 1.

        Args:
            factors: for names of prunable groups (size,) numbers.

        Raises:
            SubnetError: there is no such group, or it has another size.
        """
        groups = {group.name: group for group in self._graph.prunable}
        for name, values in factors.items():
            if name not in groups:
                raise SubnetError(f"no channel group {name!r} can shrink{suggestion(name, groups)}")
            if values.shape != (groups[name].size,):
                raise SubnetError(
                    f"group {name!r} takes {groups[name].size} factors, got {tuple(values.shape)}"
                )
        for reader in self._readers.values():
            reader.factors = None
        for norm in self._norms.values():
            norm.stays = None
        for maker in self._makers.values():
            maker.stays = None
        for name, values in factors.items():
            for member in groups[name].members:
                self._multiply(member, values)
        return self

    def _multiply(self, member: Member, values: Tensor) -> None:
        index = torch.tensor(member.index, device=values.device)
        own = torch.cat([values, values.new_ones(1)])[index]
        if member.side == "in":
            reader = self._readers[member.module]
            reader.factors = own if reader.factors is None else reader.factors * own
        elif member.module in self._norms and not member.bare:
            norm = self._norms[member.module]
            norm.stays = _both(norm.stays, own != 0)
        elif member.summed:
            maker = self._makers[member.module]
            maker.stays = _both(maker.stays, own != 0)

    def remove(self) -> None:
        """Take the hooks away; the model is what it was."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> "Masks":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _hook(self, model: nn.Module, member: Member) -> None:
        path, side = member.module, member.side
        module = model.get_submodule(path)
        owner = model.get_submodule(path.rpartition(".")[0])
        if side == "in" and isinstance(owner, nn.MultiheadAttention):
            heads = self._readers[path] = KeptHeads()
            self._handles.append(owner.register_forward_hook(heads, with_kwargs=True))
        elif side == "in" and member.as_function:
            function = self._readers[path] = ReadingFunction(_dims_of(module))
            self._handles.append(module.register_forward_hook(function, with_kwargs=True))
        elif side == "in":
            reader = self._readers[path] = Reader(module)
            self._handles.append(module.register_forward_pre_hook(reader, with_kwargs=True))
        elif member.normed:
            norm = self._norms[path] = KeptNorm()
            self._handles.append(module.register_forward_hook(norm, with_kwargs=True))

    def _hook_maker(self, model: nn.Module, path: str) -> None:
        module = model.get_submodule(path)
        maker = self._makers[path] = _Maker(module)
        self._handles.append(module.register_forward_hook(maker))


def _both(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first & second


def without_masks(model: nn.Module) -> nn.Module:
    """Take masks away from a copied model, whose hooks were copied with it."""
    for module in model.modules():
        hooks = (module._forward_pre_hooks, module._forward_hooks)
        flags = (module._forward_pre_hooks_with_kwargs, module._forward_hooks_with_kwargs)
        for known, wants in zip(hooks, flags, strict=True):
            for number, hook in list(known.items()):
                if isinstance(hook, _HOOKS):
                    del known[number]
                    wants.pop(number, None)
    return model


def _dims_of(module: nn.Module) -> int:
    """Return how many dimensions follow the channels of what a layer reads or makes."""
    return len(getattr(module, "kernel_size", ()))


class Reader:
    """The hook before one layer: its input times a factor for each channel."""

    def __init__(self, module: nn.Module) -> None:
        self.dims = _dims_of(module)
        attends = isinstance(module, nn.MultiheadAttention)
        self.names = ("query", "key", "value") if attends else ("input",)
        self.factors: Tensor | None = None

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.factors is None:
            return None
        count = len(self.names)
        given = (*(self._times(x) for x in args[:count]), *args[count:])
        named = {name: self._times(kwargs[name]) for name in self.names if name in kwargs}
        return given, {**kwargs, **named}

    def _times(self, x: Tensor) -> Tensor:
        assert self.factors is not None
        return x * self.factors.to(x.device, x.dtype).reshape(-1, *[1] * self.dims)


class _Maker:
    """The hook behind one layer: its output without the channels that go."""

    def __init__(self, module: nn.Module) -> None:
        self.dims = _dims_of(module)
        self.stays: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
        if self.stays is None:
            return None
        return out * self.stays.to(out.device, out.dtype).reshape(-1, *[1] * self.dims)


_HOOKS = (Reader, _Maker, KeptHeads, KeptNorm, ReadingFunction)
