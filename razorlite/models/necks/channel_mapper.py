"""Every map of a backbone to one number of channels."""

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Kernel, Widths
from razorlite.core.registry import register
from razorlite.models.layers import Activation, ConvModule, Norm
from razorlite.models.necks.checks import check_maps


@register()
class ChannelMapper(nn.Module):
    """One convolution for each map, and extra coarse maps by convolutions of stride 2."""

    def __init__(
        self,
        *,
        in_channels: Widths,
        out_channels: Count,
        kernel_size: Kernel = 3,
        num_outs: Count | None = None,
        norm: Norm | None = None,
        activation: Activation | None = "ReLU",
    ) -> None:
        """Build the convolutions.

        Args:
            in_channels: channels of every map of the backbone.
            out_channels: channels of every output.
            kernel_size: odd side of the kernels; extra maps always have 3.
            num_outs: number of outputs; as many as there are maps by default.
            norm: kind of normalisation after each convolution.
            activation: kind of activation after it.

        Raises:
            ConfigError: there are fewer outputs than maps, or the kernel is even.
        """
        super().__init__()
        extra = (num_outs or len(in_channels)) - len(in_channels)
        if extra < 0 or not in_channels or kernel_size % 2 == 0:
            raise ConfigError(
                f"ChannelMapper needs num_outs of at least the {len(in_channels)} in_channels and "
                f"an odd kernel_size, got {num_outs} and {kernel_size}"
            )
        self.out_channels = out_channels
        self.convs = nn.ModuleList(
            ConvModule(
                channels,
                out_channels,
                kernel_size,
                padding=kernel_size // 2,
                norm=norm,
                activation=activation,
            )
            for channels in in_channels
        )
        if extra:
            sources = [in_channels[-1], *[out_channels] * (extra - 1)]
            self.extra_convs = nn.ModuleList(
                ConvModule(
                    c, out_channels, 3, stride=2, padding=1, norm=norm, activation=activation
                )
                for c in sources
            )
        self._extra = extra
        self.init_weights()

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map a tuple of (N, C_i, H_i, W_i) to `num_outs` of (N, out_channels, H, W).

        Raises:
            ConfigError: the maps are not those of `in_channels`.
        """
        check_maps(self, maps, list(self.convs))
        outs = [conv(x) for conv, x in zip(self.convs, maps, strict=True)]
        for i in range(self._extra):
            outs.append(self.extra_convs[i](maps[-1] if i == 0 else outs[-1]))
        return tuple(outs)

    def init_weights(self) -> None:
        """Draw all weights anew: Xavier's uniform distribution, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
