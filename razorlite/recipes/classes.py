"""One list of classes for model, data, metric and checkpoint, compared before the first step."""

import logging
from collections.abc import Sequence

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.data import Dataset
from razorlite.data.relabelling import name_list, used_classes
from razorlite.evaluation.metric import Metric
from razorlite.models.heads.class_head import class_counts
from razorlite.recipes.tasks import compare_tasks

_log = logging.getLogger("razorlite")


def compare(
    model: nn.Module,
    classes: Sequence[str],
    *,
    where: str = "data.train",
    dataset: Dataset | None = None,
) -> None:
    """Refuse a model that tells fewer classes apart than the data have; say if it tells more.

    Heads count classes without background. A model of one's own without our heads is compared by
    its `num_classes`, if it has that, which may count background.

    Args:
        model: may be on the meta device.
        classes: names of the labels in their order.
        where: the data come from, for messages.
        dataset: tells which classes have no object, such as the root category of some exporters;
            without one a model that tells more classes apart passes.

    Raises:
        ConfigError: a head has fewer classes; the message has both and what to change. Or the data
            are of another task than the model.
    """
    compare_tasks(model, dataset, where)
    counts = class_counts(model)
    fewer = {name: count for name, count in counts.items() if count < len(classes)}
    if fewer:
        raise ConfigError(_mismatch(fewer, classes, where, dataset))
    more = {name: n for name, n in counts.items() if n > len(classes) + (not name)}
    if more and dataset is not None:
        _log.warning("%s; what is beyond never has an object", _mismatch(more, classes, where))


def output_names(classes: Sequence[str], count: int) -> list[str]:
    """Return names for so many outputs of a model: the classes of the data, then numbers."""
    return [*classes, *(f"class {label}" for label in range(len(classes), count))]


def compare_metric(metric: Metric, classes: Sequence[str]) -> None:
    """Refuse a metric whose own names are not those of the labels it evaluates.

    Raises:
        ConfigError: it has more, fewer, or the same names in another order.
    """
    own = getattr(metric, "classes", None)
    if own is None:
        return
    if len(own) != len(classes) or (set(own) == set(classes) and list(own) != list(classes)):
        raise ConfigError(
            f"metric.classes is {name_list(own)}, the data have {name_list(classes)}; leave "
            f"metric.classes out, which takes the data's"
        )


def same_names(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two lists have the same names, in any order."""
    return sorted(one) == sorted(other)


def _mismatch(
    wrong: dict[str, int], classes: Sequence[str], where: str, dataset: Dataset | None = None
) -> str:
    keys = [".".join(filter(None, ("model", name, "num_classes"))) for name in wrong]
    heads = ", ".join(f"{key} {n}" for key, n in zip(keys, wrong.values(), strict=True))
    used = classes if dataset is None else used_classes(dataset)
    advice = f"set {' and '.join(keys)} to {len(classes)}"
    idle = [name for name in classes if name not in used]
    if idle and set(wrong.values()) == {len(used)}:
        advice = (
            f"{name_list(idle)} has no object, as a root or background category of an export: "
            f"leave it out by {where}.dataset.classes={list(used)}, or {advice}"
        )
    return (
        f"{where} has {len(classes)} classes, {name_list(classes)}, but the model tells "
        f"{_number(wrong)} apart ({heads}); {advice}"
    )


def _number(wrong: dict[str, int]) -> str:
    return " or ".join(map(str, sorted(set(wrong.values()))))
