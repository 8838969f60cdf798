"""Layers that compute with few bits: weights and inputs rounded to learnt steps."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.distributed import all_reduce_mean

EXACT = 32  # bits of what is not rounded


def weight_levels(bits: int) -> tuple[int, int]:
    """Return the least and the greatest level of a weight."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def input_levels(bits: int, signed: bool) -> tuple[int, int]:
    """Return the least and the greatest level of an input; unsigned after a ReLU."""
    return weight_levels(bits) if signed and bits > 1 else (0, 2**bits - 1)


def round_weight(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Return a weight of any shape in `bits`; in one bit, plus or minus the step.

    Args:
        weight: of a layer.
        step: 0-dim, between two levels; learns.
        bits: 1 or more.
    """
    if bits == 1:
        scale = _scaled(step, weight.numel(), 1)
        signs = torch.where(weight < 0, -1.0, 1.0).to(weight)
        passed = weight.clamp(-1, 1)
        return (passed + (signs - passed).detach()) * scale
    return round_to(weight, step, *weight_levels(bits))


def round_to(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return x, of any shape, rounded to whole multiples of a step.

    Gradients pass the rounding where x is within the levels; that of the step is as in Learned Step
    Size Quantization, https://arxiv.org/abs/1902.08153, eq. 3, scaled as in section 2.2.

    Args:
        x: weights or inputs.
        step: 0-dim, above 0.
        low: least level.
        high: greatest level.
    """
    scale = _scaled(step, x.numel(), high)
    levels = (x / scale).clamp(low, high)
    return (levels + (levels.round() - levels).detach()) * scale


def first_step(x: Tensor, low: int, high: int) -> Tensor:
    """Return the 0-dim step that learning starts from: LSQ, section 2.1; of one bit the mean."""
    mean = x.detach().abs().float().mean()
    return mean if low == -1 else 2 * mean / math.sqrt(max(high, 1))


def _scaled(step: Tensor, count: int, high: int) -> Tensor:
    """Return the step, whose gradient is as small as those of `count` weights are."""
    factor = 1 / math.sqrt(count * max(high, 1))
    return step * factor + (step * (1 - factor)).detach()


def calibrated(step: Tensor, x: Tensor, low: int, high: int) -> Tensor:
    """Return a 0-dim step, which is set by x of any shape where it is 0."""
    if not (step.is_meta or x.is_meta) and not step.detach().any() and x.detach().any():
        with torch.no_grad():
            step.copy_(all_reduce_mean(first_step(x, low, high)))
    return step


class RoundedConv2d(nn.Conv2d):
    """A convolution with weights and inputs of few bits.

    Attributes:
        weight_bits: of the weights; 32 are exact.
        input_bits: of the inputs; 32 are exact.
        signed: whether inputs may be negative.
        weight_step: 0-dim, between two levels of the weights; 0 before it is set.
        input_step: likewise of the inputs.
    """

    weight_bits: int
    input_bits: int
    signed: bool
    weight_step: nn.Parameter
    input_step: nn.Parameter

    @classmethod
    def of(
        cls, layer: nn.Conv2d, bits: tuple[int, int], steps: tuple[Tensor, Tensor], signed: bool
    ) -> "RoundedConv2d":
        """Return a rounding layer with the weights of another, which it shares.

        Args:
            layer: plain.
            bits: of weights and inputs.
            steps: 0-dim, of weights and inputs.
            signed: whether inputs may be negative.
        """
        own = cls.__new__(cls)
        own.__dict__ = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(layer).items()}
        own.weight_bits, own.input_bits, own.signed = *bits, signed
        for name, step in zip(("weight_step", "input_step"), steps, strict=True):
            own.register_parameter(name, nn.Parameter(step.detach().clone()))
        return own

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        steps = self.weight_step, self.input_step
        return convolved(self, input, (self.weight_bits, self.input_bits), steps)

    def extra_repr(self) -> str:
        """Return what printing shows."""
        return f"{super().extra_repr()}, bits={self.weight_bits}/{self.input_bits}"


def convolved(layer: Any, x: Tensor, bits: tuple[int, int], steps: tuple[Tensor, Tensor]) -> Tensor:
    """Return what a convolution with few bits makes of (N, C, H, W) inputs.

    Args:
        layer: the convolution, with `signed`.
        x: its inputs.
        bits: of weights and inputs.
        steps: 0-dim, of weights and inputs.
    """
    weight = layer.weight
    if bits[0] < EXACT:
        low, high = weight_levels(bits[0])
        weight = round_weight(weight, calibrated(steps[0], weight, low, high), bits[0])
    if bits[1] < EXACT:
        low, high = input_levels(bits[1], layer.signed)
        x = round_to(x, calibrated(steps[1], x, low, high), low, high)
    out: Tensor = F.conv2d(
        x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return out
