"""Training steps of supernets."""

from typing import Any

import numpy as np
from torch import nn

from razorlite.engine.steps import Backward, Step, plain_step
from razorlite.space.search_space import SearchSpace
from razorlite.space.subnet import Subnet


class SinglePathStep:
    """Trains one path, drawn anew and uniformly for each optimiser step.

    The path depends on the seed and the step's number alone: it is the same on every process, and
    after a resumed run.

    Args:
        space: of the model that is trained.
        seed: of the paths.
        base_step: the step that trains the path.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.2.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0, base_step: Step = plain_step) -> None:
        self.space, self.seed, self.base_step = space, seed, base_step
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        self.path = self.space.random(np.random.default_rng((self.seed, step)))

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, float]:
        """Set the path and run the base step."""
        self.space.select(self.path)
        return self.base_step(model, batch, backward)


class SandwichStep:
    """Trains the largest, the smallest and some random paths on each batch; gradients add up.

    Args:
        space: of the model that is trained.
        ends: the largest and the smallest path, such as those of a cost table.
        seed: of the paths, as in `SinglePathStep`.
        random_paths: how many paths besides the largest and the smallest.
        base_step: the step that trains each path.

    Universally Slimmable Networks, https://arxiv.org/abs/1903.05134, section 3.1, without its
    distillation.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        ends: tuple[Subnet, Subnet],
        seed: int = 0,
        random_paths: int = 2,
        base_step: Step = plain_step,
    ) -> None:
        self.space, self.seed, self.base_step = space, seed, base_step
        self.random_paths = random_paths
        self._ends = [space.resolve(end) for end in ends]
        self.begin(0)

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        rng = np.random.default_rng((self.seed, step))
        drawn = [self.space.random(rng) for _ in range(self.random_paths)]
        self.paths = [*self._ends, *drawn]

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, float]:
        """Run the base step on each path.

        Returns:
            The largest path's figures.
        """
        figures = []
        for path in self.paths:
            self.space.select(path)
            figures.append(self.base_step(model, batch, backward))
        return figures[0]
