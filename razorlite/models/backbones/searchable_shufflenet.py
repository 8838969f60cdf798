"""ShuffleNetV2 with a choice of operation in each of its 20 blocks."""

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, FrozenStages, Indices, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.layers import ConvModule, check_indices
from razorlite.space.placeholder import Placeholder

_BLOCKS = (4, 4, 8, 4)
_CHANNELS = (64, 160, 320, 640)


@register()
class SearchableShuffleNetV2(Backbone):
    """The search space of Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, table 1.

    Blocks are `layers.STAGE.BLOCK`, in the group `all_blocks`, with the space ids
    `stage_0_block_0` to `stage_3_block_3`; the first block of each stage has stride 2.
    """

    def __init__(
        self,
        *,
        width_mult: Positive = 1.0,
        stem_channels: Count = 16,
        last_channels: Count = 1024,
        out_indices: Indices = (4,),
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
    ) -> None:
        """Build the network; what follows the last returned stage is left out.

        Args:
            width_mult: factor of the stages' channels (64, 160, 320, 640), rounded to even numbers.
            stem_channels: channels of the first convolution.
            last_channels: channels of the last 1 x 1 convolution.
            out_indices: stages to return: 0 to 3 (strides 4, 8, 16, 32) and 4, the last 1 x 1
                convolution that a classifier needs.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: an argument is out of range.
        """
        super().__init__()
        check_indices("SearchableShuffleNetV2", out_indices, 5, frozen_stages)
        widths = [_even(width * width_mult) for width in _CHANNELS]
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        self.conv1 = ConvModule(3, stem_channels, 3, stride=2, padding=1, norm="BN")
        self.layers = nn.ModuleList()
        inputs = [stem_channels, *widths]
        for stage in range(min(max(out_indices) + 1, 4)):
            self.layers.append(_stage(stage, inputs[stage], widths[stage]))
        if 4 in out_indices:
            self.layers.append(ConvModule(widths[-1], last_channels, 1, norm="BN"))
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


def _stage(stage: int, in_channels: int, out_channels: int) -> nn.Sequential:
    blocks = [
        Placeholder(
            "all_blocks",
            f"stage_{stage}_block_{block}",
            in_channels=in_channels if block == 0 else out_channels,
            out_channels=out_channels,
            stride=2 if block == 0 else 1,
        )
        for block in range(_BLOCKS[stage])
    ]
    return nn.Sequential(*blocks)


def _even(width: float) -> int:
    channels = 2 * round(width / 2)
    if channels < 2:
        raise ConfigError(f"SearchableShuffleNetV2.width_mult leaves {channels} channels; raise it")
    return channels
