"""Small layers and helpers that backbones, necks and heads share."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError

Norm = Literal["BN", "GN"]
Activation = Literal["ReLU", "ReLU6", "SiLU", "LeakyReLU", "HSigmoid", "HSwish"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "SiLU": nn.SiLU,
    "LeakyReLU": nn.LeakyReLU,
    "HSigmoid": nn.Hardsigmoid,
    "HSwish": nn.Hardswish,
}


def build_norm(kind: Norm, channels: int) -> nn.Module:
    """Return a normalisation of `channels`: batch norm, or group norm in up to 32 groups."""
    if kind == "BN":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(32, channels), channels)


def build_activation(kind: Activation) -> nn.Module:
    """Return an activation; in place where the gradient does not need the input."""
    layer = _ACTIVATIONS[kind]
    return layer(inplace=True) if kind in ("ReLU", "ReLU6", "LeakyReLU") else layer()


class ConvModule(nn.Module):
    """Convolution, then normalisation, then activation.

    Sub-modules are named `conv`, `bn` or `gn` by the kind of norm, and `activate`; what is None
    is not there.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | None = None,
        norm: Norm | None = None,
        activation: Activation | None = "ReLU",
    ) -> None:
        """Build the layers.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            kernel_size: side of the square kernel.
            stride: of the convolution.
            padding: zeros on each side.
            dilation: of the kernel.
            groups: of the convolution.
            bias: whether the convolution has one; by default only without a norm.
            norm: kind of normalisation.
            activation: kind of activation.
        """
        super().__init__()
        bias = norm is None if bias is None else bias
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self._norm = norm.lower() if norm else None
        if norm and self._norm:
            self.add_module(self._norm, build_norm(norm, out_channels))
        self.activate = build_activation(activation) if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        x = self.conv(x)
        if self._norm:
            x = getattr(self, self._norm)(x)
        return x if self.activate is None else self.activate(x)


class SqueezeExcitation(nn.Module):
    """Every channel times a factor in [0, 1] that the means of all decide by way of a quarter.

    https://arxiv.org/abs/1709.01507, with the hard sigmoid of MobileNetV3,
    https://arxiv.org/abs/1905.02244.
    """

    def __init__(self, channels: int) -> None:
        """Build the two layers, `reduce` and `expand`."""
        super().__init__()
        inner = self.inner_channels(channels)
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)

    @staticmethod
    def inner_channels(channels: int) -> int:
        """Return how many channels lie between the layers."""
        return round_channels(channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, channels, H, W)."""
        means = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(means))))


class Scale(nn.Module):
    """A learnt factor for a whole map."""

    def __init__(self, value: float = 1.0) -> None:
        """Start with the factor `value`."""
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, of any shape, times the factor."""
        return x * self.scale


def round_channels(channels: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` nearest to a number, never less than 90 % of it.

    MobileNetV2, https://arxiv.org/abs/1801.04381.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def init_convs(modules: Iterable[nn.Module], std: float = 0.01) -> None:
    """Draw the weights of all convolutions in `modules` from N(0, std); biases become 0."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def prior_bias(probability: float) -> float:
    """Return the bias at which a sigmoid gives `probability`."""
    return -math.log((1 - probability) / probability)


def freeze(modules: Iterable[nn.Module]) -> None:
    """Stop the gradients of modules and hold their batch norms in evaluation mode."""
    for module in modules:
        module.eval().requires_grad_(False)


def freeze_norm_statistics(root: nn.Module) -> None:
    """Hold every batch norm below `root` in evaluation mode; their weights still learn."""
    for module in root.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def check_indices(
    owner: str, indices: tuple[int, ...], count: int, frozen_stages: int = -1
) -> None:
    """Raise ConfigError if `indices` do not rise within 0 to count - 1, or more is frozen."""
    if not -1 <= frozen_stages <= count:
        raise ConfigError(
            f"{owner}.frozen_stages must be a number of stages from -1 (none) to {count}, "
            f"got {frozen_stages}"
        )
    if list(indices) != sorted(set(indices)) or not all(0 <= i < count for i in indices):
        raise ConfigError(
            f"{owner}.out_indices must be rising stage numbers from 0 to {count - 1}, "
            f"got {tuple(indices)}"
        )
