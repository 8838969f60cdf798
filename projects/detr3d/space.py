"""Search spaces of a DETR3D, from YAML."""

from collections.abc import Sequence

from torch import nn

from projects.detr3d.detector import DETR3D
from projects.detr3d.elastic import (
    LAYERS,
    QUERIES,
    SIZE,
    ElasticHead,
    ElasticImages,
)
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Positive
from razorlite.core.registry import register
from razorlite.space.dimension import Dimension
from razorlite.space.mutator import Preparer
from razorlite.space.stages import ElasticStage


@register()
class ElasticDETR3D(Preparer):
    """Makes queries, decoder layers, blocks of the backbone and the size of images choices."""

    def __init__(
        self,
        *,
        queries: Sequence[Count] = (),
        decoder_layers: Sequence[Count] = (),
        blocks: dict[str, list[Count]] | None = None,
        image_scales: Sequence[Positive] = (),
    ) -> None:
        """Keep what may vary; what is not given stays.

        Args:
            queries: how many may run; the model's own number among them.
            decoder_layers: likewise.
            blocks: stage of the backbone ("layer3") to how many of its blocks may run, likewise.
            image_scales: factors of the images' height and width, 1.0 among them.
        """
        self.queries, self.decoder_layers = tuple(queries), tuple(decoder_layers)
        self.blocks, self.image_scales = dict(blocks or {}), tuple(map(float, image_scales))

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Put mutables into a `DETR3D`, in place.

        Raises:
            ConfigError: it is another model, or numbers are not those of its parts.
        """
        if not isinstance(model, DETR3D):
            raise ConfigError(f"ElasticDETR3D is for a DETR3D, this is a {type(model).__name__}")
        head, stages = model.pts_bbox_head, model.img_backbone
        counts = {QUERIES: self.queries, LAYERS: self.decoder_layers}
        whole = {QUERIES: head.num_query, LAYERS: head.num_layers}
        options = [_option(n, values, whole[n]) for n, values in counts.items() if values]
        found = {name: self._stage(stages, name, values) for name, values in self.blocks.items()}
        scale = _option(SIZE, self.image_scales, 1.0) if self.image_scales else None
        if options:
            model.pts_bbox_head = ElasticHead.of(head, options)
        for name, stage in found.items():
            setattr(stages, name, stage)
        if scale is not None:
            model.scale = ElasticImages(scale)

    def _stage(self, backbone: nn.Module, name: str, values: Sequence[int]) -> ElasticStage:
        stage = getattr(backbone, name, None)
        if not isinstance(stage, nn.Sequential):
            known = [n for n, m in backbone.named_children() if isinstance(m, nn.Sequential)]
            raise ConfigError(f"ElasticDETR3D.blocks: the backbone has no stage {name!r}: {known}")
        return ElasticStage.of(stage, _option(f"{name}.blocks", values, len(stage)))


def _option(name: str, values: Sequence[float], whole: float) -> Dimension:
    """Return a dimension whose greatest value is the model's own.

    Raises:
        ConfigError: it is not.
    """
    if not values or max(values) != whole:
        raise ConfigError(
            f"ElasticDETR3D: {name} may be {list(values)}, but the model's own is {whole:g}, which "
            f"must be the greatest of them"
        )
    return Dimension(name, tuple(sorted(values, reverse=True)))
