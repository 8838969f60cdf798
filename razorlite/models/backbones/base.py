"""What every backbone can do: freeze its first stages and its norms' statistics."""

from torch import Tensor, nn

from razorlite.models.layers import freeze, freeze_norm_statistics


class Freezable(nn.Module):
    """Base of what may be frozen, in part or its norms' statistics alone."""

    norm_eval: bool = False

    def frozen_part(self) -> str:
        """Return the arguments that freeze weights, as in a configuration; nothing if none do."""
        raise NotImplementedError

    def unfreeze(self) -> None:
        """Let all of it learn, statistics included."""
        self.norm_eval = False
        self.requires_grad_(True)
        self.train(self.training)


class Backbone(Freezable):
    """Base of backbones: images (N, 3, H, W) to one map per stage of `out_indices`.

    Attributes:
        out_channels: channels of each returned map.
        frozen_stages: how many stages do not learn: -1 none, 0 the stem, 1 the stem and the
            first stage, ...
        norm_eval: whether batch norms keep their statistics while training.
    """

    out_channels: tuple[int, ...] = ()
    frozen_stages: int = -1

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to feature maps, finest first."""
        raise NotImplementedError

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules before the first stage."""
        raise NotImplementedError

    def stages(self) -> list[nn.Module]:
        """Return the stages in order."""
        raise NotImplementedError

    def frozen_part(self) -> str:
        """Return the arguments that freeze weights, as in a configuration; nothing if none do."""
        return f"frozen_stages: {self.frozen_stages}" if self.frozen_stages >= 0 else ""

    def unfreeze(self) -> None:
        """Let all of it learn, statistics included."""
        self.frozen_stages = -1
        super().unfreeze()

    def train(self, mode: bool = True) -> "Backbone":
        """Switch between training and evaluation; what is frozen stays as it is."""
        super().train(mode)
        if self.frozen_stages >= 0:
            freeze([*self.stem_modules(), *self.stages()[: self.frozen_stages]])
        if self.norm_eval:
            freeze_norm_statistics(self)
        return self
