"""DETR3D's head: queries, their decoder, and classes and boxes of every decoder layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.detr3d.boxes import CODE, decode, encode, inside
from projects.detr3d.matching import HungarianAssigner3D
from projects.detr3d.precision import exactly
from projects.detr3d.records import Found, Objects
from projects.detr3d.sampling import Views, to_metres
from projects.detr3d.transformer import Decoder, DecoderLayer, Transformer
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, ShareBelowOne
from razorlite.core.registry import register
from razorlite.models.heads.class_head import ClassHead, ClassLayer
from razorlite.models.heads.dense import mean_over_ranks
from razorlite.models.layers import prior_bias
from razorlite.models.queries import fewer_rows
from razorlite.models.tasks.losses import FocalLoss

Raw = tuple[Tensor, Tensor]
Pairs = list[tuple[Tensor, Tensor]]
Space = tuple[float, float, float, float, float, float]

SPACE: Space = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
REPORTED: Space = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
CODE_WEIGHTS = (*[1.0] * 8, 0.2, 0.2)


@register()
class DETR3DHead(ClassHead):
    """Sigmoid classes and 3D boxes of a set of learnt queries, without suppression.

    Every object is given to one query, and all decoder layers learn. Box codes are those of
    `projects.detr3d.boxes.encode`. https://arxiv.org/abs/2110.06922
    """

    def __init__(
        self,
        *,
        num_classes: Count,
        num_query: Count = 900,
        num_layers: Count = 6,
        embed_dims: Count = 256,
        num_heads: Count = 8,
        feedforward_channels: Count = 512,
        num_cameras: Count = 6,
        num_levels: Count = 4,
        dropout: ShareBelowOne = 0.1,
        space: Space = SPACE,
        reported: Space = REPORTED,
        code_weights: Sequence[NonNegative] = CODE_WEIGHTS,
        max_per_frame: Count = 300,
        assigner: HungarianAssigner3D | None = None,
        loss_cls: FocalLoss | None = None,
        box_weight: NonNegative = 0.25,
    ) -> None:
        """Build the layers.

        Args:
            num_classes: how many classes there are.
            num_query: objects that a frame can have at most.
            num_layers: of the decoder.
            embed_dims: length of queries, and channels of the maps.
            num_heads: of the self-attention.
            feedforward_channels: inner length of the feed-forward networks.
            num_cameras: of a frame.
            num_levels: maps of each camera.
            dropout: in attention and feed-forward networks.
            space: least x, y, z and greatest x, y, z of reference points and centres, in metres.
            reported: the same of the centres that decoding keeps.
            code_weights: of a code's 10 numbers in the loss.
            max_per_frame: boxes that decoding gives at most.
            assigner: gives objects to queries; with the published costs by default.
            loss_cls: of classes; focal loss times 2 by default.
            box_weight: of the L1 loss of box codes.

        Raises:
            ConfigError: `code_weights` are not 10, or a space is empty.
        """
        super().__init__()
        _check(code_weights, {"space": space, "reported": reported})
        self.num_classes, self.num_query, self.num_layers = num_classes, num_query, num_layers
        self.num_cameras = num_cameras
        self.space, self.reported = space, reported
        self.max_per_frame, self.box_weight = max_per_frame, box_weight
        self.assigner = assigner or HungarianAssigner3D()
        self.loss_cls = loss_cls or FocalLoss(loss_weight=2.0)
        self.code_weights = nn.Parameter(torch.tensor(code_weights), requires_grad=False)
        layers = [
            DecoderLayer(
                embed_dims=embed_dims,
                num_heads=num_heads,
                channels=feedforward_channels,
                cameras=num_cameras,
                levels=num_levels,
                dropout=dropout,
            )
            for _ in range(num_layers)
        ]
        self.transformer = Transformer(Decoder(layers), embed_dims, self.space)
        self.cls_branches = nn.ModuleList(
            _classes(embed_dims, num_classes) for _ in range(num_layers)
        )
        self.reg_branches = nn.ModuleList(_codes(embed_dims) for _ in range(num_layers))
        self.query_embedding = nn.Embedding(num_query, 2 * embed_dims)
        self.class_layers = tuple(ClassLayer(f"cls_branches.{i}.6") for i in range(num_layers))

    def forward(self, views: Views) -> Raw:
        """Return (L, B, Q, C) logits and (L, B, Q, 10) box codes, centres in metres."""
        return self.read(*self.decoded(views))

    def decoded(self, views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `Transformer.forward` does, with these queries in every frame."""
        start = torch.zeros_like(views.lidar2img[:, :1, 0, :1]) + self.embeddings()
        branches = self.reg_branches[: self.depth()]
        found: tuple[Tensor, Tensor, Tensor] = self.transformer(start, views, branches)
        return found

    def embeddings(self) -> Tensor:
        """Return the (Q, 2 * D) positions and contents that queries start with."""
        return self.query_embedding.weight

    def depth(self) -> int:
        """Return how many decoder layers run."""
        return len(self.reg_branches)

    def keep_queries(self, kept: Sequence[int]) -> None:
        """Drop all other queries."""
        self.query_embedding = fewer_rows(self.query_embedding, kept)
        self.num_query = len(kept)

    def keep_layers(self, count: int) -> None:
        """Drop all decoder layers behind the first ones, and what reads them."""
        self.transformer.decoder.layers = self.transformer.decoder.layers[:count]
        self.cls_branches = self.cls_branches[:count]
        self.reg_branches = self.reg_branches[:count]
        self.class_layers = self.class_layers[:count]
        self.num_layers = count

    def read(self, queries: Tensor, references: Tensor, codes: Tensor) -> Raw:
        """Return what `forward` does, of what `decoded` returned: (L, B, Q, D) queries, ...."""
        pairs = zip(self.cls_branches[: self.depth()], queries.unbind(0), strict=True)
        classes = torch.stack([exactly(branch, x) for branch, x in pairs])
        centres = torch.cat([codes[..., :2], codes[..., 4:5]], dim=-1)
        x, y, z = to_metres(centres, self.space).split(1, dim=-1)
        return classes, torch.cat([x, y, codes[..., 2:4], z, codes[..., 5:]], dim=-1)

    def assign(self, raw: Raw, targets: list[Objects]) -> list[Pairs]:
        """Return for each layer and frame the matched queries and their objects, (K,) int64 each.

        Args:
            raw: what `forward` returned.
            targets: what the frames show, with all velocities known.
        """
        return [
            [
                self.assigner(one.float(), code.float(), target.labels, target.boxes)
                for one, code, target in zip(logits, codes, targets, strict=True)
            ]
            for logits, codes in zip(*raw, strict=True)
        ]

    def losses(self, raw: Raw, targets: list[Objects], pairs: list[Pairs]) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` of the last layer and `d0.loss_cls`, … of those below.

        All are divided by the number of matched objects, over all processes, 1 at least.
        """
        losses: dict[str, Tensor] = {}
        for i, layer in enumerate(zip(*raw, pairs, strict=True)):
            prefix = "" if i == len(pairs) - 1 else f"d{i}."
            losses |= {prefix + name: v for name, v in self._of_layer(*layer, targets).items()}
        return losses

    def loss(self, raw: Raw, targets: list[Objects]) -> dict[str, Tensor]:
        """Return `losses` of what `assign` gives; unknown velocities count as 0."""
        known = [target.at_rest() for target in targets]
        return self.losses(raw, known, self.assign(raw, known))

    def _of_layer(
        self, logits: Tensor, codes: Tensor, pairs: Pairs, targets: list[Objects]
    ) -> dict[str, Tensor]:
        labels = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        got, expected = [], []
        for i, ((query, number), target) in enumerate(zip(pairs, targets, strict=True)):
            labels[i, query] = target.labels[number]
            got.append(codes[i, query])
            expected.append(encode(target.boxes[number]))
        count = torch.tensor(float(sum(map(len, got))), device=logits.device)
        factor = mean_over_ranks(count).clamp(min=1)
        distance = (torch.cat(got).float() - torch.cat(expected)).abs() * self.code_weights
        return {
            "loss_cls": self.loss_cls(logits.flatten(0, 1), labels.flatten(), factor),
            "loss_bbox": self.box_weight * distance.sum() / factor,
        }

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best boxes of the last layer, in tensors of fixed shapes.

        Returns:
            (B, K, 9) boxes, (B, K) scores, best first and 0 where the centre is not within
            `reported`, and (B, K) labels; K is `max_per_frame`, or the number of all scores.
        """
        logits, codes = raw[0][-1].float(), raw[1][-1].float()
        count = min(self.max_per_frame, logits.shape[1] * self.num_classes)
        scores, places = logits.sigmoid().flatten(1).topk(count)
        query = (places // self.num_classes)[..., None]
        boxes = decode(codes.gather(1, query.expand(-1, -1, CODE)))
        scores = scores * inside(boxes[..., :3], self.reported)
        return boxes, scores, places % self.num_classes

    def predict(self, raw: Raw) -> list[Found]:
        """Return what the last layer's queries find in each frame, best first."""
        frames = zip(*self.decode(raw), strict=True)
        return [Found(*(x[scores > 0] for x in (b, scores, kinds))) for b, scores, kinds in frames]


def _classes(embed_dims: int, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(embed_dims, embed_dims), nn.LayerNorm(embed_dims)]
        layers.append(nn.ReLU(inplace=True))
    last = nn.Linear(embed_dims, num_classes)
    nn.init.constant_(last.bias, prior_bias(0.01))
    return nn.Sequential(*layers, last)


def _codes(embed_dims: int) -> nn.Sequential:
    hidden = [nn.Linear(embed_dims, embed_dims), nn.ReLU(), nn.Linear(embed_dims, embed_dims)]
    return nn.Sequential(*hidden, nn.ReLU(), nn.Linear(embed_dims, CODE))


def _check(code_weights: Sequence[float], spaces: dict[str, Space]) -> None:
    if len(code_weights) != CODE:
        raise ConfigError(
            f"DETR3DHead.code_weights wants {CODE} numbers, one for each of a box's code, got "
            f"{len(code_weights)}",
            key="code_weights",
        )
    for name, space in spaces.items():
        if any(low >= high for low, high in zip(space[:3], space[3:], strict=True)):
            raise ConfigError(
                f"DETR3DHead.{name} wants least x, y, z and greatest x, y, z, got {list(space)}",
                key=name,
            )
