"""A toy detector: a stem, a two-level neck, one head on both levels, a pooled vector."""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Neck(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features * 1, features[..., ::2, ::2]


class Toy(nn.Module):
    """forward (N, 3, H, W) -> two maps (N, 5, h, w); its loss is their mean square."""

    def __init__(self, width: int = 4, stride: int = 2, checkpointed: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride, 1)
        self.norm = nn.BatchNorm2d(width)
        self.neck = Neck()
        self.head = nn.Conv2d(width, 5, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.checkpointed = checkpointed
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        fine, coarse = self.features(images)
        self.pool(fine)
        return self.head(fine), self.head(coarse)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.checkpointed:
            return checkpoint(self._features, images, use_reentrant=False)
        return self._features(images)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.neck(self.norm(self.stem(images)))

    def loss(self, images: Tensor, targets: object) -> dict[str, Tensor]:
        return {"loss_map": sum(m.square().mean() for m in self(images))}
