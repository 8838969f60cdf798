"""Pictures that commands leave in the run folder."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from razorlite.core.errors import RazorliteError
from razorlite.core.journal import Journal
from razorlite.data import Dataset
from razorlite.evaluation.evaluate import eval_mode
from razorlite.recipes.fronts import front_cost, point_of
from razorlite.recipes.splits import Splits
from razorlite.search import Study, Trial
from razorlite.structures import Target
from razorlite.visual import draw_detections, draw_grid, plot_pareto, plot_search, plot_training

_log = logging.getLogger("razorlite")
_SCORE = 0.3  # least of the detections that are drawn


def or_warn(draw: Callable[[], object]) -> None:
    """Draw a picture; what hinders it is logged, and is no failure of the run that it shows."""
    try:
        draw()
    except (RazorliteError, OSError) as error:
        _log.warning("a picture is missing, all else is written: %s", error)


def training_pictures(folder: Path, title: str) -> Path:
    """Plot the losses, the learning rate and the metrics of a run folder's metrics.jsonl."""
    lines = Journal(folder / "metrics.jsonl").read()
    return plot_training(lines, folder / "pictures" / "training.png", title=title)


def search_pictures(
    study: Study,
    folder: Path,
    control: Sequence[Trial] = (),
    others: Mapping[str, Sequence[Trial]] | None = None,
) -> list[Path]:
    """Plot a search's progress, and its trials' scores against a cost with the Pareto front.

    The cost is another objective that is to be small, the one that is limited, or MACs; without any
    there is no second picture. A first objective that is to be small is drawn as its negative.

    Args:
        study: the search.
        folder: run folder.
        control: as many random candidates that have scores.
        others: more trials to draw beside the search's, by name.
    """
    metric = drawn_metric(study)
    records = [
        {"trial": t.number, "score": t.score, "round": bisect_right(study.batches, t.number) - 1}
        for t in study.trials
    ]
    progress = plot_search(
        records,
        folder / "pictures" / "search.png",
        metric=metric,
        control=[t.values[0] for t in control],
    )
    cost = front_cost(study)
    if cost is None:
        return [progress]
    points = {t.number: point_of(study, t, cost) for t in study.trials if t.score is not None}
    front = plot_pareto(
        list(points.values()),
        folder / "pictures" / "pareto.png",
        chosen=points[study.best.number],
        others={n: [point_of(study, t, cost) for t in ts] for n, ts in (others or {}).items()},
        cost=cost,
        metric=metric,
    )
    return [progress, front]


def drawn_metric(study: Study) -> str:
    """Return the name of the first objective as pictures have it, more is better."""
    first = study.objectives.first
    return first if study.objectives.directions[first] == "max" else f"-{first}"


@torch.no_grad()
def sample_detections(
    model: nn.Module, splits: Splits, dataset: Dataset, part: str, path: Path, images: int = 6
) -> Path | None:
    """Draw a detector's findings and the truth on some images; None for a classifier.

    Args:
        model: on the splits' device.
        splits: how images are read.
        dataset: where images come from, spread evenly over it.
        part: split whose transforms are used.
        path: the PNG file.
        images: how many.
    """
    count = min(images, len(dataset))
    some = dataset.subset([i * len(dataset) // count for i in range(count)])
    if not isinstance(some[0][1], Target):
        return None  # of a task of its own, or a classifier
    loader = splits.eval_loader(some, part, alone=True)
    tiles = []
    with eval_mode(model), splits.compute.autocast():
        found = [one for batch in loader for one in cast(Any, model).predict(batch)]
    pairs: list[Any] = [some[index] for index in range(count)]
    labels = {label for _, target in pairs for label in target.labels.tolist()}
    labels |= {label for one in found for label in one[one.scores >= _SCORE].labels.tolist()}
    for index, (detections, (image, target)) in enumerate(zip(found, pairs, strict=True)):
        tiles.append(
            draw_detections(
                image,
                detections,
                target,
                classes=dataset.classes,
                score_threshold=_SCORE,
                legend=index == 0,
                explained=sorted(labels),
            )
        )
    draw_grid(tiles, path=path)
    return path
