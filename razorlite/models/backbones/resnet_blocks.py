"""The blocks of ResNet and ResNeXt, with what they can be extended by."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from razorlite.core.config import Partial
from razorlite.models.deformable import DeformableConv2d, DeformConfig
from razorlite.models.plugins import Plugin

Style = Literal["pytorch", "caffe"]
Position = Literal["after_conv1", "after_conv2", "after_conv3"]


@dataclass(frozen=True, kw_only=True)
class PluginConfig:
    """What is put where in the blocks of some stages.

    Attributes:
        layer: a `Plugin`, built with the `in_channels` of its place.
        stages: one of four truth values for each stage.
        position: behind which convolution (and its norm and activation) of a bottleneck.
        postfix: what is added to the module's name, where a block has two of a kind.
    """

    layer: Partial[Plugin]
    stages: tuple[bool, ...] = (True, True, True, True)
    position: Position = "after_conv3"
    postfix: str = ""


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """What all blocks of a stage share.

    Attributes:
        dilation: of the 3 x 3 convolutions.
        groups: of the 3 x 3 convolution of a bottleneck.
        base_width: channels of a group per 64 channels of the stage.
        style: where a bottleneck has its stride.
        avg_down: average in front of shortcuts that shrink the map, instead of a stride in them.
        with_cp: keep only a block's input for the backward pass and compute the rest again.
        deform: how 3 x 3 convolutions of bottlenecks choose where they look, if they do.
        plugins: what is put into bottlenecks.
    """

    dilation: int = 1
    groups: int = 1
    base_width: int = 64
    style: Style = "pytorch"
    avg_down: bool = False
    with_cp: bool = False
    deform: DeformConfig | None = None
    plugins: tuple[PluginConfig, ...] = field(default_factory=tuple)


class _Block(nn.Module):
    with_cp: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels * expansion, H / stride, W / stride)."""
        # A traced graph has no Tensor here, and none of its own checkpoints.
        if self.with_cp and isinstance(x, Tensor) and x.requires_grad:
            return checkpoint(self.compute, x, use_reentrant=False, context_fn=self._contexts)
        return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        """Do what `forward` does, keeping everything for the backward pass."""
        raise NotImplementedError

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _untracked(self)


@contextmanager
def _untracked(root: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch a second time when it is computed again."""
    norms = [m for m in root.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    known = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, known, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class BasicBlock(_Block):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(
        self, *, in_channels: int, channels: int, stride: int = 1, options: BlockOptions
    ) -> None:
        """Build the block; of the options only `dilation`, `avg_down` and `with_cp` matter."""
        super().__init__()
        self.with_cp = options.with_cp
        self.conv1 = _conv3x3(in_channels, channels, stride, options.dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels, stride, options.avg_down)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        result: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return result


class Bottleneck(_Block):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut.

    The stride is in the 3 x 3 convolution in "pytorch" style, in the first 1 x 1 in "caffe"
    style. With `groups` this is the block of ResNeXt, https://arxiv.org/abs/1611.05431.
    """

    expansion = 4

    def __init__(
        self, *, in_channels: int, channels: int, stride: int = 1, options: BlockOptions
    ) -> None:
        """Build the block; the 3 x 3 convolution has channels * base_width / 64 * groups."""
        super().__init__()
        width = int(channels * options.base_width / 64) * options.groups
        out_channels = channels * self.expansion
        first, second = (1, stride) if options.style == "pytorch" else (stride, 1)
        self.with_cp = options.with_cp
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _middle(width, second, options)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, options.avg_down)
        places = {"after_conv1": width, "after_conv2": width, "after_conv3": out_channels}
        self._plugins = {place: self._add(options, place, n) for place, n in places.items()}

    def _add(self, options: BlockOptions, position: str, channels: int) -> list[str]:
        names = []
        for config in options.plugins:
            if config.position == position:
                layer = config.layer(in_channels=channels)
                names.append(layer.plugin_name + config.postfix)
                self.add_module(names[-1], layer)
        return names

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        out = self._extend(self.relu(self.bn1(self.conv1(x))), "after_conv1")
        out = self._extend(self.relu(self.bn2(self.conv2(out))), "after_conv2")
        out = self._extend(self.bn3(self.conv3(out)), "after_conv3")
        result: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return result

    def _extend(self, x: Tensor, position: str) -> Tensor:
        for name in self._plugins[position]:
            x = getattr(self, name)(x)
        return x


Block = type[BasicBlock] | type[Bottleneck]


def build_stage(
    block: Block, count: int, in_channels: int, channels: int, stride: int, options: BlockOptions
) -> nn.Sequential:
    """Return `count` blocks, the first of which may shrink the map."""
    first = block(in_channels=in_channels, channels=channels, stride=stride, options=options)
    width = channels * block.expansion
    rest = [block(in_channels=width, channels=channels, options=options) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


def added_tensors(state: Mapping[str, Tensor], network: nn.Module) -> set[str]:
    """Return the names of tensors that plain ResNets have not: of plugins and offsets."""
    added = tuple(f"{name}." for name, m in network.named_modules() if isinstance(m, Plugin))
    return {key for key in state if key.startswith(added) or ".conv_offset." in key}


def _conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, dilation, dilation, groups=groups, bias=False
    )


def _middle(width: int, stride: int, options: BlockOptions) -> nn.Conv2d:
    dilation, deform = options.dilation, options.deform
    if deform is None:
        return _conv3x3(width, width, stride, dilation, options.groups)
    return DeformableConv2d(
        width,
        width,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=options.groups,
        modulated=deform.modulated,
        deform_groups=deform.groups,
    )


def _shortcut(
    in_channels: int, out_channels: int, stride: int, avg_down: bool
) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    layers: list[nn.Module] = []
    if avg_down:
        layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    layers.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
    return nn.Sequential(*layers, nn.BatchNorm2d(out_channels))
