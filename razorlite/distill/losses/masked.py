"""A student that must make up the teacher's whole map from what is left of its own."""

from torch import Tensor

from razorlite.core.ranges import Count, NonNegative, ShareBelowOne
from razorlite.core.registry import register
from razorlite.distill.connectors import MaskedGeneration
from razorlite.distill.losses.base import LayeredLoss, per_image


@register()
class MGD(LayeredLoss):
    """Squared difference of the teacher's map and one made of the student's.

    The sum over channels and locations, mean over images. Each level of a pyramid has a loss of its
    own. A perfect student has a loss until the generating layers are trained.

    Args:
        weight: factor of the loss; 2e-5 for one- and two-stage detectors' pyramids, 7e-5 for
            classifiers.
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
        mask_ratio: share of the student's values that are hidden: 0.65 or 0.75 for one-stage, 0.45
            for two-stage detectors.
        mask_channels: hide whole channels in the place of locations.

    Yang et al., Masked Generative Distillation, https://arxiv.org/abs/2205.01529, section on MGD.
    """

    def __init__(
        self,
        *,
        weight: NonNegative = 2e-5,
        student_channels: Count,
        teacher_channels: Count,
        mask_ratio: ShareBelowOne = 0.65,
        mask_channels: bool = False,
    ) -> None:
        channels = {"student_channels": student_channels, "teacher_channels": teacher_channels}
        super().__init__(weight=weight, **channels)
        self.block = MaskedGeneration(
            mask_ratio=mask_ratio, mask_channels=mask_channels, **channels
        )

    def project(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, teacher_channels, H, W) of both sides."""
        return self.block(student), teacher

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the 0-dim loss of two float32 tensors of one shape."""
        return per_image((student - teacher).square().sum(), student)
