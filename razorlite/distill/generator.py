"""What makes images of noise, and what it learns from a teacher."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.compute import full_precision
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count, NonNegative, Positive, Size, Widths
from razorlite.core.registry import register
from razorlite.distill.losses.base import kl
from razorlite.distill.recorder import Recorder

_SLOPE, _CHANNELS = 0.2, [128, 64]


class Generator(nn.Module):
    """Noise (N, latent) to images as a teacher sees them, normalised.

    Attributes:
        latent: numbers of noise that an image is made of.
    """

    latent: int

    def forward(self, noise: Tensor) -> Tensor:
        """Map normal noise (N, latent) to images (N, 3, H, W)."""
        raise NotImplementedError


@register()
class ImageGenerator(Generator):
    """A linear layer to a small map, then doublings with 3 x 3 convolutions up to the image.

    The last layer is a batch norm without parameters, so that images have the mean 0 and deviation
    1 of normalised ones. The network of ZSKT's and, but for its tanh, DAFL's code.

    Args:
        shape: (height, width) of the images in pixels, multiples of 2 ** len(channels).
        latent: numbers of noise that an image is made of.
        channels: of the maps, the smallest map first; 128 and 64 by default.
    """

    def __init__(
        self,
        *,
        shape: Size,
        latent: Count = 100,
        channels: Widths | None = None,
    ) -> None:
        super().__init__()
        channels = channels or _CHANNELS
        self.latent, start = latent, _start(shape, len(channels))
        widths = [channels[0], *channels]
        self.project = nn.Linear(latent, widths[0] * start[0] * start[1])
        self.unfold = nn.Unflatten(1, (widths[0], *start))
        self.norm = _norm(widths[0])
        self.stages = nn.Sequential(*map(_doubled, widths[:-1], widths[1:]))
        self.to_image = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.image_norm = _norm(3, affine=False)

    def forward(self, noise: Tensor) -> Tensor:
        """Map normal noise (N, latent) to images (N, 3, H, W)."""
        maps = self.norm(self.unfold(self.project(noise)))
        images: Tensor = self.image_norm(self.to_image(self.stages(maps)))
        return images


def _start(shape: Sequence[int], doublings: int) -> tuple[int, int]:
    """Return (height, width) of the smallest map.

    Raises:
        ConfigError: the shape cannot be reached by doublings.
    """
    factor = 2**doublings
    if any(side % factor for side in shape):
        raise ConfigError(
            f"ImageGenerator.shape: {tuple(shape)} is no multiple of {factor}, as {doublings} "
            f"doublings need; change the shape, or the number of channels"
        )
    return shape[0] // factor, shape[1] // factor


def _norm(channels: int, affine: bool = True) -> nn.Module:
    """Return a batch norm that goes by its batch alone, in training and behind it."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


def _doubled(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        _norm(out_channels),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


class GeneratorLoss:
    """What a generator learns from its images, given the two models.

    Attributes:
        needs_student: whether the student is asked, too.
        teacher_taps: what to record of the teacher beside its logits, in the form of `Tap`.
    """

    needs_student: bool = False
    teacher_taps: Sequence[str] = ()

    def __call__(self, student: nn.Module, teacher: nn.Module, images: Tensor) -> Tensor:
        """Return the 0-dim loss of images (N, 3, H, W); its gradient goes through the models."""
        with Recorder(teacher, self.teacher_taps) as taps:
            goals = teacher(images).float()
            kept = [taps[name][0].float() for name in self.teacher_taps]
        ours = student(images).float() if self.needs_student else None
        with full_precision(images.device):
            return self.compare(ours, goals, kept)

    def compare(self, student: Tensor | None, teacher: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """Return the 0-dim loss of float32 logits (N, C) and what was recorded of the teacher."""
        raise NotImplementedError


@register()
class BeliefMismatch(GeneratorLoss):
    """Minus the divergence of student from teacher: images on which the two disagree.

    -tau^2 * KL(teacher || student) of softmaxes, a mean over images and classes.

    Micaelli and Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching,
    https://arxiv.org/abs/1905.09768, section 3 and algorithm 1, with the mean of the authors' code.

    Args:
        tau: temperature.
    """

    needs_student = True

    def __init__(self, *, tau: Positive = 1.0) -> None:
        self.tau = tau

    def compare(self, student: Tensor | None, teacher: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """Return the 0-dim loss of float32 logits (N, C)."""
        assert student is not None
        return -kl(student, teacher, 1, self.tau).mean() / teacher.shape[1]


@register()
class TeacherConfidence(GeneratorLoss):
    """Images of which the teacher is sure, that excite its features, of all classes alike.

    The cross-entropy of the teacher's softmax with its own most likely class, less the mean
    absolute value of its features, less the entropy (natural logarithm) of the images' mean
    softmax.

    Chen et al., Data-Free Learning of Student Networks, https://arxiv.org/abs/1904.01186, the
    one-hot, activation and information-entropy losses of section 3.

    Args:
        features: the teacher's features in front of its last layer, as recorded: "head:input".
        one_hot: weight of the cross-entropy.
        activation: weight of the features.
        entropy: weight of the entropy.
    """

    def __init__(
        self,
        *,
        features: str,
        one_hot: NonNegative = 1.0,
        activation: NonNegative = 0.1,
        entropy: NonNegative = 5.0,
    ) -> None:
        self.teacher_taps = (features,)
        self.one_hot, self.activation, self.entropy = one_hot, activation, entropy

    def compare(self, student: Tensor | None, teacher: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """Return the 0-dim loss of float32 logits (N, C) and features (N, ...)."""
        one_hot = F.cross_entropy(teacher, teacher.argmax(1))
        mean = teacher.softmax(1).mean(0)
        negative_entropy = (mean * (mean + 1e-12).log()).sum()
        activation = -taps[0].abs().mean()
        return (
            self.one_hot * one_hot + self.activation * activation + self.entropy * negative_entropy
        )
