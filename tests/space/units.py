"""Units of ShuffleNetV2 whose inner width may vary."""

from torch import Tensor, nn

from razorlite.core.config import Partial
from razorlite.space import Choices, Mutator, Placeholder

SETTINGS = {"width": 2.0, "keep_inputs": True}
UNITS = {
    "shuffle": Partial("ShuffleBlock", SETTINGS),
    "xception": Partial("ShuffleXception", SETTINGS),
}


class Units(nn.Module):
    """A convolution, a unit that halves the map, and one that keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.down = Placeholder("units", "down", in_channels=8, out_channels=24, stride=2)
        self.same = Placeholder("units", "same", in_channels=24, out_channels=24, stride=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.same(self.down(self.first(images)))


def units_mutator() -> Mutator:
    return Mutator(placeholder_mapping={"units": Choices(choices=UNITS)})
