"""The suite that every searcher passes."""

import json

import numpy as np
import pytest

from razorlite.core.errors import BudgetError
from razorlite.cost import Constraint, CostTable
from razorlite.search import Candidates, Trial
from razorlite.space import ChoiceSpace

PLACES, CHOICES = 6, 3


def small_space(places=PLACES):
    return ChoiceSpace({f"place_{i}": ("a", "b", "c") for i in range(places)})


def small_table(space):
    """Costs 1, 2, 4 in the first place, 3, 6, 12 in the second, and so on."""
    shares = [[(i + 1) * 2**c for c in range(CHOICES)] for i in range(len(space.choices))]
    return CostTable(space, fixed={"macs": 10}, shares={"macs": shares})


def candidates(seed=0, constraint=None, places=PLACES):
    space = small_space(places)
    table = small_table(space)
    limits = Constraint.parse(constraint or {}, table)
    return Candidates(space=space, table=table, constraint=limits, seed=seed)


def score(space, subnet):
    """Best with every place at "b"."""
    return -float(np.abs(space.encode(subnet) - 1).sum())


def scored(space, points, start=0):
    """Return the trials of a batch."""
    subnets = [space.decode(point) for point in points]
    return [
        Trial(number=start + i, subnet=subnet, values=(score(space, subnet),))
        for i, subnet in enumerate(subnets)
    ]


def keep(seen, points, trials):
    """Note what came of points, as a study does."""
    for point, trial in zip(points, trials, strict=True):
        seen.keep(point, trial)


def tell(searcher, points, start=0):
    """Tell a searcher the scores of a batch."""
    trials = scored(searcher.candidates.space, points, start)
    keep(searcher.candidates.seen, points, trials)
    searcher.tell(trials)


def batches(searcher, start=0):
    """Yield the batches of a search as tuples of indices, each told before the next."""
    while len(points := searcher.ask()):
        yield [tuple(point) for point in points.tolist()]
        tell(searcher, points, start)
        start += len(points)


def run(searcher):
    """Return the proposals of a search in order, as tuples of indices."""
    return [point for batch in batches(searcher) for point in batch]


class SearcherContract:
    """Inherit and define `make(candidates)`, a searcher of at most 200 trials."""

    def make(self, candidates):
        raise NotImplementedError

    def test_proposals_are_new_and_end(self):
        seen = run(self.make(candidates()))
        assert 10 <= len(seen) <= 729
        assert len(set(seen)) == len(seen)

    def test_batches_are_points(self):
        points = self.make(candidates()).ask()
        assert points.shape == (len(points), PLACES)
        assert points.dtype == np.int64
        assert len(points) >= 1

    def test_the_end_is_an_empty_batch_and_stays_one(self):
        searcher = self.make(candidates())
        run(searcher)
        for _ in range(2):
            assert searcher.ask().shape == (0, PLACES)

    def test_same_seed_same_search(self):
        runs = [list(batches(self.make(candidates(seed=3)))) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_proposals_meet_the_constraint(self):
        found = candidates(constraint={"macs": [40, 50]})
        points = np.array(run(self.make(found)))
        macs = found.table.many(points)["macs"]
        assert len(points) >= 10
        assert ((macs >= 40) & (macs <= 50)).all()

    def test_only_candidate_is_found(self):
        found = candidates(constraint={"macs": 31})  # the least is 10 + 21: all "a"
        assert run(self.make(found)) == [(0,) * PLACES]

    def test_no_candidate_is_a_budget_error_that_names_the_nearest(self):
        space = ChoiceSpace({"p": ("a", "b"), "q": ("a", "b")})
        table = CostTable(space, fixed={"macs": 0}, shares={"macs": [[0, 10], [0, 10]]})
        limits = Constraint.parse({"macs": [11, 19]}, table)  # within the range, and between points

        def search():
            found = Candidates(space=space, table=table, constraint=limits)
            return self.make(found).ask()

        with pytest.raises(BudgetError, match=r"no candidate meets macs in 11 to 19; the nearest"):
            search()

    def test_state_goes_through_json_and_continues(self):
        whole = list(batches(self.make(candidates(seed=5))))
        for stop in range(1, len(whole) + 1):
            searcher = self.make(candidates(seed=5))
            head = [searcher.ask()]
            for _ in range(stop - 1):
                tell(searcher, head[-1], sum(map(len, head[:-1])))
                head.append(searcher.ask())
            state = json.loads(json.dumps(searcher.state_dict()))
            other = self.make(candidates(seed=5))
            other.candidates.rng.random(7)
            told = np.concatenate(head)
            keep(other.candidates.seen, told, scored(other.candidates.space, told))
            other.load_state_dict(state)
            done = len(told)
            tell(other, head[-1], done - len(head[-1]))
            assert list(batches(other, done)) == whole[stop:]

    def test_the_state_does_not_grow_with_the_search(self):
        searcher = self.make(candidates())
        sizes = []
        while len(points := searcher.ask()):
            sizes.append(len(json.dumps(searcher.state_dict())))
            tell(searcher, points)
        assert max(sizes) < 2000

    def test_failed_candidates_do_no_harm(self):
        found = candidates()
        searcher = self.make(found)
        count = 0
        while len(points := searcher.ask()):
            subnets = [found.space.decode(point) for point in points]
            searcher.tell([Trial(number=count, subnet=s, error="no") for s in subnets])
            count += len(points)
        assert count >= 10

    def test_settings_are_plain(self):
        settings = self.make(candidates(seed=8)).settings
        assert json.loads(json.dumps(settings)) == settings
        assert settings["type"]
        assert settings["seed"] == 8
