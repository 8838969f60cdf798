"""Depth-wise convolutions whose smaller kernels are learnt transformations of larger ones."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from razorlite.space.dimension import Values
from razorlite.space.elastic import Form, twin_of
from razorlite.space.elastic_layers import ElasticConv2d

_PREFIX = "matrix_"


class TransformedConv2d(ElasticConv2d):
    """A convolution whose smaller kernel is the centre of the next larger, times a matrix.

    There is one matrix for each step down, shared by all channels; they begin as identities, so
    that a smaller kernel begins as the centre of the larger. Only the product is exported.

    Once-for-All, https://arxiv.org/abs/1908.09791, section 3.2 and fig. 3.
    """

    @classmethod
    def with_matrices(cls, layer: ElasticConv2d) -> "TransformedConv2d":
        """Return a layer with matrices of one whose kernel is elastic; weights are shared."""
        twin = twin_of(layer, cls)
        for small in _smaller_sizes(layer):
            matrix = torch.eye(small**2, dtype=layer.weight.dtype, device=layer.weight.device)
            twin.register_parameter(f"{_PREFIX}{small}", nn.Parameter(matrix))
        return twin

    def export(self, values: Values) -> nn.Module:
        """Return a plain convolution, without matrices."""
        plain = super().export(values)
        for name in [n for n in plain._parameters if n.startswith(_PREFIX)]:
            del plain._parameters[name]
        return plain

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the part of each weight that stays, as it runs."""
        own = super().own_state(state, values)
        return {name: value for name, value in own.items() if not name.startswith(_PREFIX)}

    def additions(self) -> dict[str, Tensor]:
        """Return the matrices."""
        return {n: p for n, p in self.named_parameters() if n.startswith(_PREFIX)}

    def _parts(self, tensors: Mapping[str, Tensor | None], form: Form) -> dict[str, Tensor]:
        """Return what stays of the tensors, of the kernel what the matrices make of it."""
        cells = form.cuts["weight"][2:]
        cuts = {name: cut[:2] for name, cut in form.cuts.items()}
        found = super()._parts(tensors, Form(cuts=cuts, settings=form.settings))
        if cells and "weight" in found:
            found["weight"] = self._shrunk(found["weight"], len(cells[0]), tensors)
        return found

    def _shrunk(self, weight: Tensor, size: int, tensors: Mapping[str, Tensor | None]) -> Tensor:
        """Return (O, I, size, size) kernels of whole (O, I, K, K) ones."""
        for small in _smaller_sizes(self):
            if small >= size:
                margin = (weight.shape[-1] - small) // 2
                centre = weight[:, :, margin : margin + small, margin : margin + small]
                matrix = cast(Tensor, tensors[f"{_PREFIX}{small}"])
                cells = centre.flatten(2).unsqueeze(2) * matrix.T
                weight = cells.sum(-1).view_as(centre)  # no matrix product, which would be counted
        return weight


def _smaller_sizes(layer: ElasticConv2d) -> list[int]:
    """Return the sides that a kernel may have, without the largest, falling."""
    (name,) = layer.sides["kernel"].follows
    (dimension,) = (d for d in layer.dimensions if d.name == name)
    return sorted(map(int, dimension.values), reverse=True)[1:]
