"""Inner widths of the operations of a choice, as searched by SPOS."""

from collections.abc import Sequence
from typing import Annotated

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Filled, Positive
from razorlite.core.registry import register
from razorlite.models.backbones.choice_blocks import TwoBranches
from razorlite.space.dimension import Dimension
from razorlite.space.elastic import Elastic
from razorlite.space.elastic_layers import ELASTIC
from razorlite.space.mutable import OneOf, mutables
from razorlite.space.mutator import Preparer, put_in_place
from razorlite.space.sides import Counted

_SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


@register()
class BlockWidths(Preparer):
    """Gives each choice of ShuffleNetV2's units an inner width, whichever is chosen.

    The dimensions are `CHOICE.width`; a width is a factor of half of the unit's outputs, the first
    channels of which run. Units are built with the greatest factor as their `width`.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.4.
    """

    def __init__(self, *, scales: Annotated[Sequence[Positive], Filled()] = _SCALES) -> None:
        """Keep the settings.

        Args:
            scales: the factors; the greatest is the `width` of all units.
        """
        self.scales = tuple(sorted(map(float, scales)))

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Make the inner channels of all units elastic that an earlier `Mutator` has put in.

        Raises:
            ConfigError: there are none, or they have another width; the model is unchanged.
        """
        built: dict[str, Elastic] = {}
        for path, choice in mutables(model).items():
            if isinstance(choice, OneOf):
                option = Dimension(f"{choice.space_id}.width", self.scales)
                for name, unit in choice.choices.items():
                    if isinstance(unit, TwoBranches):
                        start = f"{path}.choices.{name}"
                        built |= {f"{start}.{p}": m for p, m in self._layers(unit, option).items()}
        if not built:
            raise ConfigError(
                f"mutator: {type(model).__name__} has no choices with units of ShuffleNetV2; list "
                f"{{type: Mutator, placeholder_mapping: ...}} in front of BlockWidths"
            )
        for path, layer in built.items():
            put_in_place(model, model.get_submodule(path), layer)

    def _layers(self, unit: TwoBranches, option: Dimension) -> dict[str, Elastic]:
        if unit.width != self.scales[-1]:
            raise ConfigError(
                f"mutator: {type(unit).__name__} has the width {unit.width:g}, and the greatest of "
                f"BlockWidths.scales is {self.scales[-1]:g}; give it as `width`"
            )
        inner = Counted(option, {scale: unit.inner_channels(scale) for scale in self.scales})
        layers = {path: unit.get_submodule(path) for path in unit.inner_layers()}
        sides = {p: dict.fromkeys(names, inner) for p, names in unit.inner_layers().items()}
        known = {option.name: option}
        return {p: ELASTIC[type(m)].of(m, sides[p], known) for p, m in layers.items()}
