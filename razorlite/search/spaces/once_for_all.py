"""Kernels, expansion ratios and depths with shared weights, as in Once-for-All."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Filled, Kernel
from razorlite.core.registry import register
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.models.layers import SqueezeExcitation
from razorlite.space.dimension import Dimension
from razorlite.space.elastic import Elastic
from razorlite.space.elastic_layers import ELASTIC, ElasticConv2d
from razorlite.space.kernel_matrices import TransformedConv2d
from razorlite.space.mutator import Preparer, put_in_place
from razorlite.space.sides import Centre, Counted, Side
from razorlite.space.stages import ElasticDepth


@register()
class OnceForAll(Preparer):
    """Makes inverted residuals (`MBBlock`) elastic in kernel and expansion, and stages in depth.

    Dimensions are `BLOCK.kernel_size`, `BLOCK.expand_ratio` and `STAGE.depth`, where a stage is a
    row of such blocks and a block counts where its stage is that deep. Smaller expansions are the
    first channels, smaller kernels the centre of larger ones, smaller stages the first blocks.
    Blocks without expansion stay. Set to the largest values, the model computes what it did.

    Once-for-All, https://arxiv.org/abs/1908.09791, section 3.
    """

    def __init__(
        self,
        *,
        kernel_sizes: Sequence[Kernel] = (3, 5, 7),
        expand_ratios: Sequence[Count] = (3, 4, 6),
        depths: Annotated[Sequence[Count], Filled()] = (2, 3, 4),
        blocks: str = "*",
        kernel_matrices: bool = True,
        sort_channels: bool = False,
    ) -> None:
        """Keep the settings.

        Args:
            kernel_sizes: sides of the depth-wise kernels; greater than a block's are left out.
            expand_ratios: inner channels per input channel; greater than a block's are left out.
            depths: blocks of a stage; greater than a stage's number are left out.
            blocks: pattern of the paths of blocks that become elastic.
            kernel_matrices: smaller kernels are the centres times learnt matrices.
            sort_channels: before training, put the inner channels of each block in the order of
                their importance, the sum of the absolute weights that read a channel.
        """
        self.kernel_sizes, self.expand_ratios = tuple(kernel_sizes), tuple(expand_ratios)
        self.depths, self.blocks = tuple(depths), blocks
        self.kernel_matrices, self.sort_channels = kernel_matrices, sort_channels

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Make the blocks that match elastic, and the stages that they make up.

        Raises:
            ConfigError: no block matches, or one cannot take a value; the model is unchanged.
        """
        blocks = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, MBBlock)
            and module.expand_conv is not None
            and fnmatchcase(path, self.blocks)
        }
        if not blocks:
            raise ConfigError(
                f"mutator: no MBBlock with an expansion matches blocks {self.blocks!r} in "
                f"{type(model).__name__}; take an OFANet as backbone"
            )
        rows = _rows(model, blocks)
        stages = [row for row, length in rows.items() if length > min(self.depths)]
        built = {p: layer for b in blocks for p, layer in self._layers(b, blocks[b]).items()}
        for path, layer in built.items():
            put_in_place(model, model.get_submodule(path), layer)
        if stages:
            ElasticDepth(stages={stage: list(self.depths) for stage in stages}).put(model, shape)

    def loaded(self, model: nn.Module) -> None:
        """Sort the inner channels, where that is asked for; the model computes what it did."""
        for block in model.modules() if self.sort_channels else ():
            if isinstance(block, MBBlock) and block.expand_conv is not None:
                sort_inner_channels(block)

    def _layers(self, path: str, block: MBBlock) -> dict[str, Elastic]:
        """Return the elastic layers of a block by path."""
        whole = _whole(block)
        kernel = _option(f"{path}.kernel_size", self.kernel_sizes, whole["kernel"])
        ratio = _option(f"{path}.expand_ratio", self.expand_ratios, whole["ratio"])
        sides = {name: _sides(name, block, ratio) for name in _layer_names(block)}
        sides["depthwise_conv.conv"]["kernel"] = Centre(kernel, whole["kernel"])
        known = {kernel.name: kernel, ratio.name: ratio}
        found: dict[str, Elastic] = {}
        for name, own in sides.items():
            layer = block.get_submodule(name)
            found[f"{path}.{name}"] = ELASTIC[type(layer)].of(layer, own, known)
        name = f"{path}.depthwise_conv.conv"
        depthwise = found[name]
        assert isinstance(depthwise, ElasticConv2d)
        if self.kernel_matrices and len(kernel.values) > 1:
            found[name] = TransformedConv2d.with_matrices(depthwise)
        return found


@torch.no_grad()
def sort_inner_channels(block: MBBlock) -> None:
    """Put the inner channels of a block in the order of their importance, in place.

    The most important come first: those whose weights in the last convolution have the greatest sum
    of magnitudes. What the block computes stays.

    Once-for-All, https://arxiv.org/abs/1908.09791, section 3.3 and fig. 4.
    """
    weight = block.linear_conv.conv.weight
    order = weight.abs().sum((0, 2, 3)).argsort(descending=True, stable=True)
    makers = [block.expand_conv, block.depthwise_conv]
    tensors = [t for maker in makers if maker is not None for t in _channelwise(maker)]
    if block.squeeze is not None:
        tensors += _channelwise(block.squeeze.expand)
        reads = block.squeeze.reduce.weight
        reads.copy_(reads[:, order])
    for tensor in tensors:
        tensor.copy_(tensor[order])
    weight.copy_(weight[:, order])


def _channelwise(module: nn.Module) -> list[torch.Tensor]:
    """Return the tensors of a convolution and its norm whose first dimension is the outputs."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return [value for name, value in named if value.dim() and ".matrix_" not in name]


def _whole(block: MBBlock) -> dict[str, int]:
    """Return a block's kernel and ratio, those of the largest form."""
    assert block.expand_conv is not None
    conv = block.expand_conv.conv
    kernel = block.depthwise_conv.conv.kernel_size[0]
    return {"kernel": kernel, "ratio": conv.out_channels // conv.in_channels}


def _option(name: str, values: Sequence[int], whole: int) -> Dimension:
    """Return the values that a block can take, its own among them."""
    return Dimension(name, tuple(sorted({value for value in values if value < whole} | {whole})))


def _layer_names(block: MBBlock) -> list[str]:
    convs = ["expand_conv", "depthwise_conv", "linear_conv"]
    names = [f"{conv}.{part}" for conv in convs for part in ("conv", "bn")]
    squeeze = [] if block.squeeze is None else ["squeeze.reduce", "squeeze.expand"]
    return [*names[:-1], *squeeze]


def _sides(name: str, block: MBBlock, ratio: Dimension) -> dict[str, Side]:
    """Return what follows the ratio in a layer of a block."""
    assert block.expand_conv is not None
    channels = block.expand_conv.conv.in_channels
    inner = {value: channels * int(value) for value in ratio.values}
    squeezed = {v: SqueezeExcitation.inner_channels(count) for v, count in inner.items()}
    outer, between = Counted(ratio, inner), Counted(ratio, squeezed)
    sides: Mapping[str, dict[str, Side]] = {
        "depthwise_conv.conv": {"outputs": outer, "inputs": outer},
        "linear_conv.conv": {"inputs": outer},
        "squeeze.reduce": {"inputs": outer, "outputs": between},
        "squeeze.expand": {"inputs": between, "outputs": outer},
    }
    return sides.get(name, {"outputs": outer})


def _rows(model: nn.Module, blocks: Mapping[str, nn.Module]) -> dict[str, int]:
    """Return the stages by path and how many blocks each has: rows that hold these alone."""
    paths = dict.fromkeys(path.rpartition(".")[0] for path in blocks)
    rows = {path: model.get_submodule(path) for path in paths}
    return {
        path: len(row)
        for path, row in rows.items()
        if type(row) is nn.Sequential
        and all(f"{path}.{name}" in blocks for name, _ in row.named_children())
    }
