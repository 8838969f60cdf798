"""Training steps of supernets."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np
from torch import nn

from razorlite.core.config import Given
from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Whole
from razorlite.core.registry import register, suggestion
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, WrappingStep, plain_step
from razorlite.space.search_space import SearchSpace
from razorlite.space.subnet import Subnet


class PathStep(WrappingStep):
    """Chooses paths of a supernet for another step; `begin` draws them.

    Paths depend on the seed and the optimiser step's number alone: they are the same on every
    process, and after a resumed run.

    Args:
        space: of the model that is trained.
        seed: of the paths.
        base_step: the step that trains a path.

    Attributes:
        largest_first: whether several paths are trained on each batch, the largest first, so that
            it can teach the others.
    """

    largest_first: ClassVar[bool] = True

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        seed: Given[int] = 0,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        super().__init__(base_step)
        self.space, self.seed = space, seed
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        super().begin(step)
        self.draw(np.random.default_rng((self.seed, step)))

    @property
    def target(self) -> Subnet | None:
        """Return the path that training ends at, which is evaluated; None for the largest."""
        return None

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the paths of an optimiser step."""
        raise NotImplementedError


@register()
class SinglePathStep(PathStep):
    """Trains one path, drawn anew and uniformly for each optimiser step.

    Args:
        space: of the model that is trained.
        seed: of the paths.
        base_step: the step that trains the path.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.2.
    """

    largest_first = False

    def draw(self, rng: np.random.Generator) -> None:
        """Draw one path."""
        self.path = self.space.random(rng)

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Set the path and run the base step."""
        self.space.select(self.path)
        return self.base_step(model, batch, backward)


@register()
class SandwichStep(PathStep):
    """Trains the largest, the smallest and some random paths on each batch; gradients add up.

    Args:
        space: of the model that is trained.
        ends: the largest and the smallest path, such as those of a cost table.
        seed: of the paths.
        random_paths: how many paths besides the largest and the smallest.
        random_dimensions: patterns of dimensions, such as "image_scale", that the smallest path
            draws at random, too. Else the narrowest layers learn little but the smallest images.
        base_step: the step that trains each path.

    Universally Slimmable Networks, https://arxiv.org/abs/1903.05134, section 3.1; random scales of
    the smallest path as in MutualNet, https://arxiv.org/abs/1909.12978, section 3.2. For the
    distillation see `razorlite.distill.DistilledStep`.
    """

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        ends: Given[tuple[Subnet, Subnet]],
        seed: Given[int] = 0,
        random_paths: Whole = 2,
        random_dimensions: Sequence[str] = (),
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        self.random_paths = random_paths
        names = [dimension.name for dimension in space.dimensions]
        self._random = [name for pattern in random_dimensions for name in _named(pattern, names)]
        self._ends = [space.resolve(end) for end in ends]
        super().__init__(space, seed=seed, base_step=base_step)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the paths between the largest and the smallest."""
        drawn = [self.space.random(rng) for _ in range(self.random_paths)]
        largest, smallest = self._ends
        if self._random:
            smallest = self._partly_random(smallest, self.space.random(rng))
        self.paths = [largest, smallest, *drawn]

    def _partly_random(self, path: Subnet, drawn: Subnet) -> Subnet:
        choices = {name: drawn.choices[name] for name in self._random if name in drawn.choices}
        return self.space.resolve(Subnet(choices={**path.choices, **choices}))

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the base step on each path, the largest first.

        Returns:
            The largest path's metrics.
        """
        metrics = []
        for path in self.paths:
            self.space.select(path)
            metrics.append(self.base_step(model, batch, backward))
        return metrics[0]


def _named(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the dimensions that a pattern names."""
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(
            f"step: random_dimensions: no dimension matches {pattern!r}{suggestion(pattern, names)}"
        )
    return found
