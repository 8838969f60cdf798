"""The largest networks of Once-for-All's spaces, of which smaller ones are parts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, FrozenStages, Indices, Kernel, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.models.layers import Activation, ConvModule, check_indices, round_channels


@dataclass(frozen=True)
class _Stage:
    """A row of blocks, the first of which has the stride."""

    channels: int
    stride: int
    activation: Activation
    squeeze: bool = False
    single: bool = False


@dataclass(frozen=True)
class _Arch:
    """A network at width 1; its first block has no expansion."""

    stem: int
    first: int
    stages: tuple[_Stage, ...]
    last: int
    activation: Activation


_ARCHS = {
    "mobilenetv3": _Arch(
        16,
        16,
        (
            _Stage(24, 2, "ReLU"),
            _Stage(40, 2, "ReLU", squeeze=True),
            _Stage(80, 2, "HSwish"),
            _Stage(112, 1, "HSwish", squeeze=True),
            _Stage(160, 2, "HSwish", squeeze=True),
        ),
        960,
        "HSwish",
    ),
    "proxyless": _Arch(
        32,
        16,
        (
            _Stage(24, 2, "ReLU6"),
            _Stage(40, 2, "ReLU6"),
            _Stage(80, 2, "ReLU6"),
            _Stage(96, 1, "ReLU6"),
            _Stage(192, 2, "ReLU6"),
            _Stage(320, 1, "ReLU6", single=True),
        ),
        1280,
        "ReLU6",
    ),
}


@register()
class OFANet(Backbone):
    """The largest network of a space of Once-for-All, https://arxiv.org/abs/1908.09791.

    By itself it is a plain backbone; `{type: OnceForAll}` as `mutator` makes kernels, expansion
    ratios and depths elastic. `layers.0` is the stem, `layers.1` a fixed block without expansion,
    `layers.2` and so on are stages `layers.STAGE.BLOCK`, as in MMRazor's subnet files.
    """

    def __init__(
        self,
        *,
        arch: Literal["mobilenetv3", "proxyless"] = "mobilenetv3",
        width_mult: Positive = 1.0,
        kernel_size: Kernel = 7,
        expand_ratio: Count = 6,
        depth: Count = 4,
        out_indices: Indices | None = None,
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
    ) -> None:
        """Build the network; what follows the last returned stage is left out.

        Args:
            arch: MobileNetV3 with channel attention, or the network of ProxylessNAS.
            width_mult: factor of all channels, published are 1.0 and 1.2, of proxyless 1.3.
            kernel_size: side of the depth-wise kernels of all blocks but the first.
            expand_ratio: inner channels of these per input channel.
            depth: blocks of each stage; the last one of proxyless has one.
            out_indices: stages to return: 0 is the fixed block, 1 to 5 have the strides 4, 8, 16,
                16, 32 (proxyless: 1 to 6, the last of stride 32 too), and the number after them is
                the 1 x 1 convolution that a classifier needs, which is the default.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: an argument is out of range.
        """
        super().__init__()
        net = _ARCHS[arch]
        last = len(net.stages) + 1
        self.out_indices = (last,) if out_indices is None else out_indices
        check_indices("OFANet", self.out_indices, last + 1, frozen_stages)
        if expand_ratio < 2:
            raise ConfigError(f"OFANet.expand_ratio must be at least 2, got {expand_ratio}")
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        shape = {"kernel_size": kernel_size, "expand_ratio": expand_ratio}
        widths = [round_channels(c * width_mult) for c in _channels(net)]
        stages = [_head(net, widths[0], widths[1])]
        for i, stage in enumerate(net.stages, 1):
            stages.append(_stage(stage, widths[i], widths[i + 1], depth, shape))
        stages.append(ConvModule(widths[-2], widths[-1], 1, norm="BN", activation=net.activation))
        stem = ConvModule(
            3, widths[0], 3, stride=2, padding=1, norm="BN", activation=net.activation
        )
        self.layers = nn.ModuleList([stem, *stages[: max(self.out_indices) + 1]])
        self.out_channels = tuple(widths[i + 1] for i in self.out_indices)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x, maps = images, []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            if i - 1 in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.layers[0]]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        return list(self.layers)[1:]


def _channels(net: _Arch) -> list[int]:
    """Return the channels after the stem, each stage and the last convolution, at width 1."""
    return [net.stem, net.first, *(stage.channels for stage in net.stages), net.last]


def _head(net: _Arch, in_channels: int, out_channels: int) -> nn.Module:
    """Return the fixed block; of MobileNetV3 it has a ReLU."""
    first: Activation = net.stages[0].activation
    return nn.Sequential(
        MBBlock(
            in_channels=in_channels, out_channels=out_channels, expand_ratio=1, activation=first
        )
    )


def _stage(
    stage: _Stage, in_channels: int, out_channels: int, depth: int, shape: dict[str, int]
) -> nn.Module:
    blocks = [
        MBBlock(
            in_channels=out_channels if i else in_channels,
            out_channels=out_channels,
            stride=1 if i else stage.stride,
            activation=stage.activation,
            squeeze=stage.squeeze,
            **shape,
        )
        for i in range(1 if stage.single else depth)
    ]
    return nn.Sequential(*blocks)
