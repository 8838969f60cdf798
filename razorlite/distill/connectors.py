"""Bringing a student's features to a teacher's number of channels; trained beside the student."""

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Kernel, ShareBelowOne
from razorlite.core.registry import register


class Connector(nn.Module):
    """A layer between a student's tensor and the loss; never part of the student.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
    """

    def __init__(self, *, student_channels: Count, teacher_channels: Count) -> None:
        super().__init__()
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_channels, ...) to (N, teacher_channels, ...)."""
        raise NotImplementedError

    def check(self, features: Tensor) -> Tensor:
        """Return the (N, C, ...) features.

        Raises:
            ConfigError: they do not have `student_channels` channels.
        """
        if features.shape[1] != self.student_channels:
            raise ConfigError(
                f"{type(self).__name__}: student_channels is {self.student_channels} but the "
                f"student's features have {features.shape[1]}; set student_channels to that"
            )
        return features


@register()
class ConvConnector(Connector):
    """A convolution on maps (N, C, H, W) that keeps their size.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        kernel_size: odd number of pixels.
        norm: put a batch norm after the convolution.
    """

    def __init__(
        self,
        *,
        student_channels: Count,
        teacher_channels: Count,
        kernel_size: Kernel = 1,
        norm: bool = False,
    ) -> None:
        super().__init__(student_channels=student_channels, teacher_channels=teacher_channels)
        if kernel_size % 2 == 0:
            raise ConfigError(f"ConvConnector: kernel_size must be odd, got {kernel_size}")
        self.conv = nn.Conv2d(
            student_channels, teacher_channels, kernel_size, padding=kernel_size // 2, bias=not norm
        )
        self.norm = nn.BatchNorm2d(teacher_channels) if norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_channels, H, W) to (N, teacher_channels, H, W)."""
        mapped: Tensor = self.norm(self.conv(self.check(features)))
        return mapped


@register()
class LinearConnector(Connector):
    """A linear layer on vectors (N, C).

    Args:
        student_channels: values that come in.
        teacher_channels: values that go out.
    """

    def __init__(self, *, student_channels: Count, teacher_channels: Count) -> None:
        super().__init__(student_channels=student_channels, teacher_channels=teacher_channels)
        self.linear = nn.Linear(student_channels, teacher_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_channels) to (N, teacher_channels)."""
        mapped: Tensor = self.linear(self.check(features))
        return mapped


@register()
class MaskedGeneration(Connector):
    """Hides part of a map and makes up the teacher's from the rest (MGD).

    A 1 x 1 convolution first, where channels differ; then a share of locations, or of channels, is
    set to zero, drawn anew for each image and step; then 3 x 3, ReLU, 3 x 3.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        mask_ratio: share that is hidden.
        mask_channels: hide whole channels in the place of locations.

    Yang et al., Masked Generative Distillation, https://arxiv.org/abs/2205.01529, section on MGD.
    """

    def __init__(
        self,
        *,
        student_channels: Count,
        teacher_channels: Count,
        mask_ratio: ShareBelowOne = 0.65,
        mask_channels: bool = False,
    ) -> None:
        super().__init__(student_channels=student_channels, teacher_channels=teacher_channels)
        self.mask_ratio, self.mask_channels = mask_ratio, mask_channels
        self.align = aligned(student_channels, teacher_channels)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_channels, H, W) to (N, teacher_channels, H, W)."""
        maps = self.align(self.check(features))
        generated: Tensor = self.generation(maps * self.keep(maps))
        return generated

    def keep(self, maps: Tensor) -> Tensor:
        """Return 1 where (N, C, H, W) maps stay, (N, 1, H, W) or (N, C, 1, 1), else 0."""
        images, channels, height, width = maps.shape
        shape = (images, channels, 1, 1) if self.mask_channels else (images, 1, height, width)
        return (torch.rand(shape, device=maps.device) <= 1 - self.mask_ratio).to(maps.dtype)


def aligned(student_channels: int, teacher_channels: int) -> nn.Module:
    """Return a 1 x 1 convolution between two numbers of channels; nothing where they are equal."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


class NonLocalBlock(nn.Module):
    """Adds to each location of a map what it relates to at all others, by dot products.

    The last layer begins with zeros, so that nothing is added at first.

    Args:
        channels: of the map.
        pool: max pooling of the locations that each is related to.

    Wang et al., Non-local Neural Networks, https://arxiv.org/abs/1711.07971, eq. 1, 4 and 6.
    """

    def __init__(self, channels: int, pool: int = 1) -> None:
        super().__init__()
        middle = max(channels // 2, 1)
        self.query, self.key, self.value = (nn.Conv2d(channels, middle, 1) for _ in range(3))
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        self.out = nn.Conv2d(middle, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        query = self.query(maps).flatten(2)
        key, value = (self.pool(layer(maps)).flatten(2) for layer in (self.key, self.value))
        relations = query.transpose(1, 2) @ key / key.shape[2]
        gathered = (value @ relations.transpose(1, 2)).unflatten(2, maps.shape[2:])
        added: Tensor = maps + self.out(gathered)
        return added


@register()
class NonLocalConnector(Connector):
    """Relates a map's locations to each other, then a convolution (FBKD).

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        pool: max pooling of the locations that each is related to; 2 or 4 for large maps.

    Zhang and Ma, https://openreview.net/forum?id=uKhGRvM8QNH, section 3.2.
    """

    def __init__(
        self, *, student_channels: Count, teacher_channels: Count, pool: Count = 1
    ) -> None:
        super().__init__(student_channels=student_channels, teacher_channels=teacher_channels)
        self.block = NonLocalBlock(student_channels, pool)
        self.conv = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_channels, H, W) to (N, teacher_channels, H, W)."""
        mapped: Tensor = self.conv(self.block(self.check(features)))
        return mapped
