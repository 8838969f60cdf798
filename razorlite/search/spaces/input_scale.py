"""The size of the images as a dimension of a space."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Filled, PositiveShare
from razorlite.core.registry import register
from razorlite.models.resizing import MULTIPLE, ImageScale, Resizable
from razorlite.space.dimension import Dimension, Values
from razorlite.space.mutable import Mutable
from razorlite.space.mutator import Preparer

_NAME = "image_scale"


class ElasticScale(Mutable):
    """Images whose size may vary.

    Args:
        option: the factors of height and width, 1.0 among them.
        multiple: sides become multiples of so many pixels.
    """

    def __init__(self, option: Dimension, multiple: int) -> None:
        super().__init__()
        self.option, self.multiple, self.factor = option, multiple, 1.0

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
        scaled: Tensor = self.export(self.values)(images)
        return scaled

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what becomes of images of (height, width) pixels."""
        return self.export(self.values).size(size)

    def export(self, values: Values) -> ImageScale:
        """Return what scales by these values."""
        return ImageScale(float(values[self.option.name]), self.multiple)

    def identity(self) -> Any:
        """Return its factors, and `multiple` where it is not the default."""
        return super().identity() + ([] if self.multiple == MULTIPLE else [self.multiple])

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return nothing: there are no weights."""
        return {}


@register()
class InputScales(Preparer):
    """Lets a model see its images smaller, which is the dimension `image_scale`.

    Images are scaled inside the model, so that files of subnets, exported models and costs are of
    images of one size. Boxes and masks stay in pixels of the images that the model is given.
    """

    def __init__(
        self, *, scales: Annotated[Sequence[PositiveShare], Filled()], multiple: Count = MULTIPLE
    ) -> None:
        """Keep the settings.

        Args:
            scales: factors of height and width; 1.0 always is among them.
            multiple: sides of scaled images are multiples of so many pixels.
        """
        self.scales, self.multiple = tuple(map(float, scales)), multiple

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Give the model a `resize`.

        Raises:
            ConfigError: the model cannot scale its images, or does already; it is unchanged.
        """
        if not isinstance(model, Resizable) or "resize" in model._modules:
            raise ConfigError(
                f"mutator: InputScales is for single-stage detectors, DETR and classifiers whose "
                f"images are not scaled yet; this is a {type(model).__name__}"
            )
        option = Dimension(_NAME, tuple(sorted({*self.scales, 1.0})))
        if len(option.values) == 1:
            raise ConfigError("mutator: InputScales.scales wants a factor below 1")
        for scale in option.values:
            if 0 in ImageScale(float(scale), self.multiple).size(shape):
                raise ConfigError(
                    f"mutator: InputScales: {scale} of {shape[0]} x {shape[1]} pixels is less than "
                    f"half of {self.multiple}; give greater scales or a smaller `multiple`"
                )
        model.resize = ElasticScale(option, self.multiple)
