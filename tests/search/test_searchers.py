"""Searchers: the shared suite, and what is their own."""

import json
import time

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost import Constraint, CostTable
from razorlite.search import (
    AgeingEvolutionSearcher,
    Candidates,
    EvolutionSearcher,
    ExhaustiveSearcher,
    GreedySlimming,
    LocalSearcher,
    NSGA2Searcher,
    PredictorSearcher,
    RandomSearcher,
    Trial,
    pareto_front,
)
from razorlite.space import ChoiceSpace
from tests.search.contract import (
    PLACES,
    SearcherContract,
    batches,
    candidates,
    run,
    score,
    small_space,
)


class TestRandom(SearcherContract):
    def make(self, candidates):
        return RandomSearcher(candidates=candidates, max_trials=100)


class TestExhaustive(SearcherContract):
    def make(self, candidates):
        return ExhaustiveSearcher(candidates=candidates)

    def test_every_point_once_in_order(self):
        found = candidates(places=2)
        assert run(self.make(found)) == [(a, b) for a in range(3) for b in range(3)]

    def test_large_space_is_refused(self):
        with pytest.raises(ConfigError, match=r"729 points, max_trials is 100; use Evolution"):
            ExhaustiveSearcher(candidates=candidates(), max_trials=100)


class TestEvolution(SearcherContract):
    def make(self, candidates, **settings):
        defaults = {
            "population_size": 20,
            "top_k": 4,
            "max_rounds": 5,
            "num_mutation": 8,
            "num_crossover": 8,
        }
        return EvolutionSearcher(candidates=candidates, **{**defaults, **settings})

    def test_defaults_are_the_papers(self):
        settings = EvolutionSearcher(candidates=candidates()).settings
        assert settings == {
            "type": "EvolutionSearcher",
            "seed": 0,
            "population_size": 50,
            "top_k": 10,
            "max_rounds": 20,
            "mutation_prob": 0.1,
            "num_mutation": 25,
            "num_crossover": 25,
        }

    def test_a_batch_is_a_round(self):
        assert [len(batch) for batch in batches(self.make(candidates()))] == [20] * 5

    def test_children_descend_from_the_best(self):
        found = candidates(places=40)
        searcher = self.make(found, top_k=1, num_mutation=20, num_crossover=0)
        first = searcher.ask()
        searcher.tell(trials_of(found.space, first, [float(i == 7) for i in range(20)]))
        changed = (searcher.ask() != first[7]).sum(axis=1)
        # each of 40 places is drawn anew with 0.1, and differs in 2 of 3 draws: 2.67 of 40
        assert np.mean(changed) == pytest.approx(2.67, abs=1.2)

    def test_crossover_takes_each_place_from_a_parent(self):
        found = candidates(places=40)
        searcher = self.make(found, top_k=2, num_mutation=0, num_crossover=20)
        first = searcher.ask()
        searcher.tell(trials_of(found.space, first, [-float(i) for i in range(20)]))
        parents = first[:2]
        for child in searcher.ask():
            assert (child == parents).any(axis=0).all()

    def test_finds_the_optimum_of_an_easy_score(self):
        searcher = EvolutionSearcher(candidates=candidates(places=10), max_rounds=20)
        assert (1,) * 10 in run(searcher)  # one of 59049, in at most 1000

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"population_size": 0}, "population_size wants a number of at least 1, got 0"),
            ({"mutation_prob": 0.0}, "mutation_prob wants a number above 0 and at most 1, got 0"),
            ({"num_mutation": 19}, "num_mutation 19 and num_crossover 8 must fit"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            self.make(candidates(), **settings)


class TestAgeingEvolution(SearcherContract):
    def make(self, candidates, **settings):
        defaults = {"max_trials": 60, "population_size": 20, "sample_size": 5, "batch_size": 4}
        return AgeingEvolutionSearcher(candidates=candidates, **{**defaults, **settings})

    def test_defaults_are_the_papers(self):
        settings = AgeingEvolutionSearcher(candidates=candidates()).settings
        assert (settings["population_size"], settings["sample_size"]) == (100, 25)

    def test_children_differ_by_one_change_from_a_living_parent(self):
        found = candidates(places=10)
        searcher = self.make(found, sample_size=200, batch_size=1)
        proposed = np.array(run(searcher))
        for number in range(20, 40):
            alive = proposed[number - 20 : number]
            distance = np.abs(alive - 1).sum(axis=1)
            best = alive[np.flatnonzero(distance == distance.min())[-1]]  # the latest of equal ones
            assert (proposed[number] != best).sum() == 1

    def test_finds_the_optimum_of_an_easy_score(self):
        assert (1,) * 10 in run(self.make(candidates(places=10), max_trials=300))


class TestLocal(SearcherContract):
    def make(self, candidates, **settings):
        defaults = {"max_trials": 60, "batch_size": 6, "starts": 4}
        return LocalSearcher(candidates=candidates, **{**defaults, **settings})

    def test_climbs_from_the_best_so_far_by_one_change(self):
        proposed = np.array(run(self.make(candidates(places=10), batch_size=1, max_trials=20)))
        distance = np.abs(proposed - 1).sum(axis=1)
        for number in range(4, 20):
            best = proposed[distance[:number].argmin()]
            assert (proposed[number] != best).sum() == 1

    def test_starts_again_where_no_neighbour_is_left(self):
        found = candidates(places=6)
        proposed = run(self.make(found, batch_size=1, max_trials=100))
        end = proposed.index((1,) * 6)
        around = [sum(value != 1 for value in point) for point in proposed[end + 1 :]]
        # up to 12 neighbours of the optimum are tried, then four random ones, and those around them
        first = next(i for i, changes in enumerate(around) if changes != 1)
        assert first <= 12
        assert max(around[first:]) > 2


class TestGreedySlimming(SearcherContract):
    def make(self, candidates, **settings):
        return GreedySlimming(candidates=candidates, **settings)

    def test_proposals_meet_the_constraint(self):
        """Those on the way may cost more; none costs less, and the last ones are within it."""
        found = candidates(constraint={"macs": [40, 50]})
        macs = found.table.many(np.array(run(self.make(found))))["macs"]
        assert (macs >= 40).all()
        assert macs[0] == 10 + 84
        assert macs[-1] <= 50

    def test_only_candidate_is_found(self):
        proposed = run(self.make(candidates(constraint={"macs": 31})))
        assert proposed[0] == (2,) * PLACES
        assert proposed[-1] == (0,) * PLACES

    def test_each_step_is_the_best_of_one_batch(self):
        # all at "b" is best, each "b" for a "c" is worth the same: the first dimension goes first
        steps = list(batches(self.make(candidates(places=3))))
        assert steps[0] == [(2, 2, 2), (1, 2, 2), (2, 1, 2), (2, 2, 1)]
        assert steps[1] == [(0, 2, 2), (1, 1, 2), (1, 2, 1)]
        assert steps[2] == [(0, 1, 2), (1, 0, 2), (1, 1, 1)]
        assert steps[3] == [(0, 1, 1), (1, 0, 1), (1, 1, 0)]
        assert steps[-1] == [(0, 0, 0)]

    def test_ends_where_the_constraint_is_met(self):
        # 34 in all; "c" to "b" saves 2, 4 and 6, "b" to "a" 1, 2 and 3
        steps = list(batches(self.make(candidates(places=3, constraint={"macs": 28}))))
        assert [len(batch) for batch in steps] == [4, 3]  # (1, 1, 2) is within the constraint
        steps = list(batches(self.make(candidates(places=3, constraint={"macs": [25, 28]}))))
        assert steps[2:] == [[(0, 1, 2), (1, 0, 2)], [(0, 0, 2)]]

    def test_costs_may_decide(self):
        # a step from (2, 2, 2) gains 1 and saves 2, 4 or 6; with gains the smallest saving is best
        steps = batches(self.make(candidates(places=3), per="macs"))
        first = next(steps)
        assert first[1:] == [(1, 2, 2), (2, 1, 2), (2, 2, 1)]
        found = candidates(places=3)
        searcher = self.make(found, per="macs")
        points = searcher.ask()
        values = [1.0, 0.9, 0.9, 0.85]  # 0.1 / 2, 0.1 / 4, 0.15 / 6: the second, of two equal ones
        searcher.tell(trials_of(found.space, points, values))
        assert searcher.ask()[0].tolist() == [1, 1, 2]

    def test_several_steps_at_once(self):
        steps = list(batches(self.make(candidates(places=3), at_once=2)))
        assert steps[0][0] == (2, 2, 2)
        assert steps[1][0] == (1, 1, 2)

    def test_words_are_ordered_by_their_costs(self):
        space = ChoiceSpace({"p": ("large", "small"), "q": (8, 4)})
        table = CostTable(space, fixed={"macs": 0}, shares={"macs": [[9, 1], [9, 1]]})
        searcher = self.make(Candidates(space=space, table=table))
        assert searcher.ask().tolist() == [[0, 0], [1, 0], [0, 1]]
        with pytest.raises(ConfigError, match=r"those of 'p' are words; give a cost table"):
            self.make(Candidates(space=space))
        with pytest.raises(ConfigError, match=r"per wants one of the costs macs, got 'mac'; did"):
            self.make(Candidates(space=space, table=table), per="mac")


class TestNSGA2(SearcherContract):
    def make(self, candidates, **settings):
        defaults = {"max_trials": 90, "population_size": 30}
        return NSGA2Searcher(candidates=candidates, **{**defaults, **settings})

    def test_a_batch_is_a_generation(self):
        assert [len(batch) for batch in batches(self.make(candidates(places=10)))] == [30] * 3

    def test_finds_more_of_a_front_than_chance(self):
        hypervolume = {kind: np.mean([covered(kind, seed) for seed in range(3)]) for kind in KINDS}
        assert hypervolume[NSGA2Searcher] > 1.02 * hypervolume[RandomSearcher]


class TestPredictor(SearcherContract):
    def make(self, candidates, **settings):
        defaults = {"max_trials": 24, "batch_size": 4, "initial": 8, "pool_size": 40}
        return PredictorSearcher(candidates=candidates, **{**defaults, **settings})

    def test_finds_the_optimum_of_an_easy_score_within_a_few(self):
        proposed = run(self.make(candidates(places=10), max_trials=32))
        assert (1,) * 10 in proposed  # one of 59049

    def test_a_tight_budget_of_a_large_space_is_met(self):
        space, table = wide_space()
        low, high = table.bounds()["macs"]
        limits = Constraint.parse({"macs": low + 0.02 * (high - low)}, table)
        found = Candidates(space=space, table=table, constraint=limits)
        searcher = self.make(found, max_trials=14, batch_size=3)
        count = 0
        while len(points := searcher.ask()):
            assert found.allowed(points).all()
            searcher.tell(trials_of(space, points, points.sum(axis=1).tolist(), count))
            count += len(points)
        assert count == 14


KINDS = (NSGA2Searcher, RandomSearcher)


def covered(kind, seed):
    """Return the share of (accuracy, cost) that the front of 150 trials covers."""
    found = candidates(seed=seed, places=10)
    worth = np.random.default_rng(7).random((10, 3)).cumsum(axis=1)
    searcher = kind(candidates=found, max_trials=150)
    values = np.empty((0, 2))
    while len(points := searcher.ask()):
        gain = worth[np.arange(10), points].sum(axis=1) / worth.max(axis=1).sum()
        new = np.stack([gain, -found.table.many(points)["macs"] / 230], axis=1)
        subnets = [found.space.decode(point) for point in points]
        numbered = enumerate(zip(subnets, new.tolist(), strict=True), len(values))
        searcher.tell([Trial(number=n, subnet=s, values=tuple(v)) for n, (s, v) in numbered])
        values = np.concatenate([values, new])
    front = values[pareto_front(values.tolist())]  # the best accuracy first, then ever cheaper
    widths = front[:, 0] - np.append(front[1:, 0], 0.0)
    return float((widths * (1 + front[:, 1])).sum())


def trials_of(space, points, scores, start=0):
    return [
        Trial(number=start + i, subnet=space.decode(point), values=(value,))
        for i, (point, value) in enumerate(zip(points, scores, strict=True))
    ]


def wide_space():
    """4**20 points with uneven costs, as a supernet's."""
    rng = np.random.default_rng(4)
    space = ChoiceSpace({f"p{i}": ("a", "b", "c", "d") for i in range(20)})
    shares = np.sort(rng.integers(2_000_000, 30_000_000, (20, 4)), axis=1)
    return space, CostTable(space, fixed={"macs": 1000}, shares={"macs": shares.tolist()})


@pytest.mark.parametrize("width", [1e-2, 1e-4])
@pytest.mark.parametrize("end", ["low", "middle", "high"])
def test_tight_constraints_are_met_where_rejection_is_hopeless(end, width):
    space, table = wide_space()
    low, high = table.bounds()["macs"]
    share = {"low": 0.1, "middle": 0.5, "high": 0.9}[end]
    middle = low + share * (high - low)
    limits = Constraint.parse({"macs": [middle * (1 - width / 2), middle * (1 + width / 2)]}, table)
    found = Candidates(space=space, table=table, constraint=limits)
    start = time.perf_counter()
    points = found.random(20)
    assert time.perf_counter() - start < 10
    assert len(np.unique(points, axis=0)) == 20
    assert found.allowed(points).all()


def test_walks_end_in_many_places():
    space, table = wide_space()
    low, high = table.bounds()["macs"]
    limits = Constraint.parse({"macs": low + 0.05 * (high - low)}, table)
    points = Candidates(space=space, table=table, constraint=limits).random(100)
    # far below what chance reaches, and yet most places take more than one choice
    assert np.mean([len(np.unique(column)) > 1 for column in points.T]) > 0.8


@pytest.fixture(scope="module")
def macro(test_data):
    """All architectures of NAS-Bench-Macro: the space, mean accuracies by point, the cost table."""
    path = test_data / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
    entries = json.loads(path.read_text())
    space = ChoiceSpace({f"layer_{i}": ("identity", "mb3", "mb6") for i in range(8)})
    base = entries["0" * 8]
    kinds = {"macs": "flops", "params": "params"}
    shares = {
        kind: [
            [entries["0" * i + str(c) + "0" * (7 - i)][key] - base[key] for c in range(3)]
            for i in range(8)
        ]
        for kind, key in kinds.items()
    }
    table = CostTable(space, fixed={k: base[key] for k, key in kinds.items()}, shares=shares)
    return space, table, entries


def test_macro_table_is_additive(macro):
    space, table, entries = macro
    points = space.all_indices()
    metrics = table.many(points)
    names = ["".join(map(str, point)) for point in points]
    assert metrics["macs"].tolist() == [entries[name]["flops"] for name in names]
    assert metrics["params"].tolist() == [entries[name]["params"] for name in names]


def best_found(kind, space, table, entries, constraint, seed, trials):
    """Return the best accuracy among so many trials."""
    limits = Constraint.parse(constraint, table)
    found = Candidates(space=space, table=table, constraint=limits, seed=seed)
    searcher = kind(candidates=found)
    scores = []
    while len(scores) < trials and len(points := searcher.ask()):
        names = ["".join(map(str, point)) for point in points]
        new = [entries[name]["mean_acc"] for name in names]
        searcher.tell(trials_of(space, points, new, len(scores)))
        scores += new
    return max(scores[:trials])


@pytest.mark.parametrize("constraint", [{}, {"macs": "60%"}])
def test_evolution_beats_random_on_nas_bench_macro(macro, constraint):
    space, table, entries = macro
    points = space.all_indices()
    allowed = Constraint.parse(constraint, table).allows(table.many(points))
    names = ["".join(map(str, point)) for point in points[allowed]]
    best = max(entries[name]["mean_acc"] for name in names)
    regret = {
        kind: np.mean(
            [
                best - best_found(kind, space, table, entries, constraint, seed, 200)
                for seed in range(10)
            ]
        )
        for kind in (EvolutionSearcher, RandomSearcher)
    }
    # measured here: 0.004 against 0.152 without a constraint, 0.042 against 0.074 with it
    assert regret[EvolutionSearcher] < 0.8 * regret[RandomSearcher]


def test_score_helper_is_best_at_b():
    space = small_space()
    assert score(space, space.decode([1] * 6)) == 0
