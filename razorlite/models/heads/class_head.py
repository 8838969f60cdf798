"""How many classes a model tells apart: one way for all heads."""

from torch import nn


class ClassHead(nn.Module):
    """Base of heads that tell the classes of the data apart.

    Attributes:
        num_classes: how many, without background.
        class_agnostic: whether the head only tells objects from background.
    """

    num_classes: int
    class_agnostic: bool = False


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
