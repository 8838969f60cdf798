"""Small supernets that several tests build."""

import torch
from torch import Tensor, nn

from razorlite.core.config import Partial
from razorlite.models import backbones as backbones
from razorlite.models.backbones.searchable_mobilenet import SearchableMobileNetV2
from razorlite.models.backbones.searchable_shufflenet import SearchableShuffleNetV2
from razorlite.space import Choices, Mutator, Placeholder, SearchSpace

SHUFFLE = {
    "shuffle_3x3": Partial("ShuffleBlock", {"kernel_size": 3}),
    "shuffle_5x5": Partial("ShuffleBlock", {"kernel_size": 5}),
    "shuffle_7x7": Partial("ShuffleBlock", {"kernel_size": 7}),
    "shuffle_xception": Partial("ShuffleXception"),
}
MOBILE = {
    f"k{kernel}e{ratio}": Partial("MBBlock", {"kernel_size": kernel, "expand_ratio": ratio})
    for kernel in (3, 5, 7)
    for ratio in (3, 6)
}


class Classifier(nn.Module):
    """A backbone, global pooling and one linear layer."""

    def __init__(self, backbone: nn.Module, channels: int, classes: int = 10) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.backbone(images)[-1].mean((2, 3)))

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss_cls": nn.functional.cross_entropy(self(images), labels)}


def shuffle_mutator() -> Mutator:
    return Mutator(placeholder_mapping={"all_blocks": Choices(choices=SHUFFLE)})


def shuffle_space(width_mult: float = 0.125, classes: int = 10) -> SearchSpace:
    backbone = SearchableShuffleNetV2(width_mult=width_mult, last_channels=32)
    return shuffle_mutator().prepare(Classifier(backbone, 32, classes))


def published_space() -> SearchSpace:
    return shuffle_mutator().prepare(Classifier(SearchableShuffleNetV2(), 1024, 1000))


def mobile_space(width_mult: float = 0.25) -> SearchSpace:
    groups = {
        "first_blocks": Choices(choices=MOBILE),
        "other_blocks": Choices(choices={**MOBILE, "skip": Partial("Skip")}),
    }
    backbone = SearchableMobileNetV2(width_mult=width_mult, last_channels=32)
    return Mutator(placeholder_mapping=groups).prepare(Classifier(backbone, 32))


class Toy(nn.Module):
    """Two places of one name and one of another, around a fixed layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Placeholder("ops", "tied", channels=4)
        self.fixed = nn.Conv2d(4, 4, 1)
        self.second = Placeholder("ops", "tied", channels=4)
        self.third = Placeholder("ops", "free", channels=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.fixed(self.first(x))))


def toy_space() -> SearchSpace:
    def conv(kernel: int):
        return lambda channels: nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    choices = {"conv1": conv(1), "conv3": conv(3), "none": lambda channels: nn.Identity()}
    return Mutator(placeholder_mapping={"ops": Choices(choices=choices)}).prepare(Toy())


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))
