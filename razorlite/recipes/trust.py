"""How far a search's ranking can be trusted: intervals of its best, in plain words."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from razorlite.core.errors import ConfigError
from razorlite.cost import cost_text
from razorlite.evaluation import Metric, image_draws, interval
from razorlite.evaluation.resampling import Values
from razorlite.recipes.fronts import front_cost, point_of
from razorlite.recipes.side_by_side import side_by_side
from razorlite.search import Study, SupernetScore, Trial

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
    """Evaluate the best trials once more, and on draws of the images; all ranks share them.

    Args:
        study: the search.
        score: of the supernet.
        count: of trials, all different.

    Returns:
        The best one first; none where the first objective is no metric of the images.
    """
    name, best = study.objectives.first, best_trials(study, count)
    if score.metric is None or name in study.feasible.names:
        return []
    took = sum(trial.seconds for trial in best)
    _log.info(
        "the best %d candidates are evaluated once more, for intervals over images (about %.0f s; "
        "search.trust=0 leaves this out)", len(best), took,
    )  # fmt: skip
    pieces = [partial(drawn, study, score, trial) for trial in best]
    found = side_by_side(pieces, what="subnets scored image by image")
    return [one for one in found if one is not None]


def drawn(study: Study, score: SupernetScore, trial: Trial) -> Scored | None:
    """Evaluate a trial once more, on draws of the images.

    Args:
        study: the search, whose first objective counts.
        score: of the supernet.
        trial: to evaluate; of the search or another one.

    Returns:
        None where the first objective is no metric of images.
    """
    name = study.objectives.first
    if score.metric is None or name in study.feasible.names:
        return None
    with score.space.kept_path():
        values = _draws(score, trial, name)
    sign = 1 if study.objectives.directions[name] == "max" else -1
    return None if values is None else Scored(trial, sign * values)


def best_trials(study: Study, count: int) -> list[Trial]:
    """Return the best trials, all different, the best one first."""
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
    value, (low, high) = measured(study, first)
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


def difference(one: Scored, other: Scored) -> tuple[float, tuple[float, float]]:
    """Return by how much one first objective is better, and the ends of 95 % of the draws."""
    gain = one.trial.values[0] - other.trial.values[0]
    return gain, interval(one.draws - other.draws)


def compared(name: str, one: Scored, other: Scored) -> tuple[str, str]:
    """Return whether one "is better than" another, as far as the images tell, and by how much.

    Args:
        name: of the first objective.
        one: what is compared.
        other: what with, on the same draws.
    """
    gain, (low, high) = difference(one, other)
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else "is no better than"
    return verdict, f"{gain:+.4f} {name}, 95 % of draws {low:+.4f} to {high:+.4f}"


def best_within(study: Study, trials: Sequence[Trial], best: Trial) -> Trial | None:
    """Return the best of some trials that cost no more than another; None where all cost more."""
    cost = front_cost(study)
    if cost is None:
        return None
    budget = point_of(study, best, cost)[0]
    cheap = [trial for trial in trials if point_of(study, trial, cost)[0] <= budget]
    return max(cheap, key=lambda trial: trial.values[0], default=None)


def even_finding(study: Study, first: Scored, even: Scored, name: str) -> str:
    """Return in plain words whether the best trial beats an even subnet that costs no more."""
    verdict, gain = compared(study.objectives.first, first, even)
    return (
        f"Trial {first.trial.number} {verdict} the best of what is the same everywhere and costs "
        f"no more ({name}), as far as the images tell: {gain}."
    )


def measured(study: Study, one: Scored) -> tuple[float, list[float]]:
    """Return a trial's first objective and its interval, as they are measured."""
    sign = 1 if study.objectives.directions[study.objectives.first] == "max" else -1
    return sign * one.trial.values[0], sorted(sign * end for end in interval(one.draws))
