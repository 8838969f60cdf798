"""Bringing a student's features to a teacher's number of channels; trained beside the student."""

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, Kernel
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
