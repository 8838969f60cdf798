"""Queries and decoder layers dropped while a model is fine-tuned, until it meets a budget."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from projects.detr3d.elastic import LAYERS, QUERIES, ElasticHead
from razorlite.core.config import Given
from razorlite.core.distributed import all_reduce_mean
from razorlite.core.errors import BudgetError, ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register
from razorlite.cost import Limit, tabulate
from razorlite.cost.amounts import Amount
from razorlite.engine.steps import Backward, Metrics, Step, StepFunction, plain_step
from razorlite.space import PathStep, SearchSpace, Subnet


@register()
class DropQueries(PathStep):
    """Drops the queries with the lowest scores, and the last decoder layers, by one budget.

    For some steps the whole model runs, and it is noted how high each query scores and how large
    the loss of each decoder layer is. Then the numbers of queries and layers are chosen that meet
    the budget and lose least: the share of the scores that the dropped queries have, plus the share
    by which the loss of the last layer that stays is above the least of all. Queries go a number at
    a time, the lowest scores first, as they are by then; half-way, the layers go. From then on the
    model is trained as it will be exported.

    The supernet is that of `ElasticDETR3D`. The point it ends at is `target`, which the checkpoint
    is then exported at. After GPQ (gradually pruning queries, of 3D detectors), which drops by
    score likewise.

    Args:
        space: of the model that is trained.
        macs: the most that the model may multiply, as in a `budget`: 300M, or 60% of the whole.
        shape: (height, width) in pixels of the images that this is stated for.
        observe_steps: steps in which the whole model runs.
        drop_every: steps between two numbers of queries.
        seed: not used: nothing is drawn.
        base_step: the step that trains.

    Raises:
        ConfigError: neither queries nor decoder layers may vary.
        BudgetError: no numbers of them meet the budget.
    """

    def __init__(
        self,
        space: Given[SearchSpace],
        *,
        macs: Amount,
        shape: tuple[Count, Count],
        observe_steps: Count = 50,
        drop_every: Count = 20,
        seed: Given[int] = 0,
        base_step: Given[Step | StepFunction] = plain_step,
    ) -> None:
        self.head = _head_of(space)
        self.observe_steps, self.drop_every = observe_steps, drop_every
        table = tabulate(space, (shape[0], shape[1]))
        self._points = _whole_elsewhere(space)
        self._macs = table.many(self._points)["macs"]
        limit = Limit.parse("macs", macs, whole=int(self._macs.max()), where="DropQueries.macs")
        self._fitting = np.flatnonzero(self._macs <= limit.high)
        if not len(self._fitting):
            raise BudgetError(
                f"DropQueries.macs: {limit} cannot be met: fewer queries and decoder layers reach "
                f"{self._macs.min():,} to {self._macs.max():,}; allow more, or fewer queries"
            )
        self._losses = torch.zeros(0)
        self._target: int | None = None
        self._now = 0
        super().__init__(space, seed=seed, base_step=base_step)

    @property
    def target(self) -> Subnet | None:
        """Return what is trained for; None while the whole model is observed."""
        return None if self._target is None else self.space.decode(self._points[self._target])

    def begin(self, step: int) -> None:
        """Tell the number of the optimiser step that comes, from 0."""
        self._now = step
        super().begin(step)

    def draw(self, rng: np.random.Generator) -> None:
        """Choose the numbers of queries and layers of a step."""
        self.path = self.space.decode(self._points[int(self._macs.argmax())])
        if self._now < self.observe_steps:
            return
        if self._target is None:
            self._target = self._chosen()
        self.path = self._on_the_way()

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> Metrics:
        """Run the base step on the numbers of this step."""
        before = int(self.space.selected.choices.get(QUERIES, 0))
        if int(self.path.choices.get(QUERIES, 0)) < before:
            self.head.rank()
        self.space.select(self.path)
        metrics = self.base_step(model, batch, backward)
        if self._now < self.observe_steps:
            self._note(metrics)
        numbers = {n: v for n, v in self.path.choices.items() if n in (QUERIES, LAYERS)}
        return {**metrics, **{name: float(value) for name, value in numbers.items()}}

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed and chosen."""
        own = {"losses": self._losses.tolist(), "target": self._target}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._losses, self._target = torch.tensor(state["losses"]), state["target"]

    def _note(self, metrics: Metrics) -> None:
        """Add the losses of all decoder layers."""
        layers = self.head.depth()
        names = [f"d{i}." for i in range(layers - 1)] + [""]
        losses = torch.stack([_sum(metrics, prefix) for prefix in names])
        self._losses = losses if not len(self._losses) else self._losses + losses

    def _chosen(self) -> int:
        """Return the fitting point at which least is lost."""
        losses = all_reduce_mean(self._losses)
        above = (losses / losses.min() - 1).tolist()
        best = self.head.scores.sort(descending=True).values.double()
        kept = (best.cumsum(0) / best.sum()).tolist()

        def lost(index: int) -> tuple[float, int]:
            choices = self.space.decode(self._points[index]).choices
            queries = int(choices.get(QUERIES, len(kept)))
            layers = int(choices.get(LAYERS, len(above)))
            return 1 - kept[queries - 1] + above[layers - 1], -int(self._macs[index])

        chosen: int = min(self._fitting.tolist(), key=lost)
        return chosen

    def _on_the_way(self) -> Subnet:
        """Return the numbers of queries and layers between the whole model's and the target's."""
        target, whole = self.target, self.space.decode(self._points[int(self._macs.argmax())])
        assert target is not None
        choices = dict(whole.choices)
        done = (self._now - self.observe_steps) // self.drop_every + 1
        numbers = sorted(map(int, self.space.choices.get(QUERIES, ())), reverse=True)
        ways = [n for n in numbers if n >= int(target.choices.get(QUERIES, 0))]
        if ways:
            choices[QUERIES] = ways[min(done, len(ways) - 1)]
        if LAYERS in choices and done >= len(ways) / 2:
            choices[LAYERS] = target.choices[LAYERS]
        return self.space.resolve(Subnet(choices=choices))


def _sum(metrics: Metrics, prefix: str) -> Tensor:
    values = [metrics[f"{prefix}{name}"] for name in ("loss_cls", "loss_bbox")]
    return torch.stack([torch.as_tensor(value).detach().float().cpu() for value in values]).sum()


def _head_of(space: SearchSpace) -> ElasticHead:
    for mutable in space.mutables.values():
        if isinstance(mutable, ElasticHead):
            return mutable
    raise ConfigError(
        "DropQueries wants queries or decoder layers that may vary; add {type: ElasticDETR3D, "
        "queries: […], decoder_layers: […]} to `mutator`"
    )


def _whole_elsewhere(space: SearchSpace) -> NDArray[np.int64]:
    """Return the points (K, D) at which all but queries and decoder layers is the largest."""
    points, largest = space.all_indices(), space.encode(space.selected)
    others = [i for i, d in enumerate(space.dimensions) if d.name not in (QUERIES, LAYERS)]
    chosen: NDArray[np.int64] = points[(points[:, others] == largest[others]).all(1)]
    return chosen
