"""The rows of the demo's table: metrics with their intervals, costs, steps and times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from razorlite.cost import count, measure_latency
from razorlite.evaluation import evaluate, image_draws, interval
from razorlite.evaluation.resampling import Values
from razorlite.recipes.building import build, load_into
from razorlite.recipes.experiment import Experiment, read
from razorlite.recipes.side_by_side import side_by_side
from razorlite.recipes.splits import Splits

_PAIRS = (  # what is compared with which control
    ("random", "by hand", "the same detector scaled by hand and trained from nothing"),
    ("searched", "random", "the random subnet of the same budget"),
    ("searched", "by hand", "the same detector scaled by hand and trained from nothing"),
    ("distilled", "searched", "the same subnet without a teacher"),
    ("pruned", "by hand", "the same detector scaled by hand and trained from nothing"),
)
_MEANS = {
    "random": "the supernet's weights",
    "searched": "search",
    "distilled": "distillation",
    "pruned": "pruning",
}
LATENCY_SHAPE = (480, 480)  # pixels; at the demo's own 64 x 64 starting an operation costs most


@dataclass(frozen=True)
class Contestant:
    """A trained model of the demo.

    Attributes:
        name: row of the table.
        config: its configuration.
        subnet: its subnet file.
        checkpoint: its weights.
        steps: batches that its weights have seen, those of the supernet included.
        note: what it is.
    """

    name: str
    config: str
    subnet: Path
    checkpoint: Path
    steps: int
    note: str


@dataclass(frozen=True)
class Measured:
    """A row, and the AP on each draw of the test images.

    Attributes:
        row: name, note, steps, macs, params, AP, AP_interval, AP50, latency_ms.
        draws: (B,) AP; the same draws for all models.
    """

    row: dict[str, Any]
    draws: Values

    def minus(self, other: "Measured") -> tuple[float, float, float]:
        """Return how much more AP than another, and the 95 % interval of that over images."""
        low, high = interval(self.draws - other.draws)
        return self.row["AP"] - other.row["AP"], low, high


def measure(contestants: Sequence[Contestant]) -> dict[str, Measured]:
    """Evaluate models on the test images, count them, and time them in turns.

    All ranks call it and share the evaluations; while one takes the times, the others wait.
    """
    rows = side_by_side([partial(_measured, one) for one in contestants])
    found = {one.name: row for one, row in zip(contestants, rows, strict=True)}
    for name, median in side_by_side([lambda: _medians(contestants)])[0].items():
        found[name].row["latency_ms"] = median
    return found


def _medians(contestants: Sequence[Contestant]) -> dict[str, float]:
    models = {one.name: _loaded(one)[0] for one in contestants}
    times = measure_latency(models, LATENCY_SHAPE, rounds=50)
    return {name: latency.median for name, latency in times.items()}


def _loaded(one: Contestant) -> tuple[nn.Module, Experiment]:
    _, experiment = read(one.config)
    built = build(experiment, one.subnet)
    load_into(built, one.checkpoint)
    return built.model, experiment


def _measured(one: Contestant) -> Measured:
    model, experiment = _loaded(one)
    splits = Splits(experiment, next(model.parameters()).device)
    loader, metric = splits.eval_loader(splits.test, "test"), splits.metric(splits.test, "test")
    metrics = evaluate(splits.compute.place(model), loader, metric)
    draws = metric.resampled(image_draws(len(splits.test)))["AP"]
    whole = count(model, experiment.shape)
    row = {"name": one.name, "note": one.note, "steps": one.steps}
    row |= {"macs": whole.macs, "params": whole.params, "AP": metrics["AP"]}
    row |= {"AP_interval": list(interval(draws)), "AP50": metrics["AP50"]}
    return Measured(row, np.asarray(draws))


def conclusions(found: Mapping[str, Measured]) -> list[str]:
    """Return in plain words what the rows show, each beside its control."""
    compare = partial(_compared, found)
    pairs = [pair for pair in _PAIRS if pair[0] in found]
    return [*_overall(found), *(compare(*pair) for pair in pairs), _fastest(found)]


def _overall(found: Mapping[str, Measured]) -> list[str]:
    """Return which of the means pay here: those better than every control of theirs."""
    means = dict.fromkeys(name for name, *_ in _PAIRS if name in found)
    lows = {m: min(found[m].minus(found[c])[1] for n, c, _ in _PAIRS if n == m) for m in means}
    pays = ", ".join(_MEANS[name] for name, low in lows.items() if low > 0)
    rest = ", ".join(_MEANS[name] for name, low in lows.items() if low <= 0)
    return [
        *([f"Better than every control of equal cost and steps: {pays}."] if pays else []),
        *([f"Not shown to be better than every control: {rest}."] if rest else []),
    ]


def _compared(found: Mapping[str, Measured], name: str, control: str, what: str) -> str:
    gain, low, high = found[name].minus(found[control])
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else ""
    text = f"{gain:+.3f} AP, 95 % of draws of the test images within {low:+.3f} to {high:+.3f}"
    if verdict:
        return f"{name} {verdict} {what}: {text}."
    return f"{name} is not better than {what}, nor worse, as far as these images tell: {text}."


def _fastest(found: Mapping[str, Measured]) -> str:
    times = {name: one.row["latency_ms"] for name, one in found.items()}
    name = min(times, key=lambda key: times[key])
    share = times[name] / times["largest"]
    gain, low, high = found[name].minus(found["largest"])
    return (
        f"{name} is the fastest, at {share:.0%} of the largest's time, with {gain:+.3f} AP "
        f"({low:+.3f} to {high:+.3f}) to it."
    )
