"""Supernets whose layers follow widths, kernels and depths."""

import torch
import torch.nn.functional as F
from torch import nn

from razorlite.space import Dimension, Mutable, OneOf, SearchSpace


class ElasticConv(Mutable):
    """A convolution of the first channels on both sides, and of the middle of its kernel."""

    def __init__(self, inputs, outputs, kernel=None, stride=1):
        super().__init__()
        self._dimensions = tuple(d for d in (inputs, outputs, kernel) if isinstance(d, Dimension))
        self.sides = (inputs, outputs, kernel or 3)
        widest = [max(s.values) if isinstance(s, Dimension) else s for s in self.sides]
        self.weight = nn.Parameter(torch.randn(widest[1], widest[0], widest[2], widest[2]))
        self.bias = nn.Parameter(torch.randn(widest[1]))
        self.stride = stride
        self.set({d.name: d.values[-1] for d in self._dimensions})

    @property
    def dimensions(self):
        return self._dimensions

    @property
    def values(self):
        return self._values

    def set(self, values):
        self._values = {d.name: values[d.name] for d in self._dimensions}

    def _cut(self, values):
        ins, outs, k = (values[s.name] if isinstance(s, Dimension) else s for s in self.sides)
        edge = (self.weight.shape[-1] - k) // 2
        weight = self.weight[:outs, :ins, edge : edge + k, edge : edge + k]
        return weight, self.bias[:outs]

    def forward(self, x):
        weight, bias = self._cut(self._values)
        return F.conv2d(x, weight, bias, self.stride, weight.shape[-1] // 2)

    def export(self, values):
        weight, bias = self._cut(values)
        outs, ins, k, _ = weight.shape
        conv = nn.Conv2d(ins, outs, k, self.stride, k // 2)
        conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        return conv

    def own_state(self, state, values):
        weight, bias = self._cut(values)
        return {"weight": weight, "bias": bias}


class ElasticDepth(Mutable):
    """The first so many of its layers."""

    def __init__(self, depth, layers):
        super().__init__()
        self.depth, self.layers = depth, nn.ModuleList(layers)
        self.set({depth.name: depth.values[-1]})

    @property
    def dimensions(self):
        return (self.depth,)

    @property
    def values(self):
        return {self.depth.name: self.number}

    def set(self, values):
        self.number = values[self.depth.name]

    def forward(self, x):
        for layer in list(self.layers)[: self.number]:
            x = layer(x)
        return x

    def export(self, values):
        return nn.Sequential(*list(self.layers)[: values[self.depth.name]])

    def own_state(self, state, values):
        kept = (f"layers.{i}." for i in range(values[self.depth.name]))
        starts = tuple(kept)
        return {k.removeprefix("layers."): v for k, v in state.items() if k.startswith(starts)}

    def running(self):
        return list(self.layers)[: self.number]

    def condition(self, path):
        least = int(path.split(".")[1]) + 1
        return {self.depth.name: tuple(n for n in self.depth.values if n >= least)}


class Attention(nn.Module):
    """Products of matrices without parameters; its cost depends on whatever comes in."""

    def forward(self, x):
        tokens = x.flatten(2)
        return (tokens.transpose(1, 2).matmul(tokens)).matmul(tokens.transpose(1, 2)).mean((1, 2))


class Mixed(nn.Module):
    """Elastic widths and kernels, a depth, a nested choice, a plain layer and attention."""

    def __init__(self):
        super().__init__()
        widths = [Dimension(f"width{i}", values) for i, values in enumerate([(4, 6), (2, 3, 5)])]
        kernels = [Dimension(f"kernel{i}", (1, 3, 5)) for i in range(2)]
        inner = OneOf(
            choices={"thin": ElasticConv(widths[1], widths[1], kernels[1]), "none": nn.Identity()},
            space_id="inner",
        )
        again = ElasticConv(widths[1], widths[1], Dimension("kernel_again", (1, 3)))
        self.first = ElasticConv(3, widths[0], kernels[0], stride=2)
        self.second = ElasticConv(widths[0], widths[1])
        self.deep = ElasticDepth(Dimension("depth", (0, 1, 2)), [again, inner])
        self.either = OneOf(
            choices={"pool": nn.AvgPool2d(2, 2, ceil_mode=True), "keep": nn.Identity()},
            space_id="either",
        )
        self.attention = Attention()
        self.plain = nn.Conv2d(3, 7, 3)

    def forward(self, images):
        x = self.either(self.deep(self.second(self.first(images))))
        return self.attention(x), self.plain(images)


def mixed_space():
    """Eight dimensions, some of which count only where others say so."""
    return SearchSpace(Mixed())


class Chain(nn.Module):
    """Elastic convolutions, one after another, each with its width and kernel."""

    def __init__(self, length=4, widths=(4, 8, 12, 16)):
        super().__init__()
        sides = [3, *(Dimension(f"width{i}", widths) for i in range(length))]
        kernels = [Dimension(f"kernel{i}", (1, 3, 5)) for i in range(length)]
        self.layers = nn.ModuleList(
            ElasticConv(sides[i], sides[i + 1], kernels[i]) for i in range(length)
        )

    def forward(self, images):
        for layer in self.layers:
            images = layer(images)
        return images


def chain_space(**kwargs):
    """Twice as many dimensions as layers."""
    return SearchSpace(Chain(**kwargs))
