"""An exponential moving average of the weights, to evaluate and to ship."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from razorlite.core.errors import CheckpointError
from razorlite.core.ranges import ShareBelowOne, Whole, checked

Pair = tuple[Tensor, Tensor]  # an average and what it follows


@checked
@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """How fast the average forgets.

    Attributes:
        decay: weight of the old average in an update, once warmed up.
        warmup_steps: the decay rises as decay * (1 - exp(-step / warmup_steps)); 0 for none.
    """

    decay: ShareBelowOne = 0.9998
    warmup_steps: Whole = 2000

    def decay_at(self, updates: int) -> float:
        """Return the decay of an update, given the number of those before it."""
        if not self.warmup_steps:
            return self.decay
        return self.decay * (1 - math.exp(-(updates + 1) / self.warmup_steps))


class Ema:
    """A second set of weights that follows a model's.

    An update moves the parameters that were trained in the step and the floating buffers of their
    modules (batch-norm statistics); so a supernet pays for the active path only. The statistics of
    norms without a trainable parameter may change in any step and move in every update. All other
    buffers are copied when the average is used.

    Args:
        model: the model to follow; its tensors are held by reference, so it must stay on its
            device and keep its parameters.
        config: decay and warm-up.
    """

    def __init__(self, *, model: nn.Module, config: EmaConfig) -> None:
        self.config = config
        self.updates = 0
        self._live = _unique(model)
        self._average = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._parameters: dict[Tensor, Pair] = {}
        self._modules: list[tuple[Sequence[Tensor], list[Pair]]] = []
        self._owners: dict[Tensor, list[int]] = {}
        self._copied = self._assign(model)

    def decay(self) -> float:
        """Return the decay of the coming update."""
        return self.config.decay_at(self.updates)

    @torch.no_grad()
    def update(self, trained: Collection[Tensor]) -> None:
        """Move the average towards the weights that a step has trained."""
        weight = 1 - self.decay()
        self.updates += 1
        pairs = [self._parameters[p] for p in trained if p in self._parameters]
        pairs += [pair for module in self._changed(trained) for pair in self._modules[module][1]]
        if pairs:
            averages, sources = zip(*pairs, strict=True)
            torch._foreach_lerp_(averages, sources, weight)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average into the model for the time of a `with` block."""
        for name in self._copied:
            self._average[name].copy_(self._live[name].detach())
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def tensors(self) -> list[Tensor]:
        """Return all averages."""
        return list(self._average.values())

    def buffers(self) -> list[Tensor]:
        """Return the averaged floating buffers."""
        return [
            self._average[name]
            for name, live in self._live.items()
            if not isinstance(live, nn.Parameter) and live.is_floating_point()
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the average (by reference) and the number of updates."""
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: the state belongs to another model.
        """
        if state["average"].keys() != self._average.keys():
            raise CheckpointError(
                "the checkpoint's EMA is of another model; resume with the one it was trained with"
            )
        self.updates = state["updates"]
        for name, tensor in state["average"].items():
            self._average[name].copy_(tensor)

    def _swap(self) -> None:
        for name, live in self._live.items():
            average = self._average[name]
            live.data, average.data = average.data, live.data

    def _changed(self, trained: Collection[Tensor]) -> set[int]:
        """Return the modules whose buffers may have changed in a step."""
        active = {module for p in trained for module in self._owners.get(p, ())}
        untrained = {
            module
            for module, (own, _) in enumerate(self._modules)
            if not any(parameter.requires_grad for parameter in own)
        }
        return active | untrained

    def _assign(self, model: nn.Module) -> list[str]:
        """Find what follows what; return the names of what is only copied."""
        names = {tensor: name for name, tensor in self._live.items()}
        for module in model.modules():
            own = [p for p in module.parameters(recurse=False) if p in names]
            for parameter in own:
                self._parameters[parameter] = (self._average[names[parameter]], parameter)
            if own or isinstance(module, _NormBase):
                self._follow(module, own, names)
        return [n for b, n in names.items() if b not in self._parameters]

    def _follow(self, module: nn.Module, own: Sequence[Tensor], names: dict[Tensor, str]) -> None:
        """Let a module's floating buffers follow its parameters; take them out of the names."""
        buffers = [b for b in module.buffers(recurse=False) if b in names and b.is_floating_point()]
        if not buffers:
            return
        for parameter in own:
            self._owners.setdefault(parameter, []).append(len(self._modules))
        self._modules.append((own, [(self._average[names.pop(b)], b) for b in buffers]))


def _unique(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the state dict by name, shared ones once."""
    seen: dict[Tensor, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            seen.setdefault(tensor, name)
    return {name: tensor for tensor, name in seen.items()}
