"""MobileNetV2 with a choice of kernel, expansion and depth in its blocks."""

from torch import Tensor, nn

from razorlite.core.ranges import Count, FrozenStages, Indices, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.models.layers import Activation, ConvModule, check_indices
from razorlite.space.placeholder import Placeholder

# channels, blocks, stride of each stage after the first, as in Proxyless-GPU
_STAGES = ((32, 4, 2), (56, 4, 2), (112, 4, 2), (128, 4, 1), (256, 4, 2), (432, 1, 1))


@register()
class SearchableMobileNetV2(Backbone):
    """The MobileNetV2-like search space of ProxylessNAS, https://arxiv.org/abs/1812.00332.

    Stage 0 is a fixed block without expansion. Stages 1 to 6 are `layers.STAGE.BLOCK` with the
    space ids `stage_STAGE_block_BLOCK` in two groups: `first_blocks`, which change the channels or
    the size of the map, and `other_blocks`, which may also be skipped. Choices of the papers are
    `MBBlock` with kernels 3, 5, 7 and expansions 3, 6, and `Skip` among the others.
    """

    def __init__(
        self,
        *,
        width_mult: Positive = 1.0,
        stem_channels: Count = 40,
        first_channels: Count = 24,
        last_channels: Count = 1728,
        out_indices: Indices = (7,),
        activation: Activation = "ReLU",
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
    ) -> None:
        """Build the network; what follows the last returned stage is left out.

        Args:
            width_mult: factor of all channels but the last, rounded to multiples of 8.
            stem_channels: channels of the first convolution.
            first_channels: channels of the fixed first block.
            last_channels: channels of the last 1 x 1 convolution.
            out_indices: stages to return: 0 to 6 (strides 2, 4, 8, 16, 16, 32, 32) and 7, the last
                1 x 1 convolution that a classifier needs.
            activation: of the stem, the first block and the last convolution.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: an argument is out of range.
        """
        super().__init__()
        check_indices("SearchableMobileNetV2", out_indices, 8, frozen_stages)
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        channels = _scale(stem_channels, width_mult)
        widths = [_scale(width, width_mult) for width in (first_channels, *_stage_channels())]
        self.conv1 = ConvModule(
            3, channels, 3, stride=2, padding=1, norm="BN", activation=activation
        )
        first = MBBlock(
            in_channels=channels, out_channels=widths[0], expand_ratio=1, activation=activation
        )
        self.layers = nn.ModuleList([nn.Sequential(first)])
        for stage in range(1, min(max(out_indices) + 1, 7)):
            _, blocks, stride = _STAGES[stage - 1]
            self.layers.append(_stage(stage, widths[stage - 1], widths[stage], blocks, stride))
        if 7 in out_indices:
            last = ConvModule(widths[-1], last_channels, 1, norm="BN", activation=activation)
            self.layers.append(last)
        self.out_channels = tuple([*widths, last_channels][i] for i in out_indices)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x = self.conv1(images)
        maps = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.conv1]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        return list(self.layers)


def _stage_channels() -> tuple[int, ...]:
    return tuple(channels for channels, _, _ in _STAGES)


def _stage(
    stage: int, in_channels: int, out_channels: int, blocks: int, stride: int
) -> nn.Sequential:
    def place(block: int) -> Placeholder:
        first = block == 0
        return Placeholder(
            "first_blocks" if first else "other_blocks",
            f"stage_{stage}_block_{block}",
            in_channels=in_channels if first else out_channels,
            out_channels=out_channels,
            stride=stride if first else 1,
        )

    return nn.Sequential(*(place(block) for block in range(blocks)))


def _scale(channels: int, width_mult: float) -> int:
    """Return the multiple of 8 nearest to channels * width_mult, at least 8."""
    return max(8, 8 * round(channels * width_mult / 8))
