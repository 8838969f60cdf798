"""What every backbone can do: freeze its first stages and its norms' statistics."""

from collections.abc import Sequence

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion
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


class FrozenByName(Freezable):
    """Base of models of other libraries, of which modules are frozen by name.

    Attributes:
        frozen: modules that do not learn, by their names in `named_part`.
    """

    frozen: list[str]

    def named_part(self) -> nn.Module:
        """Return the module in which names are looked up."""
        raise NotImplementedError

    def freeze_by_name(self, frozen: Sequence[str] | None, name: str, norm_eval: bool) -> None:
        """Take what is frozen while training.

        Args:
            frozen: names of modules.
            name: of the model, for messages.
            norm_eval: keep the batch norms' statistics.

        Raises:
            ConfigError: no such module.
        """
        self.norm_eval, self.frozen = norm_eval, list(frozen or [])
        known = dict(self.named_part().named_modules())
        for expected in self.frozen:
            if expected not in known:
                raise ConfigError(
                    f"{type(self).__name__}.frozen: {name} has no module {expected!r}"
                    f"{suggestion(expected, known)}"
                )

    def frozen_part(self) -> str:
        """Return the arguments that freeze weights, as in a configuration; nothing if none do."""
        return f"frozen: {self.frozen}" if self.frozen else ""

    def unfreeze(self) -> None:
        """Let all of it learn, statistics included."""
        self.frozen = []
        super().unfreeze()

    def train(self, mode: bool = True) -> "FrozenByName":
        """Switch between training and evaluation; what is frozen stays as it is."""
        super().train(mode)
        freeze(self.named_part().get_submodule(name) for name in self.frozen)
        if self.norm_eval:
            freeze_norm_statistics(self)
        return self


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
