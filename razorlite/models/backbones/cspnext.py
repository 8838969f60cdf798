"""CSPNeXt, the backbone of RTMDet."""

from typing import Any

from torch import Tensor, nn

from razorlite.core.ranges import FrozenStages, Indices, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.csp import CSPLayer, PyramidPooling
from razorlite.models.layers import Activation, ConvModule, Norm, check_indices
from razorlite.models.pretrained import load_pretrained

_STEM = 64
_STAGES = ((128, 3), (256, 6), (512, 6), (1024, 3))  # channels, blocks at full size


@register()
class CSPNeXt(Backbone):
    """Cross-stage-partial stages of blocks with large depth-wise kernels and channel attention.

    Stages 0 to 3 have strides 4, 8, 16 and 32. State-dict names are OpenMMLab's.
    RTMDet, https://arxiv.org/abs/2212.07784, section 3.2.
    """

    def __init__(
        self,
        *,
        deepen_factor: Positive = 1.0,
        widen_factor: Positive = 1.0,
        out_indices: Indices = (1, 2, 3),
        expand_ratio: Positive = 0.5,
        channel_attention: bool = True,
        norm: Norm = "BN",
        activation: Activation = "SiLU",
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            deepen_factor: factor of the blocks of each stage; at least one stays.
            widen_factor: factor of the channels.
            out_indices: stages to return, 0 to 3.
            expand_ratio: channels of each way inside a stage, as a part of the stage's.
            channel_attention: whether each stage weighs its channels.
            norm: kind of normalisation.
            activation: kind of activation.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.
            pretrained: path or URL of weights.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        check_indices("CSPNeXt", out_indices, len(_STAGES), frozen_stages)
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        kinds: dict[str, Any] = {"norm": norm, "activation": activation}
        widths = [int(c * widen_factor) for c in (_STEM, *(c for c, _ in _STAGES))]
        depths = [max(round(n * deepen_factor), 1) for _, n in _STAGES]
        self.stem = _stem(widths[0], **kinds)
        for i, depth in enumerate(depths):
            last = i == len(depths) - 1
            layer = CSPLayer(
                widths[i + 1],
                widths[i + 1],
                num_blocks=depth,
                expand_ratio=expand_ratio,
                add_identity=not last,
                channel_attention=channel_attention,
                **kinds,
            )
            down = ConvModule(widths[i], widths[i + 1], 3, stride=2, padding=1, **kinds)
            pooling = [PyramidPooling(widths[i + 1], **kinds)] if last else []
            self.add_module(f"stage{i + 1}", nn.Sequential(down, *pooling, layer))
        self.out_channels = tuple(widths[i + 1] for i in out_indices)
        if pretrained:
            load_pretrained(self, pretrained)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x, maps = self.stem(images), []
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.stem]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order."""
        return [self.get_submodule(f"stage{i + 1}") for i in range(len(_STAGES))]


def _stem(channels: int, *, norm: Norm, activation: Activation) -> nn.Sequential:
    half = channels // 2
    shapes = ((3, half, 2), (half, half, 1), (half, channels, 1))
    return nn.Sequential(
        *[
            ConvModule(a, b, 3, stride=stride, padding=1, norm=norm, activation=activation)
            for a, b, stride in shapes
        ]
    )
