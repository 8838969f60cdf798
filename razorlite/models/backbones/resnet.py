"""ResNet and ResNeXt with torchvision's state-dict names."""

from typing import Literal

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.layers import check_indices
from razorlite.models.pretrained import load_pretrained

Depth = Literal[18, 34, 50, 101, 152]
Style = Literal["pytorch", "caffe"]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        base_width: int = 64,
        style: Style = "pytorch",
    ) -> None:
        """Build the block; `groups`, `base_width` and `style` mean nothing here."""
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut.

    The stride is in the 3 x 3 convolution in "pytorch" style, in the first 1 x 1 in "caffe"
    style. With `groups` this is the block of ResNeXt, https://arxiv.org/abs/1611.05431.
    """

    expansion = 4

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        base_width: int = 64,
        style: Style = "pytorch",
    ) -> None:
        """Build the block; the 3 x 3 convolution has channels * base_width / 64 * groups."""
        super().__init__()
        width = int(channels * base_width / 64) * groups
        out_channels = channels * self.expansion
        first, second = (1, stride) if style == "pytorch" else (stride, 1)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, second, dilation, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


Block = type[BasicBlock] | type[Bottleneck]

_LAYOUTS: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


@register()
class ResNet(Backbone):
    """ResNet; with `groups` and `base_width`, ResNeXt.

    https://arxiv.org/abs/1512.03385
    """

    def __init__(
        self,
        *,
        depth: Depth,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        strides: tuple[int, ...] = (1, 2, 2, 2),
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        groups: int = 1,
        base_width: int = 64,
        style: Style = "pytorch",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_frozen: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            depth: number of weight layers.
            out_indices: stages to return, 0 to 3: strides 4, 8, 16, 32 by default.
            strides: of the first block of each stage.
            dilations: of the 3 x 3 convolutions of each stage.
            groups: groups of the 3 x 3 convolutions (bottleneck depths only).
            base_width: channels of a group per 64 channels of the stage.
            style: where a bottleneck has its stride.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.
            norm_frozen: keep the batch norms' weights and biases, too.
            zero_init_residual: start every block as its shortcut.
            pretrained: torchvision name, path or URL of weights.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        _check(depth, out_indices, strides, dilations, groups)
        block, counts = _LAYOUTS[depth]
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        in_channels, widths = 64, []
        for i in range(max(out_indices) + 1):
            options = {"dilation": dilations[i], "groups": groups, "base_width": base_width}
            stage = _stage(block, counts[i], in_channels, 64 * 2**i, strides[i], style, options)
            self.add_module(f"layer{i + 1}", stage)
            in_channels = 64 * 2**i * block.expansion
            widths.append(in_channels)
        self.out_channels = tuple(widths[i] for i in out_indices)
        _init_weights(self, zero_init_residual)
        if pretrained:
            load_pretrained(self, pretrained)
        if norm_frozen:
            _freeze_norms(self)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def stem(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.conv1, self.bn1]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        return [getattr(self, f"layer{i + 1}") for i in range(max(self.out_indices) + 1)]


def _conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, dilation, dilation, groups=groups, bias=False
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def _stage(
    block: Block,
    count: int,
    in_channels: int,
    channels: int,
    stride: int,
    style: Style,
    options: dict[str, int],
) -> nn.Sequential:
    blocks = [
        block(
            in_channels=in_channels if i == 0 else channels * block.expansion,
            channels=channels,
            stride=stride if i == 0 else 1,
            style=style,
            **options,
        )
        for i in range(count)
    ]
    return nn.Sequential(*blocks)


def _init_weights(network: nn.Module, zero_residual: bool) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_residual and isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif zero_residual and isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


def _freeze_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)


def _check(
    depth: int,
    out_indices: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> None:
    if depth not in _LAYOUTS:
        raise ConfigError(f"ResNet.depth must be one of {list(_LAYOUTS)}, got {depth}")
    check_indices("ResNet", out_indices, 4)
    if len(strides) != 4 or len(dilations) != 4:
        raise ConfigError(
            f"ResNet.strides and ResNet.dilations need 4 numbers, got {strides} and {dilations}"
        )
    if groups > 1 and _LAYOUTS[depth][0] is BasicBlock:
        raise ConfigError(f"ResNet.groups needs a depth of 50 or more, got depth {depth}")
