"""Channels set to zero in place, where layers read them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.prune.kept import kept_units
from razorlite.space.subnet import Subnet
from razorlite.trace import ChannelGraph


class Masks:
    """Factors on the channels of a model, by a hook before every layer that reads them.

    A dropped channel (factor 0) has no influence, whatever activations make of it: the model
    computes what the slim one does. Factors may be anything, also tensors that learn.

    Args:
        model: gets the hooks; its weights are not touched.
        graph: its channel groups.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph) -> None:
        self._graph = graph
        self._readers: dict[str, _Reader] = {}
        self._handles: list[RemovableHandle] = []
        for group in graph.prunable:
            for member in group.members:
                if member.side == "in" and member.module not in self._readers:
                    self._hook(model, member.module)

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
        for name, values in factors.items():
            for member in groups[name].members:
                if member.side == "in":
                    self._readers[member.module].multiply(values, np.asarray(member.index))
        return self

    def remove(self) -> None:
        """Take the hooks away; the model is what it was."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> "Masks":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _hook(self, model: nn.Module, path: str) -> None:
        module = model.get_submodule(path)
        reader = self._readers[path] = _Reader(module)
        self._handles.append(module.register_forward_pre_hook(reader, with_kwargs=True))


def without_masks(model: nn.Module) -> nn.Module:
    """Take masks away from a copied model, whose hooks were copied with it."""
    for module in model.modules():
        for number, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, _Reader):
                del module._forward_pre_hooks[number]
                module._forward_pre_hooks_with_kwargs.pop(number, None)
    return model


class _Reader:
    """The hook before one layer: its input times a factor for each channel."""

    def __init__(self, module: nn.Module) -> None:
        self.dims = len(getattr(module, "kernel_size", ()))
        self.factors: Tensor | None = None

    def multiply(self, values: Tensor, index: np.ndarray) -> None:
        """Multiply the channels of a group, given each channel's unit or -1."""
        values = torch.cat([values, values.new_ones(1)])[torch.from_numpy(index).to(values.device)]
        self.factors = values if self.factors is None else self.factors * values

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.factors is None:
            return None
        x = args[0] if args else kwargs["input"]
        factors = self.factors.to(x.device, x.dtype).reshape(-1, *[1] * self.dims)
        return (
            ((x * factors, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x * factors})
        )
