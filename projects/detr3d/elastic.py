"""What may vary in a DETR3D besides widths: queries, decoder layers, blocks, size of images."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from projects.detr3d.head import DETR3DHead
from projects.detr3d.transformer import Decoder
from razorlite.space.dimension import Dimension, Value, Values
from razorlite.space.mutable import Mutable

M = TypeVar("M", bound=nn.Module)

QUERIES, LAYERS, SIZE = "queries", "decoder_layers", "image_scale"


def alike(kind: type[M], module: nn.Module) -> M:
    """Return a module of another class with the same parameters, buffers, children and settings."""
    new = kind.__new__(kind)
    held = ("_parameters", "_buffers", "_modules")
    new.__dict__ = {k: dict(v) if k in held else v for k, v in module.__dict__.items()}
    return new


class ElasticHead(Mutable, DETR3DHead):
    """A head of which the first queries and the first decoder layers run.

    Each layer is supervised, so that the last ones can go; queries stand for themselves.
    """

    counts: dict[str, int]
    options: tuple[Dimension, ...]

    @classmethod
    def of(cls, head: DETR3DHead, options: Iterable[Dimension]) -> "ElasticHead":
        """Return the elastic form of a head, with the same weights.

        Args:
            head: plain.
            options: `queries` or `decoder_layers` or both, with the numbers that may run.
        """
        own = alike(cls, head)
        own.options = tuple(options)
        whole = {QUERIES: head.num_query, LAYERS: head.num_layers}
        own.counts = {d.name: whole[d.name] for d in own.options}
        return own

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Queries and decoder layers, as far as they may vary."""
        return self.options

    @property
    def values(self) -> Values:
        """How many run."""
        return dict(self.counts)

    def set(self, values: Values) -> None:
        """Let so many run."""
        self.counts = {d.name: int(values[d.name]) for d in self.options}

    def depth(self) -> int:
        """Return how many decoder layers run."""
        return self.counts.get(LAYERS, self.num_layers)

    def embeddings(self) -> Tensor:
        """Return the (K, 2 * D) positions and contents of the queries that run."""
        return self.query_embedding.weight[: self.counts.get(QUERIES)]

    def export(self, values: Values) -> nn.Module:
        """Return a plain head of the queries and layers that run at these values."""
        queries, layers = self._numbers(values)
        plain = alike(DETR3DHead, self)
        for name in ("counts", "options"):
            del plain.__dict__[name]
        plain.transformer = alike(type(self.transformer), self.transformer)
        plain.transformer.decoder = alike(Decoder, self.transformer.decoder)
        plain.keep_queries(range(queries))
        plain.keep_layers(layers)
        return plain

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the weights of the queries and layers that run at these values."""
        queries, layers = self._numbers(values)
        own = {k: v for k, v in state.items() if (_layer(k) or 0) < layers}
        return {**own, "query_embedding.weight": own["query_embedding.weight"][:queries]}

    def running(self) -> Iterable[nn.Module]:
        """Return the parts that run."""
        depth, stacks = self.depth(), (self.transformer.decoder.layers, self.cls_branches)
        layers = [m for stack in (*stacks, self.reg_branches) for m in stack[:depth]]
        return [self.transformer.reference_points, self.query_embedding, *layers]

    def condition(self, path: str) -> Mapping[str, tuple[Value, ...]]:
        """Return for which numbers of layers a module inside runs."""
        layer = _layer(path)
        dimension = next((d for d in self.options if d.name == LAYERS), None)
        if layer is None or dimension is None:
            return {}
        return {LAYERS: tuple(v for v in dimension.values if int(v) > layer)}

    def _numbers(self, values: Values) -> tuple[int, int]:
        """Return the numbers of queries and layers at some values."""
        queries = int(values.get(QUERIES, self.num_query))
        return queries, int(values.get(LAYERS, self.num_layers))


def _layer(path: str) -> int | None:
    """Return the decoder layer that a module or weight belongs to."""
    parts = path.split(".")
    if parts[:3] == ["transformer", "decoder", "layers"] and len(parts) > 3:
        return int(parts[3])
    if parts[0] in ("cls_branches", "reg_branches") and len(parts) > 1:
        return int(parts[1])
    return None


class ScaledImages(nn.Module):
    """Images of another size; where in them something is, in shares, stays.

    Args:
        factor: of height and width.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, factor * H, factor * W)."""
        return F.interpolate(images, scale_factor=self.factor, mode="bilinear", antialias=True)


class ElasticImages(Mutable):
    """Images whose size may vary.

    Args:
        option: the factors of height and width, 1.0 among them.
    """

    def __init__(self, option: Dimension) -> None:
        super().__init__()
        self.option, self.factor = option, 1.0

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The factor."""
        return (self.option,)

    @property
    def values(self) -> Values:
        """The factor."""
        return {self.option.name: self.factor}

    def set(self, values: Values) -> None:
        """Take a factor."""
        self.factor = float(values[self.option.name])

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to images of the size that is set."""
        out: Tensor = self.export(self.values)(images)
        return out

    def export(self, values: Values) -> nn.Module:
        """Return what scales by these values; nothing is done where the size stays."""
        factor = float(values[self.option.name])
        return nn.Identity() if factor == 1 else ScaledImages(factor)

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return nothing: there are no weights."""
        return {}
