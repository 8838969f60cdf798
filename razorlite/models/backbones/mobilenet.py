"""MobileNetV2 and MobileNetV3 with torchvision's layers and state-dict names."""

from typing import Literal

from torch import Tensor, nn
from torchvision import models as zoo

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import FrozenStages, Indices, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.layers import check_indices
from razorlite.models.pretrained import load_pretrained

# The layers of torchvision's `features` with which the stages end, the stem's first.
_V2_ENDS = (1, 4, 7, 14, 18, 19)
_V3_ENDS = {"large": (1, 4, 7, 13, 16, 17), "small": (1, 2, 4, 9, 12, 13)}


class _Sliced(Backbone):
    """A chain of layers cut into a stem and stages."""

    def __init__(
        self,
        features: nn.Sequential,
        ends: tuple[int, ...],
        out_indices: Indices,
        frozen_stages: FrozenStages,
        norm_eval: bool,
        pretrained: str | None,
    ) -> None:
        super().__init__()
        check_indices(type(self).__name__, out_indices, len(ends) - 1, frozen_stages)
        self.frozen_stages, self.norm_eval, self.out_indices = frozen_stages, norm_eval, out_indices
        self._ends = ends[: max(out_indices) + 2]
        self.features = features[: self._ends[-1]]
        self.out_channels = tuple(_channels(features[ends[i + 1] - 1]) for i in out_indices)
        if pretrained:
            load_pretrained(self, pretrained)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        x, maps = images, []
        expected = [self._ends[i + 1] for i in self.out_indices]
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i + 1 in expected:
                maps.append(x)
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        return [self.features[: self._ends[0]]]

    def stages(self) -> list[nn.Module]:
        """Return the stages in order, up to the last one that is returned."""
        pairs = zip(self._ends, self._ends[1:], strict=False)
        return [self.features[start:end] for start, end in pairs]


@register()
class MobileNetV2(_Sliced):
    """Inverted residuals with linear bottlenecks, https://arxiv.org/abs/1801.04381."""

    def __init__(
        self,
        *,
        width: Positive = 1.0,
        out_indices: Indices = (1, 2, 3),
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            width: factor of the channels.
            out_indices: stages to return: 0 to 3 (strides 4, 8, 16, 32) and 4, the last 1 x 1
                convolution that a classifier needs.
            frozen_stages: how many stages do not learn; 0 is the stem alone, -1 nothing.
            norm_eval: keep the batch norms' statistics while training.
            pretrained: torchvision name, path or URL of weights.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        features = zoo.mobilenet_v2(weights=None, width_mult=width).features
        super().__init__(features, _V2_ENDS, out_indices, frozen_stages, norm_eval, pretrained)


@register()
class MobileNetV3(_Sliced):
    """Searched inverted residuals with channel attention, https://arxiv.org/abs/1905.02244."""

    def __init__(
        self,
        *,
        arch: Literal["small", "large"] = "large",
        width: Positive = 1.0,
        out_indices: Indices = (1, 2, 3),
        frozen_stages: FrozenStages = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
    ) -> None:
        """Build the network; see `MobileNetV2` for the other arguments and errors.

        Args:
            arch: which of the paper's two networks.
            width: factor of the channels.
            out_indices: stages to return, 0 to 4.
            frozen_stages: how many stages do not learn.
            norm_eval: keep the batch norms' statistics while training.
            pretrained: torchvision name, path or URL of weights.
        """
        if arch not in _V3_ENDS:
            raise ConfigError(f"MobileNetV3 needs an arch of {list(_V3_ENDS)}, got {arch}")
        build = zoo.mobilenet_v3_large if arch == "large" else zoo.mobilenet_v3_small
        features = build(weights=None, width_mult=width).features
        ends = _V3_ENDS[arch]
        super().__init__(features, ends, out_indices, frozen_stages, norm_eval, pretrained)


def _channels(layer: nn.Module) -> int:
    """Return the channels that come out of a layer: those of its last batch norm."""
    return [m.num_features for m in layer.modules() if isinstance(m, nn.BatchNorm2d)][-1]
