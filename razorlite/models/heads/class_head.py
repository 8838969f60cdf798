"""How many classes a model tells apart, and which of its weights belong to which."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ClassLayer:
    """A layer whose rows of weight and bias are classes': (any, classes, each), then others.

    Attributes:
        name: within the head; of a list of layers, the list's.
        each: rows of a class that lie together, such as its box's coordinates.
        others: rows at the end that belong to no class, such as background's.
    """

    name: str
    each: int = 1
    others: int = 0

    def per_class(self, count: int, classes: int) -> int | None:
        """Return the rows of one class, of `count` rows in all; None if that cannot be."""
        rows, rest = divmod(count - self.others, classes)
        return None if rest or rows <= 0 or rows % self.each else rows

    def rows(self, count: int, classes: int) -> Tensor:
        """Return (classes, K) int64, the rows of each class, of `count` rows in all."""
        own = torch.arange(count - self.others)
        return own.view(-1, classes, self.each).transpose(0, 1).flatten(1)


class ClassHead(nn.Module):
    """Base of heads that tell the classes of the data apart.

    Attributes:
        num_classes: how many, without background.
        class_agnostic: whether the head only tells objects from background.
        class_layers: where its weights are those of single classes.
    """

    num_classes: int
    class_agnostic: bool = False
    class_layers: tuple[ClassLayer, ...] = ()


def class_counts(model: nn.Module) -> dict[str, int]:
    """Return how many classes each head of a model tells apart, by the head's name.

    A model without such heads may tell by an attribute `num_classes` of its own, under "".
    """
    heads = {
        name: module.num_classes
        for name, module in model.named_modules()
        if isinstance(module, ClassHead) and not module.class_agnostic
        if hasattr(module, "num_classes")
    }
    own = getattr(model, "num_classes", None)
    return heads or ({"": own} if isinstance(own, int) else {})


def class_tensors(model: nn.Module) -> Iterator[tuple[str, int, ClassLayer]]:
    """Yield the tensors of a model whose rows are classes': name, number of classes, layout."""
    for head_name, head in model.named_modules():
        if not isinstance(head, ClassHead) or head.class_agnostic:
            continue
        for layer in head.class_layers:
            for name, _ in head.get_submodule(layer.name).named_parameters(remove_duplicate=False):
                full = ".".join(filter(None, [head_name, layer.name, name]))
                yield full, head.num_classes, layer
