"""The decoder: queries attend to each other and look at what cameras show of their points.

DETR3D, https://arxiv.org/abs/2110.06922, section 3.2.
"""

import torch
from torch import Tensor, nn

from projects.detr3d.boxes import logits
from projects.detr3d.precision import exactly
from projects.detr3d.sampling import Views, locate, look_up, to_metres
from razorlite.models.transformer import Attention, FeedForward


class CameraAttention(nn.Module):
    """Queries gather what the maps show at their reference points, and its residual sum."""

    def __init__(self, embed_dims: int, cameras: int, levels: int, dropout: float) -> None:
        """Build the layers.

        Args:
            embed_dims: length of queries, and channels of the maps.
            cameras: of a sample.
            levels: maps of each camera.
            dropout: share of outputs that is dropped in training.
        """
        super().__init__()
        self.cameras, self.levels = cameras, levels
        self.attention_weights = nn.Linear(embed_dims, cameras * levels)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.position_encoder = nn.Sequential(
            *_normed(3, embed_dims), *_normed(embed_dims, embed_dims)
        )
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.xavier_uniform_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)

    def forward(
        self, x: Tensor, query_pos: Tensor, references: Tensor, points: Tensor, views: Views
    ) -> Tensor:
        """Map (B, Q, D) queries to (B, Q, D).

        Args:
            x: (B, Q, D) queries.
            query_pos: (B, Q, D) their learnt positions.
            references: (B, Q, 3) their points in shares of the space.
            points: the same in metres.
            views: what the cameras see.
        """
        seen = self.output_proj(self.gather(self.attention_weights(x + query_pos), points, views))
        where = exactly(self.position_encoder, logits(references))
        out: Tensor = self.dropout(seen) + x + where
        return out

    def gather(self, weights: Tensor, points: Tensor, views: Views) -> Tensor:
        """Return (B, Q, C), the weighted sums over cameras and levels of what is in sight.

        Args:
            weights: (B, Q, cameras * levels) before the sigmoid.
            points: (B, Q, 3) in metres.
            views: what the cameras see.
        """
        places, visible = locate(points, views)
        shares = weights.type_as(places).sigmoid().unflatten(2, (self.cameras, self.levels))
        shares = shares.permute(0, 2, 1, 3) * visible[..., None]
        found = [
            (look_up(maps, places) * shares[:, :, None, :, level]).sum(1)
            for level, maps in enumerate(views.maps)
        ]
        return torch.stack(found).sum(0).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention, camera attention and a feed-forward network, each with a norm behind it."""

    def __init__(
        self,
        *,
        embed_dims: int,
        num_heads: int,
        channels: int,
        cameras: int,
        levels: int,
        dropout: float,
    ) -> None:
        """Build the layer; `channels` is the inner length of the feed-forward network."""
        super().__init__()
        attend = Attention(embed_dims, num_heads, dropout)
        nn.init.xavier_uniform_(attend.attn.out_proj.weight)
        look = CameraAttention(embed_dims, cameras, levels, dropout)
        self.attentions = nn.ModuleList([attend, look])
        self.ffns = nn.ModuleList([FeedForward(embed_dims, channels, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))

    def forward(
        self, x: Tensor, query_pos: Tensor, references: Tensor, points: Tensor, views: Views
    ) -> Tensor:
        """Map (B, Q, D) queries to (B, Q, D); arguments as of `CameraAttention`."""
        attend, look = self.attentions
        x = self.norms[0](attend(x, query_pos, x, query_pos))
        x = self.norms[1](look(x, query_pos, references, points, views))
        out: Tensor = self.norms[2](self.ffns[0](x))
        return out


class Decoder(nn.Module):
    """A stack of layers."""

    def __init__(self, layers: list[DecoderLayer]) -> None:
        """Take the layers, the first to work first."""
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Transformer(nn.Module):
    """Starts queries at points of the space and lets them find objects, layer by layer."""

    def __init__(
        self,
        decoder: Decoder,
        embed_dims: int,
        space: tuple[float, float, float, float, float, float],
    ) -> None:
        """Take the decoder.

        Args:
            decoder: its layers.
            embed_dims: length of queries.
            space: least x, y, z and greatest x, y, z of reference points, in metres.
        """
        super().__init__()
        self.decoder, self.embed_dims, self.space = decoder, embed_dims, space
        self.reference_points = nn.Linear(embed_dims, 3)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self, embeddings: Tensor, views: Views, refine: nn.ModuleList
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each of L layers makes of the queries, of their points, and of their boxes.

        Args:
            embeddings: (B, Q, 2 * D), positions before contents.
            views: what the cameras see.
            refine: of each layer that runs, the first L, (B, Q, D) queries to (B, Q, 10) box codes
                whose numbers 0, 1 and 4 are added to the logits of the reference points; no
                gradient goes through these from one layer to the next.

        Returns:
            (L, B, Q, D) queries; (L + 1, B, Q, 3) reference points in shares of the space, those
            in front of each layer and behind the last; (L, B, Q, 10) codes as `refine` gave them,
            centres replaced by shares of the space.
        """
        position, x = embeddings[..., : self.embed_dims], embeddings[..., self.embed_dims :]
        here = exactly(self.reference_points, position).sigmoid()
        queries, references, codes = [], [here], []
        for layer, branch in zip(self.decoder.layers, refine, strict=False):
            x = layer(x, position, here, to_metres(here, self.space), views)
            code = exactly(branch, x)
            step = torch.cat([code[..., :2], code[..., 4:5]], dim=-1)
            centre = (step + logits(here)).sigmoid()
            here = centre.detach()
            queries.append(x)
            references.append(here)
            codes.append(_with_centre(code, centre))
        return torch.stack(queries), torch.stack(references), torch.stack(codes)


def _with_centre(code: Tensor, centre: Tensor) -> Tensor:
    """Return (B, Q, 10) codes with the (B, Q, 3) coordinates of their centres replaced."""
    x, y, z = centre[..., 0:1], centre[..., 1:2], centre[..., 2:3]
    return torch.cat([x, y, code[..., 2:4], z, code[..., 5:]], dim=-1)


def _normed(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels), nn.ReLU(inplace=True)]
