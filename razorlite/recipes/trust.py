"""How far a search's ranking can be trusted: intervals of its best, in plain words."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.cost import cost_text
from razorlite.evaluation import Metric, image_draws, interval
from razorlite.evaluation.resampling import Values
from razorlite.recipes.fronts import front_cost, point_of
from razorlite.search import ElasticResult, Study, SupernetScore, Trial
from razorlite.visual import plot_choices, write_report

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Scored:
    """A trial, and its first objective on draws of the search's images.

    Attributes:
        trial: one of the best.
        draws: (B,) values, more is better; the same draws for all trials.
    """

    trial: Trial
    draws: Values


def scored_on_draws(study: Study, score: SupernetScore, count: int) -> list[Scored]:
    """Evaluate the best trials once more, and on draws of the images.

    Args:
        study: the search.
        score: of the supernet.
        count: of trials, all different.

    Returns:
        The best one first; none where the first objective is no metric of the images.
    """
    name, best = study.objectives.first, _best(study, count)
    if score.metric is None or name in study.feasible.names:
        return []
    took = sum(trial.seconds for trial in best)
    _log.info(
        "the best %d candidates are evaluated once more, for intervals over images (about %.0f s; "
        "search.trust=0 leaves this out)", len(best), took,
    )  # fmt: skip
    sign = 1 if study.objectives.directions[name] == "max" else -1
    with score.space.kept_path():
        drawn = [(trial, _draws(score, trial, name)) for trial in best]
    return [Scored(trial, sign * draws) for trial, draws in drawn if draws is not None]


def _best(study: Study, count: int) -> list[Trial]:
    once = {study.space.encode(t.subnet).tobytes(): t for t in reversed(study.scored)}
    return sorted(once.values(), key=lambda t: (-(t.score or 0.0), t.number))[:count]


def _draws(score: SupernetScore, trial: Trial, name: str) -> Values | None:
    """Return (B,) values of a trial on draws; None where scoring has left no images."""
    metric = score.metric
    score(trial.subnet)
    if metric is None or not metric.items:
        return None
    draws = image_draws(len(metric.items))
    values = metric.resampled(draws)
    if name not in values:  # a metric's own way may give the most important ones alone
        values = Metric.resampled(metric, draws)
    if name not in values:
        raise ConfigError(f"search.metric {name!r} is not among the metrics {', '.join(values)}")
    return values[name]


def finding(study: Study, found: Sequence[Scored]) -> str:
    """Return in plain words what the best trials' intervals say."""
    first = found[0]
    alike = [first, *(one for one in found[1:] if interval(first.draws - one.draws)[0] <= 0)]
    value, (low, high) = _measured(study, first)
    text = f"{study.objectives.first} {value:.4f}, 95 % of draws {low:.4f} to {high:.4f}"
    if len(alike) == 1:
        return f"Trial {first.trial.number} is better than the next by more than the noise: {text}."
    cost = front_cost(study)
    noise = f"The best {len(alike)} differ by less than the noise over images ({text})"
    if cost is None:
        return f"{noise}: any of them will do."
    cheapest = min(alike, key=lambda one: point_of(study, one.trial, cost)[0]).trial
    spent = point_of(study, cheapest, cost)[0]
    return f"{noise}: take the cheapest, trial {cheapest.number} ({cost_text(cost, spent)})."


def _measured(study: Study, one: Scored) -> tuple[float, list[float]]:
    """Return a trial's first objective and its interval, as they are measured."""
    sign = 1 if study.objectives.directions[study.objectives.first] == "max" else -1
    return sign * one.trial.values[0], sorted(sign * end for end in interval(one.draws))


def write_trust(study: Study, found: Sequence[Scored], folder: Path) -> Path:
    """Write report.html and report.json of a search, and the picture of what was chosen.

    Args:
        study: the search.
        found: the best trials, the best first; may be none.
        folder: run folder; its pictures are taken into the page.
    """
    chosen = plot_choices(_shares(study), folder / "pictures" / "choices.png")
    pictures = folder / "pictures"
    findings = [finding(study, found)] if found else []
    for text in findings:
        _log.info("%s", text)
    if study.elastic is not None:
        findings.append(str(ElasticResult.of(study.trials, study.elastic)))
    return write_report(
        folder / "report.html",
        title="What the search found, and how far to trust it",
        rows=[_row(study, one) for one in found],
        findings=findings,
        figures=[
            ("Progress against the number of evaluations", pictures / "search.png"),
            ("Score against cost, with the front", pictures / "pareto.png"),
            ("What the best fifth of the candidates chose", chosen),
        ],
        notes=[
            "Scores are of the supernet's weights, which rank subnets as far as the supernet does: "
            "retrain two or three of the front before you rely on the order. Intervals hold 95 % "
            "of 200 draws of the search's images (bootstrap), the same draws for all.",
        ],
        facts={"evaluations": len(study.trials), "searcher": type(study.searcher).__name__},
    )


def _row(study: Study, one: Scored) -> dict[str, Any]:
    costs = {key: one.trial.cost[key] for key in ("macs", "params") if key in one.trial.cost}
    row = {"name": f"trial {one.trial.number}", **costs, **one.trial.scores}
    return {**row, f"{study.objectives.first}_interval": _measured(study, one)[1]}


def _shares(study: Study) -> dict[str, dict[str, float]]:
    """Return how often the best fifth of the trials, five at least, chose each value."""
    best = _best(study, max(5, len(study.scored) // 5))
    shares: dict[str, dict[str, float]] = {}
    for dimension in study.space.dimensions:
        values = [trial.subnet.choices[dimension.name] for trial in best]
        shares[dimension.name] = {
            str(value): values.count(value) / max(1, len(values)) for value in dimension.values
        }
    return shares
