"""A layer of one's own that is elastic: written here, and searched like any other."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from razorlite.cost import Constraint, CostTable, count
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.search import Candidates, EvolutionSearcher, Study, SupernetScore
from razorlite.space import Dimension, Mutable, Preparer, SinglePathStep, prepare
from razorlite.structures import Batch


class Bottleneck(nn.Module):
    """A residual block with a hidden width."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(torch.relu(self.bn(self.reduce(x))))


class Widening(Mutable):
    """A bottleneck of which the last hidden channels run: razorlite knows no such layer."""

    def __init__(self, block: Bottleneck, name: str, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.whole, self.name, self.widths = block, name, widths
        self.width = max(widths)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        return (Dimension(self.name, self.widths),)

    @property
    def values(self) -> Mapping[str, int]:
        return {self.name: self.width}

    def set(self, values) -> None:
        self.width = values[self.name]

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.export(self.values), self._part(self.width), (x,))

    def export(self, values) -> nn.Module:
        block = Bottleneck(self.whole.reduce.in_channels, values[self.name])
        with torch.no_grad():
            block.load_state_dict(self._part(values[self.name]))
        return block.train(self.training)

    def own_state(self, state, values) -> dict[str, Tensor]:
        plain = {name.removeprefix("whole."): value for name, value in state.items()}
        return self._cut(plain, values[self.name])

    def _part(self, width: int) -> dict[str, Tensor]:
        tensors = dict(self.whole.named_parameters()) | dict(self.whole.named_buffers())
        return self._cut(tensors, width)

    def _cut(self, state: dict[str, Tensor], width: int) -> dict[str, Tensor]:
        out = {"expand.weight": lambda w: w[:, -width:].contiguous()}
        whole = {"expand.bias", "bn.num_batches_tracked"}
        rows = lambda w: w[-width:]  # noqa: E731
        return {n: v if n in whole else out.get(n, rows)(v) for n, v in state.items()}


class WidenBottlenecks(Preparer):
    """Makes every bottleneck elastic."""

    def __init__(self, *, widths: list[int]) -> None:
        self.widths = tuple(widths)

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        for path, block in list(model.named_modules()):
            if isinstance(block, Bottleneck):
                parent, _, name = path.rpartition(".")
                mutable = Widening(block, f"{path}.hidden", self.widths)
                setattr(model.get_submodule(parent), name, mutable)


class Net(nn.Module):
    """A stem, three bottlenecks and a classifier."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Bottleneck(8, 8) for _ in range(3)))
        self.fc = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(images)).mean((2, 3)))

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss_cls": nn.functional.cross_entropy(self(images), labels)}


SHAPE = (8, 8)


@pytest.fixture
def space():
    torch.manual_seed(0)
    return prepare(Net(), [WidenBottlenecks(widths=[2, 4, 8])], SHAPE)


def batch(seed: int, count: int = 16) -> Batch:
    """Return images that are bright on the left or on the right."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, *SHAPE, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    images[labels == 0, 0] += 1
    return Batch(images, labels)


def accuracy(model: nn.Module) -> dict[str, float]:
    test = batch(99, 64)
    with torch.no_grad():
        found = model.eval()(test.inputs).argmax(1)
    return {"score": (found == test.targets).float().mean().item()}


def test_it_is_trained_searched_within_a_budget_exported_and_compared(space):
    step = SinglePathStep(space, seed=0)
    optimizer = torch.optim.SGD(space.model.parameters(), lr=0.2, momentum=0.9)
    paths, losses = set(), []
    for number in range(40):
        step.begin(number)
        paths.add(tuple(step.path.choices.values()))
        optimizer.zero_grad()
        losses.append(
            float(step(space.model.train(), batch(number), lambda x: x.backward())["loss"])
        )
        optimizer.step()
    assert len(paths) > 15
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])

    table = CostTable.build(space, SHAPE)
    limit = Constraint.parse({"macs": "70%"}, table)
    candidates = Candidates(space=space, table=table, constraint=limit, seed=0)
    settings = {"population_size": 6, "max_rounds": 2, "num_mutation": 2, "num_crossover": 2}
    study = Study(
        searcher=EvolutionSearcher(candidates=candidates, **settings),
        score=SupernetScore(space=space, evaluate=accuracy, batches=[batch(7).inputs]),
    )
    best = study.run()
    assert len(study.trials) == 12
    assert best.score > 0.9
    assert best.cost["macs"] <= 0.7 * table.bounds()["macs"][1]

    plain = space.export(best.subnet)
    exact = count(plain, SHAPE)
    assert (exact.macs, exact.params) == (best.cost["macs"], best.cost["params"])
    assert all(type(block) is Bottleneck for block in plain.blocks)
    space.select(best.subnet)
    images = batch(5).inputs
    assert torch.equal(plain.eval()(images), space.model.eval()(images))
    assert torch.equal(plain.train()(images), space.model.train()(images))
    fresh = prepare(Net(), [WidenBottlenecks(widths=[2, 4, 8])], SHAPE)
    again = fresh.export(best.subnet)
    again.load_state_dict(fresh.chosen_weights(space.model.state_dict(), best.subnet))
    assert torch.equal(again.eval()(images), space.model.eval()(images))


def test_costs_of_all_points_are_exact(space):
    points = space.all_indices()
    costs = CostTable.build(space, SHAPE).many(points)
    assert len(points) == 27
    for point, macs, params in zip(points, costs["macs"], costs["params"], strict=True):
        exact = count(space.export(space.decode(point)), SHAPE)
        assert (exact.macs, exact.params) == (macs, params)


def test_a_configuration_names_it_by_its_path():
    model = {"type": f"{__name__}.Net"}
    mutator = [{"type": f"{__name__}.WidenBottlenecks", "widths": [4, 8]}]
    space = build(read({"model": model, "mutator": mutator, "shape": list(SHAPE)})[1]).space
    assert [d.values for d in space.dimensions] == [(4, 8)] * 3
