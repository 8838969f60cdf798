"""Importance by the gradients of weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.prune._unit_weights import Counted, SidesOf, rows_of, sum_over_units
from razorlite.prune.data_importance import DataImportance, Values
from razorlite.prune.importance import Scale
from razorlite.trace import ChannelGroup, Member


class GradientImportance(DataImportance):
    """Base of measures of weights and their gradients, summed over all that a unit holds.

    As the loss is the same for all groups, scores are compared as they are by default.
    """

    def __init__(
        self,
        *,
        batches: Count = 10,
        scale: Scale = "none",
        sides: SidesOf = "both",
        norms: bool = False,
        depthwise: bool = True,
    ) -> None:
        """Keep the settings.

        Args:
            batches, scale: as for `DataImportance`.
            sides: whether the weights that make a channel count, those that read it, or both.
            norms: whether the scales of norms count, too.
            depthwise: whether the weights of depth-wise convolutions count.
        """
        super().__init__(batches=batches, scale=scale)
        self.counted = Counted(sides=sides, norms=norms, depthwise=depthwise)

    def measure(self, weights: Tensor, gradients: Tensor) -> Tensor:
        """Return (channels,) values from (channels, weights) of one layer's side."""
        raise NotImplementedError

    @contextmanager
    def watching(
        self, model: nn.Module, groups: Sequence[ChannelGroup], samples: int
    ) -> Iterator[Values]:
        """Keep the gradients that come to the weights; see `DataImportance.watching`."""
        with _gradients(self._weights(model, groups)) as gradients:
            yield lambda: {
                group.name: sum_over_units(group, self._of_member(model, gradients))
                for group in groups
            }

    def _weights(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> list[Tensor]:
        found = (self.counted.weight(model, m) for group in groups for m in group.members)
        return [weight for weight in found if weight is not None and weight.requires_grad]

    def _of_member(
        self, model: nn.Module, gradients: dict[int, Tensor]
    ) -> Callable[[Member], Tensor | None]:
        def values(member: Member) -> Tensor | None:
            weight = self.counted.weight(model, member)
            if weight is None or id(weight) not in gradients:
                return None
            pair = (weight.detach(), gradients[id(weight)])
            return self.measure(*(rows_of(model, member, x).double() for x in pair))

        return values


@register()
class TaylorImportance(GradientImportance):
    """First-order change of the loss without a unit: weights times their gradients.

    https://arxiv.org/abs/1611.06440, eq. 6; https://arxiv.org/abs/1906.10771, eq. 8.
    """

    degree = 1

    def __init__(
        self,
        *,
        batches: Count = 10,
        scale: Scale = "none",
        sides: SidesOf = "both",
        norms: bool = False,
        depthwise: bool = True,
        joint: bool = False,
    ) -> None:
        """Keep the settings.

        Args:
            batches, scale, sides, norms, depthwise: as for `GradientImportance`.
            joint: sum the products of one layer before taking the absolute value, so that those
                of other signs cancel; else the absolute products are summed.
        """
        super().__init__(
            batches=batches, scale=scale, sides=sides, norms=norms, depthwise=depthwise
        )
        self.joint = joint

    def measure(self, weights: Tensor, gradients: Tensor) -> Tensor:
        """Return (channels,) absolute products of (channels, weights)."""
        products = weights * gradients
        return products.sum(1).abs() if self.joint else products.abs().sum(1)


@register()
class HessianImportance(GradientImportance):
    """Second-order change of the loss without a unit, by a diagonal Hessian: h * w**2 / 2.

    Optimal brain damage (LeCun et al., 1989, eq. 5) with h as the mean of the batches' squared
    gradients, the empirical Fisher of https://arxiv.org/abs/1801.05787, eq. 9; batches of one image
    give that of single images.
    """

    degree = 2

    def measure(self, weights: Tensor, gradients: Tensor) -> Tensor:
        """Return (channels,) sums over (channels, weights)."""
        return (weights * gradients).square().sum(1) / 2


@contextmanager
def _gradients(weights: Sequence[Tensor]) -> Iterator[dict[int, Tensor]]:
    """Yield a dict that gets the gradients which backward passes give weights, by their ids."""
    found: dict[int, Tensor] = {}

    def keeper(number: int) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            old = found.get(number)
            found[number] = gradient.detach().clone() if old is None else old + gradient.detach()

        return keep

    handles = [x.register_hook(keeper(id(x))) for x in {id(x): x for x in weights}.values()]
    try:
        with torch.enable_grad():
            yield found
    finally:
        for handle in handles:
            handle.remove()
