"""Numbers of channels as Markov chains, whose transitions are learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.cost import FactoredCost
from razorlite.prune.masks import Reader
from razorlite.space import SearchSpace
from razorlite.space.elastic import Elastic
from razorlite.space.sides import Side


class Chains(nn.Module):
    """One chain for each dimension of a space: from its smallest value up, step by step.

    Whether a chain that has come to the k-th value goes on to the next is a learnt probability,
    so that larger values are never chosen without the smaller ones' channels. All start with equal
    probabilities of all values.

    Args:
        space: of numbers that all count at every point, such as `ChannelWidths`'.

    Attributes:
        names: of the dimensions.
        values: of each dimension, rising.

    Raises:
        ConfigError: a dimension has words, or counts at some points alone.

    DMCP, https://arxiv.org/abs/2005.03354, eq. 4 to 7, with the values of a dimension as states.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        for dimension in space.dimensions:
            if dimension.when or not dimension.numeric:
                raise ConfigError(
                    f"learns numbers of channels; dimension {dimension.name!r} has words or "
                    f"depends on others: take ChannelWidths alone"
                )
        self.names = tuple(d.name for d in space.dimensions)
        found = [np.array(d.values, dtype=np.float64) for d in space.dimensions]
        self._order = [np.argsort(values, kind="stable") for values in found]
        self.values = [values[order] for values, order in zip(found, self._order, strict=True)]
        self.transitions = nn.ParameterList(_uniform(len(values)) for values in found)

    def probabilities(self) -> list[Tensor]:
        """Return for each dimension the (K,) probabilities of its values, smallest first."""
        return [_of_values(torch.sigmoid(x)) for x in self.transitions]

    def by_index(self) -> list[Tensor]:
        """Return the same in the order in which the space lists the values."""
        ranks = [torch.from_numpy(np.argsort(order)) for order in self._order]
        pairs = zip(self.probabilities(), ranks, strict=True)
        return [values[rank.to(values.device)] for values, rank in pairs]

    @torch.no_grad()
    def expected(self) -> np.ndarray:
        """Return the (D,) expected values."""
        pairs = zip(self.probabilities(), self.values, strict=True)
        return np.array([float(p.double().cpu().numpy() @ values) for p, values in pairs])

    def nearest(self) -> np.ndarray:
        """Return the (D,) ranks of the values that are nearest to the expected ones."""
        pairs = zip(self.values, self.expected(), strict=True)
        return np.array([np.abs(values - mean).argmin() for values, mean in pairs])

    def excess(self, ranks: np.ndarray) -> np.ndarray:
        """Return how far values are above the expected ones, (D,), as a share of the largest.

        Where there is no smaller value it is minus infinity.
        """
        chosen = np.array([v[rank] for v, rank in zip(self.values, ranks, strict=True)])
        largest = np.array([values[-1] for values in self.values])
        return np.where(ranks > 0, (chosen - self.expected()) / largest, -np.inf)

    @torch.no_grad()
    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Return a (D,) point, drawn by the chains."""
        shares = [p.double().cpu().numpy() for p in self.by_index()]
        return np.array([rng.choice(len(p), p=p / p.sum()) for p in shares], dtype=np.int64)

    def point(self, ranks: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the (D,) point whose values have such ranks among the rising ones."""
        pairs = zip(self._order, ranks, strict=True)
        return np.array([order[rank] for order, rank in pairs], dtype=np.int64)

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the transitions' parameters by the names of the dimensions."""
        yield from zip(self.names, self.transitions, strict=True)

    def named_state(self) -> dict[str, Tensor]:
        """Return copies of the parameters by name."""
        return {name: parameter.detach().clone() for name, parameter in self.named()}

    def load_named(self, state: Mapping[str, Any]) -> None:
        """Restore what `named_state` returned.

        Raises:
            CheckpointError: it is of other dimensions.
        """
        mine = {name: parameter.shape for name, parameter in self.named()}
        theirs = {name: getattr(value, "shape", None) for name, value in state.items()}
        if mine != theirs:
            odd = next(n for n in {**mine, **theirs} if mine.get(n) != theirs.get(n))
            raise CheckpointError(
                f"the checkpoint's chains are of other widths than the model's ({odd}); resume "
                f"with the mutator it was trained with"
            )
        with torch.no_grad():
            for name, parameter in self.named():
                parameter.copy_(state[name])


def expected_cost(costs: FactoredCost, kind: str, probabilities: Sequence[Tensor]) -> Tensor:
    """Return the exact expected cost of a point whose dimensions are drawn independently, 0-dim.

    Args:
        costs: of the space.
        kind: of cost.
        probabilities: (K_d,) of each dimension's values, in the space's order.
    """
    like = probabilities[0]
    total = like.new_tensor(float(costs.fixed[kind]))
    for part in costs.parts:
        if kind in part.costs:
            table = torch.from_numpy(part.costs[kind].astype(np.float32)).to(like.device)
            for dimension in reversed(part.dimensions):
                table = (table * probabilities[dimension]).sum(-1)  # exact in bf16, too
            total = total + table
    return total


class Gates:
    """Factors on the channels that elastic layers read: the probability that each is there.

    Grouped convolutions that pass their channels on have none; what reads these has.

    Args:
        space: set to its largest point while the gates hang on the model.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._names = tuple(d.name for d in space.dimensions)
        self._whole = {d.name: max(d.values, key=float) for d in space.dimensions}
        self._options = {d.name: d.values for d in space.dimensions}
        layers = [m for m in space.mutables.values() if isinstance(m, Elastic)]
        self._stays = {
            layer: self._table(layer.sides["inputs"]) for layer in layers if _reads(layer)
        }

    @contextmanager
    def on(self, probabilities: Sequence[Tensor]) -> Iterator[None]:
        """Hang on the model for the time of a block.

        Args:
            probabilities: (K_d,) of each dimension's values, in the space's order.
        """
        named = dict(zip(self._names, probabilities, strict=True))
        handles: list[RemovableHandle] = []
        try:
            for layer, stays in self._stays.items():
                factors = [(t.to(named[n].device) * named[n]).sum(-1) for n, t in stays.items()]
                reader = Reader(layer)
                reader.factors = torch.stack(factors).prod(0)
                handles.append(layer.register_forward_pre_hook(reader, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _table(self, side: Side) -> dict[str, Tensor]:
        """Return for each dimension whether each channel stays at each of its values, (C, K)."""
        found = {}
        for name in side.follows:
            kept = [side.kept({**self._whole, name: value}) for value in self._options[name]]
            found[name] = torch.stack([_mask(numbers, side.size) for numbers in kept], dim=1)
        return found


def _reads(layer: Elastic) -> bool:
    """Return whether some of what a layer reads may go, and does not just pass through it."""
    sides = layer.sides
    if "inputs" not in sides or not sides["inputs"].follows:
        return False
    passes = getattr(layer, "groups", 1) > 1 and sides["inputs"].follows == sides["outputs"].follows
    return not passes


def _mask(kept: Sequence[int], size: int) -> Tensor:
    mask = torch.zeros(size, device="cpu")
    mask[list(kept)] = 1
    return mask


def _uniform(count: int) -> nn.Parameter:
    """Return transitions by which each of so many values is as likely as the others."""
    left = torch.arange(count - 1, 0, -1, dtype=torch.float32, device="cpu")
    return nn.Parameter(left.log())  # the logit of left / (left + 1)


def _of_values(transitions: Tensor) -> Tensor:
    """Return the (K,) probabilities of values, given the (K - 1,) of going on from each."""
    one = transitions.new_ones(1)
    reached = torch.cat([one, transitions.cumprod(0)])
    return reached - torch.cat([reached[1:], 0 * one])
