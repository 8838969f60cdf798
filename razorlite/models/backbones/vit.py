"""Vision transformers as backbones, with the state-dict names of DeiT's release."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, FrozenStages, Indices
from razorlite.core.registry import register
from razorlite.models.backbones.base import Backbone
from razorlite.models.layers import check_indices
from razorlite.models.pretrained import load_pretrained

Arch = Literal["tiny", "small", "base"]

_ARCHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
_DEPTH = 12

fx.wrap("resize_positions")  # asks whether the size is the learnt one, which tracing cannot


def resize_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Return (1, 1 + height * width, D) from (1, 1 + G * G, D) positions of a square grid.

    The first belongs to the class token; the others are resized bicubically.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), 1)


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other."""

    def __init__(self, embed_dims: Count, num_heads: Count) -> None:
        """Build the projections."""
        super().__init__()
        self.num_heads = num_heads
        self.scale = (embed_dims // num_heads) ** -0.5
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, D)."""
        parts = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], scale=self.scale)
        result: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return result


class ViTBlock(nn.Module):
    """Attention and a two-layer network, each behind a norm and beside a shortcut."""

    def __init__(self, embed_dims: Count, num_heads: Count) -> None:
        """Build the layers."""
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = SelfAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(embed_dims, 4 * embed_dims),
                "fc2": nn.Linear(4 * embed_dims, embed_dims),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, D)."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class _PatchEmbed(nn.Module):
    def __init__(self, embed_dims: Count, patch_size: Count) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dims, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, D, H / patch_size, W / patch_size)."""
        out: Tensor = self.proj(images)
        return out


@register()
class VisionTransformer(Backbone):
    """ViT and DeiT for images of any size; the learnt positions are resized to the image.

    https://arxiv.org/abs/2010.11929, https://arxiv.org/abs/2012.12877
    """

    def __init__(
        self,
        *,
        arch: Arch = "tiny",
        patch_size: Count = 16,
        image_size: Count = 224,
        out_indices: Indices = (11,),
        frozen_stages: FrozenStages = -1,
        pretrained: str | None = None,
    ) -> None:
        """Build the network.

        Args:
            arch: 192, 384 or 768 channels in 3, 6 or 12 heads; all have 12 blocks.
            patch_size: pixels per cell of all maps; what is left at the image's right and bottom
                is not seen.
            image_size: pixels per side of the images that positions are learnt for.
            out_indices: blocks to return the output of, 0 to 11; the last one's is normed.
            frozen_stages: how many blocks do not learn; 0 is the embedding alone, -1 nothing.
            pretrained: path or URL of weights, such as DeiT's release.

        Raises:
            ConfigError: an argument is out of range.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        if arch not in _ARCHS or patch_size < 1 or image_size % patch_size:
            raise ConfigError(
                f"VisionTransformer needs an arch of {list(_ARCHS)} and an image_size that is a "
                f"multiple of patch_size, got {arch}, {image_size} and {patch_size}"
            )
        check_indices("VisionTransformer", out_indices, _DEPTH, frozen_stages)
        channels, heads = _ARCHS[arch]
        self.frozen_stages, self.out_indices = frozen_stages, out_indices
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        cells = (image_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + cells, channels))
        self.patch_embed = _PatchEmbed(channels, patch_size)
        self.blocks = nn.ModuleList(ViTBlock(channels, heads) for _ in range(max(out_indices) + 1))
        if _DEPTH - 1 in out_indices:
            self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.out_channels = (channels,) * len(out_indices)
        self._init_weights()
        if pretrained:
            load_pretrained(self, pretrained)
        if frozen_stages >= 0:
            self.cls_token.requires_grad_(False)
            self.pos_embed.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to (N, D, H / patch_size, W / patch_size) maps."""
        x = self.patch_embed(images)
        height, width = x.shape[2], x.shape[3]
        tokens = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x.flatten(2).mT), 1)
        tokens = tokens + resize_positions(self.pos_embed, height, width)
        maps = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in self.out_indices:
                out = self.norm(tokens) if i == _DEPTH - 1 else tokens
                maps.append(out[:, 1:].mT.unflatten(2, (height, width)))
        return tuple(maps)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first block."""
        return [self.patch_embed]

    def stages(self) -> list[nn.Module]:
        """Return the blocks in order, up to the last one that is returned."""
        return list(self.blocks)

    def _init_weights(self) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
