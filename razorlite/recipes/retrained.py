"""What trainings after a search say: rank correlation, the chosen subnet against its controls."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from razorlite.recipes.retraining import Trained
from razorlite.recipes.retraining_plan import Contender, Kind
from razorlite.search import RankCorrelation
from razorlite.visual import plot_pareto, plot_ranking
from razorlite.visual.report import Table

_TIME = "share of the largest's time"
_ERRORS = 2.0  # standard errors that tell a difference from noise
_WHAT: dict[Kind, str] = {
    "chosen": "chosen by the search",
    "front": "of the search's front",
    "random": "random, of about its cost",
    "across": "across the space",
    "even": "even subnet",
    "by hand": "scaled by hand",
}


@dataclass(frozen=True)
class Difference:
    """How much better one is than another, and the standard error of that.

    Attributes:
        value: more is better.
        error: standard error; None where it is not known.
    """

    value: float
    error: float | None

    @property
    def verdict(self) -> str:
        """In words, by two standard errors."""
        if self.error is None:
            return "may or may not beat"
        if self.value > _ERRORS * self.error:
            return "beats"
        return "is beaten by" if self.value < -_ERRORS * self.error else "does not beat"

    def told(self, metric: str) -> str:
        """Return the numbers of a metric in words."""
        gain = f"{self.value:+.4f} {metric}"
        if self.error is None:
            return f"{gain}, the noise between seeds is not known"
        return f"{gain}, {_ERRORS:g} standard errors are {_ERRORS * self.error:.4f}"


def _subject(one: Trained) -> str:
    """Return what was trained as the beginning of a sentence."""
    chosen = one.contender.kind == "chosen"
    name = "The chosen subnet" if chosen else one.contender.name.capitalize()
    return f"{name}, itself the same everywhere," if one.contender.even else name


@dataclass(frozen=True)
class Retrained:
    """The trainings of a search and what they were.

    Attributes:
        trained: what came of each contender, the chosen subnet first.
        metric: of their values.
        how: they were trained, in words.
        steps: behind their weights.
        sign: -1 where less of the metric is better; values are as they were measured.
        left_out: what was not scaled by hand, and why.
    """

    trained: Sequence[Trained]
    metric: str
    how: str
    steps: int
    sign: int = 1
    left_out: Sequence[str] = ()

    @cached_property
    def chosen(self) -> list[float]:
        """The chosen subnet's values, more is better."""
        return self._values("chosen")[0] if self._values("chosen") else []

    @property
    def noise(self) -> float | None:
        """Standard deviation between the seeds of the chosen subnet; None for a single one."""
        return stdev(self.chosen) if len(self.chosen) > 1 else None

    @property
    def tau(self) -> RankCorrelation:
        """Of the supernet's scores and the metric, over all subnets of the space."""
        return self._tau([one for one in self.trained if one.contender.score is not None])

    @property
    def tau_near(self) -> RankCorrelation:
        """The same over the chosen subnet and the random ones of its budget."""
        return self._tau(
            [one for one in self.trained if one.contender.kind in ("chosen", "random")]
        )

    @property
    def over_random(self) -> Difference | None:
        """The chosen subnet's mean against the mean of the random ones; None without these."""
        others = [mean(values) for values in self._values("random")]
        if not others or not self.chosen:
            return None
        spread = stdev(others) if len(others) > 1 else None
        noise = self.noise if self.noise is not None else spread
        error = None
        if spread is not None and noise is not None:
            error = math.sqrt(spread**2 / len(others) + noise**2 / len(self.chosen))
        return Difference(mean(self.chosen) - mean(others), error)

    @property
    def over_hand(self) -> tuple[str, Difference] | None:
        """The best one scaled by hand or evenly that costs no more, and the difference to it.

        Costs are times where they were measured, else MACs.
        """
        return self._over_hand(self.trained[0])

    @property
    def is_timed(self) -> bool:
        """Whether the chosen subnet and what is scaled by hand were timed."""
        return self.trained[0].contender.time is not None

    def _over_hand(self, one: Trained) -> tuple[str, Difference] | None:
        own = self._spent(one.contender)
        rivals = [
            rival
            for rival in self.trained
            if rival.contender.kind in ("even", "by hand")
            and rival.values
            and self._spent(rival.contender) <= own
        ]
        if not rivals or not one.values:
            return None
        best = max(rivals, key=lambda rival: self.sign * mean(rival.values))
        error = None
        if self.noise is not None:
            error = self.noise * math.sqrt(1 / len(one.values) + 1 / len(best.values))
        value = self.sign * (mean(one.values) - mean(best.values))
        return best.contender.name, Difference(value, error)

    def _spent(self, contender: Contender) -> float:
        """Return what one costs: its measured share of the largest's time, or MACs."""
        if self.is_timed:
            return math.inf if contender.time is None else contender.time.share
        return float(contender.cost.get("macs", math.inf))

    @property
    def findings(self) -> list[str]:
        """What is seen, in plain words."""
        found, cost = [self._ranking()], "in no more time" if self.is_timed else "at no more MACs"
        random = self.over_random
        if random is not None:
            found.append(
                f"The chosen subnet {random.verdict} the mean of {len(self._values('random'))} "
                f"random subnets of about its cost by more than {_ERRORS:g} standard errors, all "
                f"{self.how}: {random.told(self.metric)}."
            )
        for one in self.trained:
            hand = self._over_hand(one) if one.contender.kind in ("chosen", "front") else None
            if hand is not None:
                name, difference = hand
                found.append(
                    f"{_subject(one)} {difference.verdict} the best of what is scaled by hand "
                    f"{cost} ({name}), trained as long: {difference.told(self.metric)}."
                )
        found += [f"Not scaled by hand {why}." for why in self.left_out]
        return found

    def _ranking(self) -> str:
        noise = "not known" if self.noise is None else f"{self.noise:.4f}"
        low = self.tau.low
        verdict = (
            "the supernet ranks subnets better than chance"
            if low is not None and low > 0
            else "so few subnets cannot tell the supernet's ranking from chance"
        )
        near = f"Among the {self.tau_near.count} of the chosen one's cost it is {self.tau_near}"
        return (
            f"Kendall's tau between the supernet's scores and the {self.metric} of "
            f"{self.tau.count} subnets {self.how} is {self.tau}: {verdict}. {near}. The standard "
            f"deviation between seeds of the chosen subnet is {noise}."
        )

    def _values(self, kind: Kind) -> list[list[float]]:
        found = [one.values for one in self.trained if one.contender.kind == kind and one.values]
        return [[self.sign * value for value in values] for values in found]

    def _tau(self, trained: Sequence[Trained]) -> RankCorrelation:
        pairs = [
            (one.contender.score, self.sign * mean(one.values)) for one in trained if one.values
        ]
        return RankCorrelation.of([float(a or 0) for a, _ in pairs], [b for _, b in pairs])

    def table(self) -> Table:
        """Return a line for each contender."""
        costs = ["M MACs", "M params", *([_TIME] if self.is_timed else [])]
        heads = ["Trained", *costs, "supernet's score", self.metric, "seeds", "steps"]
        lines = [self._line(one) for one in self.trained]
        return f"The same, {self.how}, on data.val", heads, lines

    def _line(self, one: Trained) -> list[str]:
        contender, values = one.contender, one.values
        noise = f" ±{(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""
        costs = [contender.cost.get(name) for name in ("macs", "params")]
        time = "–" if contender.time is None else f"{contender.time.share:.1%}"
        return [
            f"{contender.name}, even" if contender.even else contender.name,
            *("–" if cost is None else f"{cost / 1e6:.2f}" for cost in costs),
            *([time] if self.is_timed else []),
            "–" if contender.score is None else f"{self.sign * contender.score:.4f}",
            f"{mean(values):.4f}{noise}" if values else "not trained",
            str(len(values)),
            str(self.steps),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        random, hand = self.over_random, self.over_hand
        return {
            "how": self.how,
            "steps": self.steps,
            "metric": self.metric,
            "tau": vars(self.tau),
            "tau_of_the_budget": vars(self.tau_near),
            "noise_between_seeds": self.noise,
            "over_random": None if random is None else vars(random),
            "over_hand": None if hand is None else {"name": hand[0], **vars(hand[1])},
            "trained": [
                {
                    "name": one.contender.name,
                    "kind": one.contender.kind,
                    "cost": dict(one.contender.cost),
                    "time": None if one.contender.time is None else asdict(one.contender.time),
                    "supernet_score": one.contender.score,
                    "values": list(one.values),
                }
                for one in self.trained
            ],
        }

    def draw(self, folder: Path) -> list[tuple[str, Path]]:
        """Draw scores against each other and against costs; return captions and files."""
        kinds = {
            kind: [one for one in self.trained if one.contender.kind == kind] for kind in _WHAT
        }
        ranked = {
            _WHAT[kind]: [(one.contender.score, list(one.values)) for one in ones]
            for kind, ones in kinds.items()
            if any(one.contender.score is not None for one in ones)
        }
        points = {
            _WHAT[kind]: [
                (self._spent(one.contender), mean(one.values))
                for one in ones
                if one.values and math.isfinite(self._spent(one.contender))
            ]
            for kind, ones in kinds.items()
        }
        made = plot_ranking(
            ranked,
            folder / "ranking.png",
            metric=self.metric,
            title=f"Supernet's score and {self.metric}, {self.how}",
        )
        costs = plot_pareto(
            [],
            folder / "retrained.png",
            others={name: pairs for name, pairs in points.items() if pairs},
            cost=_TIME if self.is_timed else "macs",
            metric=self.metric,
            title=f"{self.metric} and {'time' if self.is_timed else 'MACs'}, {self.how}",
        )
        return [
            ("The supernet's scores and what training gives", made),
            ("Trained equally: the chosen subnet, random ones, and scaled by hand", costs),
        ]
