"""A small model, loader and runner for the engine's tests."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from razorlite.engine.config import TrainConfig
from razorlite.engine.runner import Runner
from razorlite.engine.steps import plain_step
from razorlite.structures import Batch


class Toy(nn.Module):
    """Two linear layers, optionally with batch norm between; mean squared error."""

    def __init__(self, *, norm: bool = False, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.last = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(images))))[:, 0]

    def loss(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss_fit": (self(images) - targets).pow(2).mean()}


class ToyLoader:
    """Batches of numbers, a function of (epoch, index) alone."""

    def __init__(self, batches: int = 5, size: int = 4) -> None:
        self.batches, self.size, self.batch_size = batches, size, size
        self.position = (0, 0)
        self.seen: list[tuple[int, int]] = []
        self.closed = 0

    def __len__(self) -> int:
        return self.batches

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        self.position = (epoch, batch_index)

    def batch(self, epoch: int, index: int) -> Batch:
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        images = torch.randn(self.size, 3, generator=generator)
        return Batch(images, images.sum(1))

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.position
        for index in range(start, self.batches):
            self.seen.append((epoch, index))
            yield self.batch(epoch, index)

    def close(self) -> None:
        self.closed += 1


def noisy_step(model, batch, backward):
    """The plain step on images with noise from the global generator."""
    return plain_step(model, Batch(batch.images + torch.randn(()), batch.targets), backward)


def adamw(groups):
    return torch.optim.AdamW(groups, lr=0.05)


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1)


def make_runner(
    folder, *, model=None, loader=None, step=plain_step, seed=0, norm=False, **settings
):
    """Return a runner over toys; `evaluate`, `hooks` and `meta` go to it, the rest to `train`."""
    torch.manual_seed(seed)
    own = {k: settings.pop(k) for k in ("evaluate", "hooks", "meta") if k in settings}
    if "max_epochs" not in settings:
        settings.setdefault("max_steps", 10)
    config = TrainConfig(**{"optimizer": adamw, **settings})
    return Runner(
        model=model or Toy(norm=norm),
        step=step,
        loader=ToyLoader() if loader is None else loader,
        config=config,
        folder=folder,
        **own,
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(first, second) -> None:
    """Trees of tensors and plain values are equal to the bit."""
    one, two = dict(_leaves(first)), dict(_leaves(second))
    assert one.keys() == two.keys()
    assert not [path for path, leaf in one.items() if not _equal(leaf, two[path])]


def _leaves(tree, path=""):
    if isinstance(tree, dict):
        tree = list(tree.items())
    elif isinstance(tree, list | tuple):
        tree = list(enumerate(tree))
    else:
        yield path, tree
        return
    for key, value in tree:
        yield from _leaves(value, f"{path}/{key}")


def _equal(first, second) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    return first == second
