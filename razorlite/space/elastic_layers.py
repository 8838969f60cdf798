"""The elastic forms of torch's layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.space.elastic import Elastic, Form
from razorlite.space.sides import Kept


class _ElasticConv(Elastic):
    """A convolution of which a part runs: some outputs and inputs, the centre of its kernel.

    Padding shrinks with the kernel, so that maps keep their size. A grouped convolution keeps whole
    groups; a depthwise one is the case of one channel in each.
    """

    kernel_size: tuple[int, ...]

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels on both sides, and the cells of a kernel with sides alike."""
        found = {"outputs": layer.out_channels, "inputs": layer.in_channels}
        if len(set(layer.kernel_size)) == 1:
            found["kernel"] = layer.kernel_size[0]
        return found

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight and bias, and channels, groups, kernel and padding."""
        outputs, inputs = kept["outputs"], kept["inputs"]
        columns, groups = whole_groups(self, outputs, inputs)
        settings = {"in_channels": len(inputs), "out_channels": len(outputs), "groups": groups}
        cells: tuple[Kept, ...] = ()
        if "kernel" in kept and len(kept["kernel"]) < self.sizes(self)["kernel"]:
            cells = (kept["kernel"],) * len(self.kernel_size)
            settings.update(_smaller_kernel(self, len(kept["kernel"])))
        cuts = {"weight": (outputs, columns, *cells), "bias": (outputs,)}
        return Form(cuts=cuts, settings=settings)


class ElasticConv1d(_ElasticConv, nn.Conv1d):
    """A convolution over (N, C, L) with elastic channels and kernel."""

    plain = nn.Conv1d


class ElasticConv2d(_ElasticConv, nn.Conv2d):
    """A convolution over (N, C, H, W) with elastic channels and kernel."""

    plain = nn.Conv2d


class ElasticConvTranspose2d(Elastic, nn.ConvTranspose2d):
    """A transposed convolution over (N, C, H, W) with elastic channels."""

    plain = nn.ConvTranspose2d

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels on both sides."""
        return {"outputs": layer.out_channels, "inputs": layer.in_channels}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight and bias, channels and groups."""
        outputs, inputs = kept["outputs"], kept["inputs"]
        columns, groups = whole_groups(self, inputs, outputs)
        settings = {"in_channels": len(inputs), "out_channels": len(outputs), "groups": groups}
        cuts = {"weight": (inputs, columns), "bias": (outputs,)}
        return Form(cuts=cuts, settings=settings)


class ElasticLinear(Elastic, nn.Linear):
    """A linear layer with elastic numbers of features."""

    plain = nn.Linear

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the features on both sides."""
        return {"outputs": layer.out_features, "inputs": layer.in_features}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight and bias, and the numbers of features."""
        outputs, inputs = kept["outputs"], kept["inputs"]
        cuts = {"weight": (outputs, inputs), "bias": (outputs,)}
        settings = {"in_features": len(inputs), "out_features": len(outputs)}
        return Form(cuts=cuts, settings=settings)


class _ElasticBatchNorm(Elastic):
    """A batch norm with elastic channels.

    Its statistics are of the form that ran last; see `razorlite.space.recalibrate`.
    """

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels."""
        return {"outputs": layer.num_features}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight, bias and statistics, and the number of channels."""
        names = ("weight", "bias", "running_mean", "running_var")
        cuts = dict.fromkeys(names, (kept["outputs"],))
        return Form(cuts=cuts, settings={"num_features": len(kept["outputs"])})


class ElasticBatchNorm1d(_ElasticBatchNorm, nn.BatchNorm1d):
    """A batch norm over (N, C) or (N, C, L) with elastic channels."""

    plain = nn.BatchNorm1d


class ElasticBatchNorm2d(_ElasticBatchNorm, nn.BatchNorm2d):
    """A batch norm over (N, C, H, W) with elastic channels."""

    plain = nn.BatchNorm2d


class ElasticGroupNorm(Elastic, nn.GroupNorm):
    """A group norm with elastic channels, of which whole groups stay; of a single one, any."""

    plain = nn.GroupNorm

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels."""
        return {"outputs": layer.num_channels}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight and bias, and the numbers of channels and groups."""
        outputs = kept["outputs"]
        stays = _mask(outputs, self.num_channels).reshape(self.num_groups, -1)
        if self.num_groups > 1 and (stays.any(1) != stays.all(1)).any():
            raise ConfigError(
                f"a group norm with {stays.shape[1]} channels a group cannot keep {len(outputs)} "
                f"of {self.num_channels}; keep whole groups"
            )
        settings = {"num_channels": len(outputs), "num_groups": int(stays.any(1).sum())}
        return Form(cuts={"weight": (outputs,), "bias": (outputs,)}, settings=settings)


class ElasticLayerNorm(Elastic, nn.LayerNorm):
    """A layer norm over the last dimension, with elastic channels."""

    plain = nn.LayerNorm

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels; none where it norms over several dimensions."""
        shape = layer.normalized_shape
        return {"outputs": shape[0]} if len(shape) == 1 else {}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of weight and bias, and the number of channels."""
        cuts = dict.fromkeys(("weight", "bias"), (kept["outputs"],))
        return Form(cuts=cuts, settings={"normalized_shape": (len(kept["outputs"]),)})


class ElasticPReLU(Elastic, nn.PReLU):
    """A leaky ReLU with a learnt slope for each of its elastic channels."""

    plain = nn.PReLU

    @classmethod
    def sizes(cls, layer: Any) -> dict[str, int]:
        """Return the channels; none where all share one slope."""
        return {"outputs": layer.num_parameters} if layer.num_parameters > 1 else {}

    def form(self, kept: Mapping[str, Kept]) -> Form:
        """Return the part of the slopes, and their number."""
        outputs = kept["outputs"]
        return Form(cuts={"weight": (outputs,)}, settings={"num_parameters": len(outputs)})


ELASTIC: Mapping[type[nn.Module], type[Elastic]] = {
    kind.plain: kind
    for kind in (
        ElasticConv1d,
        ElasticConv2d,
        ElasticConvTranspose2d,
        ElasticLinear,
        ElasticBatchNorm1d,
        ElasticBatchNorm2d,
        ElasticGroupNorm,
        ElasticLayerNorm,
        ElasticPReLU,
    )
}


def elastic_kind(layer: nn.Module) -> type[Elastic] | None:
    """Return the elastic class of a layer, plain or elastic; None if there is none."""
    return type(layer) if isinstance(layer, Elastic) else ELASTIC.get(type(layer))


def whole_groups(layer: Any, rows: Kept, others: Kept) -> tuple[Kept, int]:
    """Return the columns of a convolution's weight that stay, and how many groups do.

    Args:
        layer: a convolution with its whole channels.
        rows: channels that stay on the side of the weight's first dimension.
        others: channels that stay on the other side.

    Raises:
        ConfigError: what stays is not made of whole groups alike.
    """
    if layer.groups == 1:
        return others, 1
    first, second = layer.out_channels, layer.in_channels
    if layer.transposed:
        first, second = second, first
    in_rows = _mask(rows, first).reshape(layer.groups, -1)
    in_columns = _mask(others, second).reshape(layer.groups, -1)
    alive = np.flatnonzero(in_rows.any(1))
    uneven = len(set(in_rows[alive].sum(1))) > 1 or len(np.unique(in_columns[alive], axis=0)) > 1
    if uneven or (in_columns.any(1) != in_rows.any(1)).any():
        raise ConfigError(
            f"a convolution of {layer.in_channels} to {layer.out_channels} channels in "
            f"{layer.groups} groups cannot keep whole groups alike of its first {len(rows)} and "
            f"{len(others)}; let both sides follow one dimension with fitting values"
        )
    columns = np.flatnonzero(in_columns[alive[0]])
    return tuple(columns.tolist()), len(alive)


def _mask(kept: Kept, size: int) -> NDArray[np.bool_]:
    stays = np.zeros(size, dtype=bool)
    stays[list(kept)] = True
    return stays


def _smaller_kernel(layer: Any, size: int) -> dict[str, Any]:
    """Return the attributes of a convolution with a smaller kernel and maps of the same size."""
    sizes = (size,) * len(layer.kernel_size)
    if layer.padding_mode != "zeros" or layer.padding == "valid":
        raise ConfigError(
            f"a convolution with padding {layer.padding!r} of {layer.padding_mode} cannot have an "
            f"elastic kernel; use zeros around the map"
        )
    if layer.padding == "same":
        return {"kernel_size": sizes}
    margin = [(k - size) // 2 * d for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    padding = tuple(p - m for p, m in zip(layer.padding, margin, strict=True))
    if min(padding) < 0:
        raise ConfigError(
            f"a convolution with a kernel of {layer.kernel_size[0]} and padding "
            f"{layer.padding[0]} cannot have a kernel of {size}: its maps would grow; pad by "
            f"{margin[0]} at least"
        )
    return {"kernel_size": sizes, "padding": padding}
