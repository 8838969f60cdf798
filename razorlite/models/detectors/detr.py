"""A detector that predicts a set."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.models.detectors.single_stage import Detector
from razorlite.models.heads.dense import sizes_in
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.queries import fewer_rows
from razorlite.models.resizing import Resizable
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.transformer import DetrDecoder, DetrEncoder, SinePositions
from razorlite.structures import Batch, Detections, Inputs, Target

Size = tuple[int, int]


@register()
class DETR(Resizable, Detector):
    """Backbone, transformer and a head over a fixed number of learnt queries.

    https://arxiv.org/abs/2005.12872
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        bbox_head: DETRHead,
        encoder: DetrEncoder | None = None,
        decoder: DetrDecoder | None = None,
        num_queries: Count = 100,
    ) -> None:
        """Take the built parts.

        Args:
            backbone: images to a tuple of maps.
            neck: maps to maps, the last of which has the encoder's channels.
            bbox_head: the decoder's queries to classes and boxes.
            encoder: over all cells of the last map; the published one by default.
            decoder: over the queries; the published one by default.
            num_queries: detections per image at most.
        """
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self.encoder = encoder or DetrEncoder()
        self.decoder = decoder or DetrDecoder()
        self.query_embedding = nn.Embedding(num_queries, self.encoder.embed_dims)
        self.positions = SinePositions(self.encoder.embed_dims)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the (N, C, H, W) maps of (N, 3, H, W) images that the transformer sees."""
        features: tuple[Tensor, ...] = self.neck(self.backbone(self.resized(images)))
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (L, N, Q, C + 1) logits and (L, N, Q, 4) boxes of all decoder layers.

        Boxes are cx, cy, w, h in parts of the image; images have no padding here.
        """
        x = self.features(images)[-1]
        inside = x.new_ones(x.shape[0], x.shape[2], x.shape[3])
        return self.transform(x, inside, None)

    def transform(self, x: Tensor, inside: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, for a (N, D, H, W) map.

        Args:
            x: the neck's last map.
            inside: (N, H, W), 1 inside the image and 0 in its padding.
            ignored: (N, H * W) bool, true for padding; None without padding.
        """
        pos = self.positions(inside.float()).to(x.dtype).flatten(2).transpose(1, 2)
        memory = self.encoder(x.flatten(2).transpose(1, 2), pos, ignored)
        queries = self.query_embedding.weight[None].expand(x.shape[0], -1, -1)
        raw: tuple[Tensor, Tensor] = self.bbox_head(self.decoder(queries, memory, pos, ignored))
        return raw

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the head's losses of every decoder layer for (N, 3, H, W) images."""
        sizes = sizes_in(_size(images), targets)
        return self.bbox_head.loss(self._raw(images, sizes), targets, sizes)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images."""
        frames = batch.frames()
        return self.bbox_head.predict(self._raw(batch.images, [f.size for f in frames]), frames)

    def decode(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, Q, 4) boxes, (N, Q) scores and labels; padding beyond `sizes` is not seen."""
        return self.bbox_head.decode(self._within(images, sizes), sizes)

    @property
    def num_queries(self) -> int:
        """How many objects can be found in an image."""
        return self.query_embedding.num_embeddings

    @property
    def num_decoder_layers(self) -> int:
        """How many layers the decoder has; each is supervised."""
        return len(self.decoder.layers)

    def keep_queries(self, kept: Sequence[int]) -> None:
        """Drop all other queries."""
        self.query_embedding = fewer_rows(self.query_embedding, kept)

    def keep_decoder_layers(self, count: int) -> None:
        """Drop all decoder layers behind the first ones."""
        self.decoder.layers = self.decoder.layers[:count]

    def query_scores(self, inputs: Inputs) -> Tensor:
        """Return (N, Q), the probability of the likeliest class of each query, 0 to 1."""
        logits: Tensor = self(inputs)[0][-1]
        return logits.float().softmax(-1)[..., :-1].amax(-1)

    @property
    def post_process(self) -> PostProcess:
        """The head's settings."""
        return self.bbox_head.post_process

    def _raw(self, images: Tensor, sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, with the padding beyond `sizes` left out of sight."""
        whole = _size(images)
        if all(size == whole for size in sizes):
            raw: tuple[Tensor, Tensor] = self(images)
            return raw
        return self._within(images, torch.tensor(sizes, device=images.device))

    def _within(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(images)[-1]
        inside = inside_cells((x.shape[-2], x.shape[-1]), _size(images), sizes)
        return self.transform(x, inside, ~inside.flatten(1))


def inside_cells(cells: Size, whole: Size, sizes: Tensor) -> Tensor:
    """Return (N, H, W) bool: which cells of padded maps begin inside their image.

    Args:
        cells: (H, W) of the map.
        whole: (height, width) of the batch's images in pixels.
        sizes: (N, 2) height and width without padding.
    """
    down = torch.arange(cells[0], device=sizes.device) * whole[0] // cells[0]
    across = torch.arange(cells[1], device=sizes.device) * whole[1] // cells[1]
    return (down < sizes[:, :1])[:, :, None] & (across < sizes[:, 1:])[:, None]


def _size(images: Tensor) -> Size:
    return images.shape[-2], images.shape[-1]
