"""Masks by small networks whose weights are predicted for each object."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.core.compute import unrounded
from razorlite.ops.anchors import grid_points

_REACH = 8  # strides of an object's point that relative coordinates are divided by


def kernel_size(prototypes: int, width: int, layers: int) -> int:
    """Return how many weights and biases one object's network has.

    Args:
        prototypes: channels of the mask features; two coordinates come on top.
        width: channels between the layers.
        layers: how many 1 x 1 convolutions there are; the last gives the mask.
    """
    return sum(a * b + b for a, b in _shapes(prototypes, width, layers))


@unrounded
def dynamic_masks(
    features: Tensor, kernels: Tensor, priors: Tensor, stride: int, width: int, layers: int
) -> Tensor:
    """Return (..., K, H, W) mask logits of K objects in each image.

    An object's network sees the features and where each cell lies relative to the object's point,
    in units of 8 strides of that point. Its first layer is linear in the cell's place, so one
    product of all objects' weights with the features and the plain coordinates does it, and the
    point moves into the bias.

    Args:
        features: (..., C, H, W) of images, or of a single one.
        kernels: (..., K, N) with N as `kernel_size` says: weights of all layers (output channels
            outermost, x and y before the features), then biases.
        priors: (..., K, 3) x, y and stride of the objects' points in pixels.
        stride: image pixels per cell of the features.
        width: channels between the layers.
        layers: how many layers there are.

    RTMDet, https://arxiv.org/abs/2212.07784, section 3.5; CondInst,
    https://arxiv.org/abs/2003.05664.
    """
    height, columns = features.shape[-2:]
    kernels = kernels.float()
    (weight, bias), *rest = _parse(kernels, features.shape[-3], width, layers)
    reach = _REACH * priors[..., 2:]
    slope = weight[..., :2] / reach[..., None]
    shift = (slope * priors[..., None, :2]).sum(-1) + bias
    places = grid_points((height, columns), stride, 0.0, features.device).T
    places = places.expand(*features.shape[:-3], -1, -1)
    cells = torch.cat((places, features.float().flatten(-2)), -2)
    x = torch.cat((-slope, weight[..., 2:]), -1).flatten(-3, -2) @ cells
    x = x.unflatten(-2, (weight.shape[-3], width)) + shift[..., None]
    x = x.flatten(0, -3)
    for weight, bias in rest:
        x = torch.baddbmm(bias.flatten(0, -2)[..., None], weight.flatten(0, -3), F.relu(x))
    return x.reshape(*kernels.shape[:-1], height, columns)


def _shapes(prototypes: int, width: int, layers: int) -> list[tuple[int, int]]:
    """Return (input, output) channels of each layer."""
    sizes = [prototypes + 2, *[width] * (layers - 1), 1]
    return list(pairwise(sizes))


def _parse(kernels: Tensor, prototypes: int, width: int, layers: int) -> list[tuple[Tensor, ...]]:
    """Return (..., K, out, in) weights and (..., K, out) biases of each layer."""
    shapes = _shapes(prototypes, width, layers)
    sizes = [a * b for a, b in shapes] + [b for _, b in shapes]
    parts = kernels.split(sizes, -1)
    weights = [w.unflatten(-1, (b, a)) for w, (a, b) in zip(parts, shapes, strict=False)]
    return list(zip(weights, parts[layers:], strict=True))
