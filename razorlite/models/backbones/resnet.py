"""ResNet and ResNeXt with torchvision's state-dict names."""

from typing import Literal

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, FrozenStages, Indices, Strides
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.backbones.resnet_blocks import (
    BasicBlock,
    Block,
    BlockOptions,
    Bottleneck,
    PluginConfig,
    Style,
    added_tensors,
    build_stage,
)
from razorlite.models.deformable import DeformableConv2d, DeformConfig
from razorlite.models.layers import check_indices
from razorlite.models.plugins import Plugin
from razorlite.models.pretrained import load_pretrained

Depth = Literal[18, 34, 50, 101, 152]


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
        out_indices: Indices = (0, 1, 2, 3),
        strides: Strides = (1, 2, 2, 2),
        dilations: Strides = (1, 1, 1, 1),
        groups: Count = 1,
        base_width: Count = 64,
        base_channels: Count = 64,
        style: Style = "pytorch",
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
        norm_frozen: bool = False,
        zero_init_residual: bool = True,
        deep_stem: bool = False,
        avg_down: bool = False,
        with_cp: bool = False,
        deform: DeformConfig | None = None,
        plugins: list[PluginConfig] | None = None,
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
            base_channels: of the stem and, before their blocks' expansion, of the first stage;
                each further stage has twice as many.
            style: where a bottleneck has its stride.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.
            norm_frozen: keep the batch norms' weights and biases, too.
            zero_init_residual: start every block as its shortcut.
            deep_stem: begin with three 3 x 3 convolutions instead of one 7 x 7 (with `avg_down`:
                ResNet-D, https://arxiv.org/abs/1812.01187).
            avg_down: average in front of shortcuts that shrink the map, instead of a stride in
                them.
            with_cp: save memory in training: keep only the blocks' inputs, compute the rest again.
            deform: stages with deformable 3 x 3 convolutions (bottleneck depths only).
            plugins: what is put behind convolutions of blocks (bottleneck depths only).
            pretrained: torchvision name, path or URL of weights; they may lack what plugins and
                offsets need.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        _check(depth, out_indices, frozen_stages, strides, dilations, groups)
        _check_extensions(depth, deform, plugins or [])
        block, counts = _LAYOUTS[depth]
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        self.deep_stem = deep_stem
        if deep_stem:
            self.stem = _deep_stem(base_channels)
        else:
            self.conv1 = nn.Conv2d(3, base_channels, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(base_channels)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        in_channels, widths = base_channels, []
        for i in range(max(out_indices) + 1):
            options = BlockOptions(
                dilation=dilations[i],
                groups=groups,
                base_width=base_width,
                style=style,
                avg_down=avg_down,
                with_cp=with_cp,
                deform=deform if deform and deform.stages[i] else None,
                plugins=tuple(p for p in plugins or [] if p.stages[i]),
            )
            width = base_channels * 2**i
            stage = build_stage(block, counts[i], in_channels, width, strides[i], options)
            self.add_module(f"layer{i + 1}", stage)
            in_channels = width * block.expansion
            widths.append(in_channels)
        self.out_channels = tuple(widths[i] for i in out_indices)
        _init_weights(self, zero_init_residual)
        if pretrained:
            load_pretrained(self, pretrained, optional=added_tensors(self.state_dict(), self))
        self.norm_frozen = norm_frozen
        if norm_frozen:
            _freeze_norms(self)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x = self.stem(images) if self.deep_stem else self.relu(self.bn1(self.conv1(images)))
        x = self.maxpool(x)
        maps = []
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def frozen_part(self) -> str:
        """Return the arguments that freeze weights, as in a configuration; nothing if none do."""
        norms = "norm_frozen: true" if self.norm_frozen else ""
        return ", ".join(filter(None, [super().frozen_part(), norms]))

    def unfreeze(self) -> None:
        """Let all of it learn, statistics included."""
        self.norm_frozen = False
        super().unfreeze()

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.stem] if self.deep_stem else [self.conv1, self.bn1]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        return [getattr(self, f"layer{i + 1}") for i in range(max(self.out_indices) + 1)]


def _init_weights(network: nn.Module, zero_residual: bool) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_residual and isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif zero_residual and isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    for module in network.modules():
        if isinstance(module, Plugin | DeformableConv2d):
            module.init_weights()


def _deep_stem(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    half = max(1, width // 2)
    for in_channels, out_channels, stride in ((3, half, 2), (half, half, 1), (half, width, 1)):
        layers.append(nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _freeze_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)


def _check(
    depth: int,
    out_indices: tuple[int, ...],
    frozen_stages: int,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> None:
    if depth not in _LAYOUTS:
        raise ConfigError(f"ResNet.depth must be one of {list(_LAYOUTS)}, got {depth}")
    check_indices("ResNet", out_indices, 4, frozen_stages)
    if len(strides) != 4 or len(dilations) != 4:
        raise ConfigError(
            f"ResNet.strides and ResNet.dilations need 4 numbers, got {strides} and {dilations}"
        )
    if groups > 1 and _LAYOUTS[depth][0] is BasicBlock:
        raise ConfigError(f"ResNet.groups needs a depth of 50 or more, got depth {depth}")


def _check_extensions(depth: int, deform: DeformConfig | None, plugins: list[PluginConfig]) -> None:
    stages = [p.stages for p in plugins] + ([deform.stages] if deform else [])
    if stages and _LAYOUTS[depth][0] is BasicBlock:
        raise ConfigError(
            f"ResNet.plugins and ResNet.deform need a depth of 50 or more, got depth {depth}"
        )
    for given in stages:
        if len(given) != 4:
            raise ConfigError(
                f"ResNet.plugins and ResNet.deform take stages of 4 truth values, got {given}"
            )
