"""Encoder and decoder of detection transformers.

DETR, https://arxiv.org/abs/2005.12872, appendix A.4; norms come after the residual sums.
"""

import math

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, ShareBelowOne
from razorlite.core.registry import register


class Attention(nn.Module):
    """Multi-head attention with positions added to queries and keys, and its residual sum."""

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        """Build the projections.

        Args:
            embed_dims: length of every token.
            num_heads: parts of a token that attend on their own.
            dropout: share of attention weights, and of outputs, that is dropped in training.
        """
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(
                f"embed_dims must be a multiple of num_heads, got {embed_dims} and {num_heads}"
            )
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        key: Tensor,
        key_pos: Tensor,
        ignored: Tensor | None = None,
    ) -> Tensor:
        """Return (N, Q, D) for (N, Q, D) queries over (N, K, D) keys, which are the values, too.

        Args:
            query: (N, Q, D).
            query_pos: (N, Q, D) or (Q, D), added to the queries.
            key: (N, K, D).
            key_pos: (N, K, D) or (K, D), added to the keys but not to the values.
            ignored: (N, K) bool, true for keys that nothing may attend to.
        """
        out, _ = self.attn(
            query + query_pos, key + key_pos, key, key_padding_mask=ignored, need_weights=False
        )
        result: Tensor = query + self.dropout(out)
        return result


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, and a residual sum if asked for."""

    def __init__(
        self, embed_dims: int, channels: int, dropout: float = 0.0, residual: bool = True
    ) -> None:
        """Build the layers; `channels` is the length between the two."""
        super().__init__()
        first = nn.Sequential(
            nn.Linear(embed_dims, channels), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.layers = nn.Sequential(first, nn.Linear(channels, embed_dims), nn.Dropout(dropout))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = x + self.layers(x) if self.residual else self.layers(x)
        return out


class EncoderLayer(nn.Module):
    """Tokens attend to each other; then a feed-forward network."""

    def __init__(self, embed_dims: int, num_heads: int, channels: int, dropout: float) -> None:
        """Build the layer; `channels` is the inner length of the feed-forward network."""
        super().__init__()
        self.self_attn = Attention(embed_dims, num_heads, dropout)
        self.ffn = FeedForward(embed_dims, channels, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(2))

    def forward(self, x: Tensor, pos: Tensor, ignored: Tensor | None) -> Tensor:
        """Map (N, K, D) tokens to (N, K, D); see `Attention` for the arguments."""
        x = self.norms[0](self.self_attn(x, pos, x, pos, ignored))
        out: Tensor = self.norms[1](self.ffn(x))
        return out


class DecoderLayer(nn.Module):
    """Queries attend to each other, then to the memory; then a feed-forward network."""

    def __init__(self, embed_dims: int, num_heads: int, channels: int, dropout: float) -> None:
        """Build the layer; `channels` is the inner length of the feed-forward network."""
        super().__init__()
        self.self_attn = Attention(embed_dims, num_heads, dropout)
        self.cross_attn = Attention(embed_dims, num_heads, dropout)
        self.ffn = FeedForward(embed_dims, channels, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(
        self, x: Tensor, query_pos: Tensor, memory: Tensor, pos: Tensor, ignored: Tensor | None
    ) -> Tensor:
        """Map (N, Q, D) queries to (N, Q, D); see `Attention` for the arguments."""
        x = self.norms[0](self.self_attn(x, query_pos, x, query_pos))
        x = self.norms[1](self.cross_attn(x, query_pos, memory, pos, ignored))
        out: Tensor = self.norms[2](self.ffn(x))
        return out


@register()
class DetrEncoder(nn.Module):
    """A stack of `EncoderLayer`s."""

    def __init__(
        self,
        *,
        num_layers: Count = 6,
        embed_dims: Count = 256,
        num_heads: Count = 8,
        feedforward_channels: Count = 2048,
        dropout: ShareBelowOne = 0.1,
    ) -> None:
        """Build the layers.

        Raises:
            ConfigError: `embed_dims` cannot be split into `num_heads`.
        """
        super().__init__()
        self.embed_dims = embed_dims
        self.layers = nn.ModuleList(
            EncoderLayer(embed_dims, num_heads, feedforward_channels, dropout)
            for _ in range(num_layers)
        )
        init_transformer(self)

    def forward(self, x: Tensor, pos: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Map (N, K, D) tokens to the (N, K, D) memory; see `Attention` for the arguments."""
        for layer in self.layers:
            x = layer(x, pos, ignored)
        return x


@register()
class DetrDecoder(nn.Module):
    """A stack of `DecoderLayer`s, all of whose outputs are normed and returned."""

    def __init__(
        self,
        *,
        num_layers: Count = 6,
        embed_dims: Count = 256,
        num_heads: Count = 8,
        feedforward_channels: Count = 2048,
        dropout: ShareBelowOne = 0.1,
    ) -> None:
        """Build the layers.

        Raises:
            ConfigError: `embed_dims` cannot be split into `num_heads`.
        """
        super().__init__()
        self.embed_dims = embed_dims
        self.layers = nn.ModuleList(
            DecoderLayer(embed_dims, num_heads, feedforward_channels, dropout)
            for _ in range(num_layers)
        )
        self.post_norm = nn.LayerNorm(embed_dims)
        init_transformer(self)

    def forward(
        self, query_pos: Tensor, memory: Tensor, pos: Tensor, ignored: Tensor | None = None
    ) -> Tensor:
        """Return (L, N, Q, D): what each of L layers makes of queries that start as zeros.

        Args:
            query_pos: (N, Q, D) learnt positions of the queries.
            memory: (N, K, D) from the encoder.
            pos: (N, K, D) positions of the memory.
            ignored: (N, K) bool, true for padding.
        """
        x, outs = torch.zeros_like(query_pos), []
        for layer in self.layers:
            x = layer(x, query_pos, memory, pos, ignored)
            outs.append(self.post_norm(x))
        return torch.stack(outs)


class SinePositions(nn.Module):
    """Sines and cosines of each cell's place, rows in the first half, columns in the second."""

    frequencies: Tensor
    of_rows: Tensor
    of_columns: Tensor
    sines: Tensor
    cosines: Tensor

    def __init__(self, embed_dims: int, temperature: float = 10000.0) -> None:
        """Choose the wavelengths: a geometric series from 2 pi to 2 pi * temperature.

        All that tells channels apart are buffers of one number per channel, so that some of them
        can go: 0 or 1 says whether a channel is of rows or of columns, a sine or a cosine.
        """
        super().__init__()
        half = embed_dims // 2
        place = torch.arange(half)
        steps = 2 * (place // 2) / half
        self._keep("frequencies", (temperature**-steps).repeat(2))
        self._choose("of_rows", "of_columns", torch.arange(2).repeat_interleave(half))
        self._choose("sines", "cosines", (place % 2).repeat(2))

    def _choose(self, first: str, second: str, which: Tensor) -> None:
        self._keep(first, (which == 0).float())
        self._keep(second, (which == 1).float())

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def forward(self, inside: Tensor) -> Tensor:
        """Return (N, D, H, W) for (N, H, W), 1 inside the image and 0 in its padding.

        Places are counted from 1 and stretched so that the image's last one is at 2 pi.
        """
        rows, columns = inside.cumsum(1), inside.cumsum(2)
        down = rows / (rows[:, -1, None] + 1e-6) * (2 * math.pi)
        across = columns / (columns[:, :, -1, None] + 1e-6) * (2 * math.pi)
        place = down[..., None] * self.of_rows + across[..., None] * self.of_columns
        angle = place * self.frequencies
        waves = angle.sin() * self.sines + angle.cos() * self.cosines
        return waves.permute(0, 3, 1, 2)


def init_transformer(root: nn.Module) -> None:
    """Draw all matrices below `root` from Xavier's uniform distribution."""
    for parameter in root.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
