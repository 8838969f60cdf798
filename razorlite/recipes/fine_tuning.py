"""Weights of a model for other classes: which rows of its heads are taken over."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from razorlite.data.relabelling import name_list
from razorlite.models.heads.class_head import class_tensors


class OtherClasses:
    """Makes weights for other classes fit a model: rows of classes of one name are taken over.

    All other rows of its heads keep their initial values. Where it is not known for which classes
    the weights are, and how many there are differs, all rows do.

    Args:
        model: what starts from the weights.
        classes: names of its labels.
        origin: names of the weights' labels, where they are known.
    """

    def __init__(
        self, model: nn.Module, classes: Sequence[str], origin: Sequence[str] | None
    ) -> None:
        self._own = model.state_dict()
        self._classes, self._origin = list(classes), None if origin is None else list(origin)
        self._layers = {name: (count, layer) for name, count, layer in class_tensors(model)}
        self.changed: list[str] = []
        self._count = 0

    def __call__(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors, by the model's names, that have the model's rows."""
        self.changed = []
        return {name: self._fitted(name, tensor) for name, tensor in state.items()}

    def note(self) -> str:
        """Return a sentence on what was left at its initialisation; empty if nothing changed."""
        if not self.changed:
            return ""
        places = sorted({name.rpartition(".")[0] for name in self.changed})
        theirs = f", {name_list(self._origin)}" if self._origin else ""
        taken = [name for name in self._classes if name in (self._origin or ())]
        rows = f"the rows of {name_list(taken)} are taken over, all others" if taken else "all rows"
        return (
            f"the weights tell {self._count} classes apart{theirs}, the data have "
            f"{name_list(self._classes)}: of {', '.join(places)} {rows} are left at initialisation"
        )

    def _fitted(self, name: str, tensor: Tensor) -> Tensor:
        own = self._own.get(name)
        if name not in self._layers or own is None or own.shape[1:] != tensor.shape[1:]:
            return tensor  # reported when all are compared
        count, layer = self._layers[name]
        each = layer.per_class(len(own), count)
        theirs, rest = divmod(len(tensor) - layer.others, each or 1)
        if each is None or rest or theirs < 1:
            return tensor
        same = theirs == count
        if self._origin is None or len(self._origin) > theirs:
            return tensor if same else self._merged(name, tensor, theirs, [])
        if same and self._origin == self._classes:
            return tensor
        return self._merged(name, tensor, theirs, list(self._shared(count)))

    def _merged(
        self, name: str, tensor: Tensor, theirs: int, pairs: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the model's tensor with the rows of some labels, here and there, taken over."""
        self.changed.append(name)
        self._count = theirs
        count, layer = self._layers[name]
        merged: Tensor = self._own[name].clone()
        here, there = layer.rows(len(merged), count), layer.rows(len(tensor), theirs)
        for ours, other in pairs:
            merged[here[ours]] = tensor[there[other]].to(merged.dtype)
        if layer.others and pairs:  # such as background
            merged[-layer.others :] = tensor[-layer.others :].to(merged.dtype)
        return merged

    def _shared(self, count: int) -> Iterator[tuple[int, int]]:
        """Yield the labels of classes of one name, here and there."""
        origin = {name: label for label, name in enumerate(self._origin or ())}
        for label, name in enumerate(self._classes[:count]):
            if name in origin:
                yield label, origin[name]
