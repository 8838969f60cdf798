"""The report of a search: what it found, beside its controls, and how far to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from razorlite.core.streams import results
from razorlite.recipes.by_hand import even_name, even_within, scored_points
from razorlite.recipes.fronts import front_cost, front_trials, point_of, spread
from razorlite.recipes.part_costs import PartCosts, part_costs
from razorlite.recipes.pictures import search_pictures
from razorlite.recipes.random_control import Gain, control_row, gain_of, random_control
from razorlite.recipes.retrained import Retrained
from razorlite.recipes.trust import (
    Scored,
    best_trials,
    best_within,
    drawn,
    even_finding,
    finding,
    measured,
    scored_on_draws,
)
from razorlite.search import ElasticResult, SearchConfig, Study, SupernetScore, Trial, Workers
from razorlite.search.pareto import pareto_front
from razorlite.visual import plot_choices, plot_parts, write_report
from razorlite.visual.report import Table

_SHOWN = 12  # points of the front whose parts are counted
_COSTS = ("macs", "params", "latency_ms")


@dataclass(frozen=True)
class Controls:
    """What a search is compared with, all of it scored by the same supernet.

    Attributes:
        random: as many random candidates; None where there are none.
        even: subnets of even widths, depths, operations, ... at the budgets of the front.
    """

    random: Study | None = None
    even: Sequence[Trial] = ()


def score_controls(
    study: Study,
    score: SupernetScore,
    settings: SearchConfig,
    folder: Path,
    workers: Workers | None,
) -> Controls:
    """Score the random control and the even subnets of a finished search.

    All ranks call it, and find the same.

    Args:
        study: the search.
        score: of its candidates.
        settings: the `search` block.
        folder: run folder.
        workers: where candidates are scored.
    """
    control = random_control(study, score, folder, workers) if settings.random_control else None
    cost = front_cost(study)
    if cost is None or cost not in study.feasible.names:
        return Controls(control)
    budgets = [point_of(study, trial, cost)[0] for trial in front_trials(study)]
    points = even_within(study, cost, budgets)
    return Controls(control, scored_points(study, score, workers, points))


@dataclass(frozen=True)
class SearchReport:
    """All that the report of a search says.

    Attributes:
        study: the search.
        controls: what it is compared with.
        best: its best trials on draws of the images; may be none.
        gain: over the random control; None without one.
        even: the best even subnet that costs no more than the best trial; None without one.
        parts: what the front's points cost, part by part.
        retrained: what trainings have given; None before them.
    """

    study: Study
    controls: Controls
    best: Sequence[Scored]
    gain: Gain | None = None
    even: Scored | None = None
    parts: Sequence[PartCosts] = field(default_factory=list)
    retrained: Retrained | None = None

    @classmethod
    def of(
        cls,
        study: Study,
        score: SupernetScore,
        controls: Controls,
        count: int,
        shape: tuple[int, int],
    ) -> "SearchReport":
        """Evaluate the best trials and the control's on draws, and count the parts of the front.

        All ranks call it.

        Args:
            study: the search.
            score: of its candidates.
            controls: as `score_controls` returns them.
            count: of the best trials.
            shape: height and width in pixels that costs are stated for.
        """
        best = scored_on_draws(study, score, count)
        control, gain = controls.random, None
        other = drawn(study, score, control.best) if best and control is not None else None
        if control is not None and other is not None:
            gain = gain_of(study, control, best[0], other)
        rival = best_within(study, controls.even, best[0].trial) if best else None
        even = None if rival is None else drawn(study, score, rival)
        with score.space.kept_path():
            parts = part_costs(spread(front_trials(study), _SHOWN), score.space, shape)
        return cls(study, controls, best, gain, even, parts)

    @property
    def findings(self) -> list[str]:
        """What is seen, in plain words."""
        found = [finding(self.study, self.best)] if self.best else []
        found += [str(self.gain)] if self.gain is not None else []
        if self.even:
            name = even_name(self.study, self.even.trial)
            found.append(even_finding(self.study, self.best[0], self.even, name))
        if self.study.elastic is not None:
            found.append(str(ElasticResult.of(self.study.trials, self.study.elastic)))
        return [*found, *(self.retrained.findings if self.retrained is not None else [])]

    def write(self, folder: Path) -> Path:
        """Write report.html, report.json and the pictures into a run folder.

        Raises:
            RunFolderError: a file cannot be written.
        """
        known = 0 if self.retrained is None else len(replace(self, retrained=None).findings)
        for text in self.findings[known:]:
            results.info("%s", text)
        return write_report(
            folder / "report.html",
            title="What the search found, and how far to trust it",
            rows=self._rows(),
            findings=self.findings,
            figures=self._pictures(folder),
            notes=_NOTES,
            facts={
                "evaluations": len(self.study.trials),
                "searcher": self.study.searcher.name,
            },
            tables=[
                *([self.retrained.table()] if self.retrained is not None else []),
                *([_parts_table(self.parts)] if self.parts else []),
            ],
            more={
                "retrained": None if self.retrained is None else self.retrained.to_dict(),
                "random_control": None if self.gain is None else self.gain.to_dict(),
                "part_costs": [vars(one) for one in self.parts],
            },
        )

    def _rows(self) -> list[dict[str, Any]]:
        """Return the best trials, the random control and the even subnets, as a table has them."""
        rows = [_row(self.study, one) for one in self.best]
        if self.gain is not None:
            control = self.gain.control
            rows.append({**control_row(self.gain), **_measured(self.study, control)})
        return rows + [_even_row(self.study, trial) for trial in self.controls.even]

    def _pictures(self, folder: Path) -> list[tuple[str, Path]]:
        """Draw the pictures."""
        pictures, controls = folder / "pictures", self.controls
        random = [] if controls.random is None else controls.random.scored
        others = {"random control (front)": _front(self.study, random), "even": controls.even}
        search_pictures(self.study, folder, random, {n: ts for n, ts in others.items() if ts})
        shares = choice_shares(self.study)
        made = [
            ("Progress against the number of evaluations", pictures / "search.png"),
            ("Score against cost, with the front", pictures / "pareto.png"),
            (
                "What the best fifth of the candidates chose",
                plot_choices(shares, pictures / "choices.png"),
            ),
        ]
        if self.retrained is not None:
            made += self.retrained.draw(pictures)
        if self.parts:
            macs = {one.name: one.macs for one in self.parts}
            made.append(("What the parts cost", plot_parts(macs, pictures / "parts.png")))
        return [(caption, path) for caption, path in made if path.exists()]


_NOTES = [
    "Scores are of the supernet's weights, which rank subnets as far as the supernet does: retrain "
    "two or three of the front before you rely on the order. Intervals hold 95 % of 200 draws of "
    "the search's images (bootstrap), the same draws for all.",
    "The random control has as many evaluations by the same supernet, images and constraint. Even "
    "subnets have the same share of all widths, depths and the like everywhere, and one operation "
    "at all places: what one would choose by hand, as costly as each point of the front allows.",
]


def _row(study: Study, one: Scored) -> dict[str, Any]:
    return {"name": f"trial {one.trial.number}", **_measured(study, one)}


def _measured(study: Study, one: Scored) -> dict[str, Any]:
    """Return a trial's costs and metrics, the first objective with its interval."""
    ends = {f"{study.objectives.first}_interval": measured(study, one)[1]}
    return {**_known_costs(one.trial), **one.trial.scores, **ends}


def _even_row(study: Study, trial: Trial) -> dict[str, Any]:
    note = "an even subnet of the supernet: the same share of all choices"
    named = {"name": even_name(study, trial), "note": note}
    return {**named, **_known_costs(trial), **trial.scores}


def _known_costs(trial: Trial) -> dict[str, int | float]:
    return {key: trial.cost[key] for key in _COSTS if key in trial.cost}


def _front(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    """Return those of some trials that no other of them beats in the first objective and cost."""
    cost = front_cost(study)
    points = [point_of(study, t, cost) for t in trials] if cost is not None else []
    return [trials[i] for i in pareto_front([(value, -spent) for spent, value in points])]


def choice_shares(study: Study) -> dict[str, dict[str, float]]:
    """Return how often the best fifth of the trials, five at least, chose each value."""
    best = best_trials(study, max(5, len(study.scored) // 5))
    shares: dict[str, dict[str, float]] = {}
    for dimension in study.space.dimensions:
        values = [trial.subnet.choices[dimension.name] for trial in best]
        shares[dimension.name] = {
            str(value): values.count(value) / max(1, len(values)) for value in dimension.values
        }
    return shares


def _parts_table(parts: Sequence[PartCosts]) -> Table:
    """Return what each part of each point costs: MACs with their share, and parameters."""
    names = list(dict.fromkeys(name for one in parts for name in one.macs))
    lines = [[one.name, *(_part_text(one, name) for name in names)] for one in parts]
    return "Cost per part: M MACs (share), M parameters", ["Front", *names], lines


def _part_text(one: PartCosts, name: str) -> str:
    if name not in one.macs:
        return "–"
    macs, whole = one.macs[name], max(1, sum(one.macs.values()))
    return f"{macs / 1e6:.2f} ({macs / whole:.0%}), {one.params[name] / 1e6:.3f}"
