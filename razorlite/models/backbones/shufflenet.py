"""ShuffleNetV2 with torchvision's state-dict names."""

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, FrozenStages, Indices, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.layers import check_indices
from razorlite.models.pretrained import load_pretrained

_BLOCKS = (4, 8, 4)
_CHANNELS = {
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}


class ShuffleUnit(nn.Module):
    """Half of the channels pass by, half are convolved; then the halves are mixed.

    With stride 2 both halves are made from all channels, and the map shrinks.
    """

    def __init__(self, *, in_channels: Count, out_channels: Count, stride: Count) -> None:
        """Build the unit; `out_channels` must be even."""
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        passing = [*_depthwise(in_channels, stride), *_pointwise(in_channels, half)]
        self.branch1 = nn.Sequential(*(passing if stride > 1 else []))
        self.branch2 = nn.Sequential(
            *_pointwise(in_channels if stride > 1 else half, half),
            *_depthwise(half, stride),
            *_pointwise(half, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if self.stride == 1:
            passed, x = x.chunk(2, dim=1)
        else:
            passed = self.branch1(x)
        return shuffle_channels(torch.cat((passed, self.branch2(x)), dim=1))


def shuffle_channels(x: Tensor, groups: int = 2) -> Tensor:
    """Return (N, C, H, W) with channel i * groups + g taken from place i of group g."""
    out: Tensor = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return out


@register()
class ShuffleNetV2(Backbone):
    """ShuffleNetV2, https://arxiv.org/abs/1807.11164."""

    def __init__(
        self,
        *,
        width: Positive = 1.0,
        out_indices: Indices = (0, 1, 2),
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            width: factor of the channels: 0.5, 1.0, 1.5 or 2.0.
            out_indices: stages to return: 0, 1, 2 (strides 8, 16, 32) and 3, the last 1 x 1
                convolution that a classifier needs.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.
            pretrained: torchvision name, path or URL of weights.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        if width not in _CHANNELS:
            raise ConfigError(f"ShuffleNetV2.width must be one of {list(_CHANNELS)}, got {width}")
        check_indices("ShuffleNetV2", out_indices, 4, frozen_stages)
        channels = _CHANNELS[width]
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        self.conv1 = _conv_bn_relu(3, channels[0], 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i in range(min(max(out_indices) + 1, 3)):
            self.add_module(f"stage{i + 2}", _stage(_BLOCKS[i], channels[i], channels[i + 1]))
        if 3 in out_indices:
            self.conv5 = _conv_bn_relu(channels[3], channels[4], 1, 1)
        self.out_channels = tuple(channels[i + 1] for i in out_indices)
        if pretrained:
            load_pretrained(self, pretrained)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x = self.maxpool(self.conv1(images))
        maps = []
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.conv1]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        names = ("stage2", "stage3", "stage4", "conv5")
        return [getattr(self, name) for name in names[: max(self.out_indices) + 1]]


def _stage(count: int, in_channels: int, out_channels: int) -> nn.Sequential:
    first = ShuffleUnit(in_channels=in_channels, out_channels=out_channels, stride=2)
    rest = [
        ShuffleUnit(in_channels=out_channels, out_channels=out_channels, stride=1)
        for _ in range(count - 1)
    ]
    return nn.Sequential(first, *rest)


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def _pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
