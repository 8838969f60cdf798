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


def told(searcher, space, subnets, start=0):
    trials = [
        Trial(number=start + i, subnet=subnet, score=score(space, subnet))
        for i, subnet in enumerate(subnets)
    ]
    searcher.tell(trials)


def run(searcher, space, chunk=1, limit=10**6):
    """Return the proposals of a search in order, as tuples of names."""
    seen = []
    while len(seen) < limit:
        subnets = searcher.ask(min(chunk, limit - len(seen)))
        if not subnets:
            break
        told(searcher, space, subnets, len(seen))
        seen += [tuple(subnet.choices.values()) for subnet in subnets]
    return seen


class SearcherContract:
    """Inherit and define `make(candidates)`, a searcher of at most 200 trials."""

    def make(self, candidates):
        raise NotImplementedError

    def test_proposals_are_new_and_end(self):
        found = candidates()
        seen = run(self.make(found), found.space)
        assert 10 <= len(seen) <= 729
        assert len(set(seen)) == len(seen)

    def test_never_more_than_asked_for(self):
        found = candidates()
        searcher = self.make(found)
        for count in (1, 3, 7):
            subnets = searcher.ask(count)
            assert 1 <= len(subnets) <= count
            told(searcher, found.space, subnets)

    def test_same_seed_same_search_however_many_are_asked_for(self):
        runs = []
        for chunk in (1, 1, 3, 50):
            found = candidates(seed=3)
            runs.append(run(self.make(found), found.space, chunk))
        assert all(other == runs[0] for other in runs)

    def test_proposals_meet_the_constraint(self):
        found = candidates(constraint={"macs": [40, 50]})
        seen = run(self.make(found), found.space)
        points = np.array([["abc".index(name) for name in names] for names in seen])
        macs = found.table.many(points)["macs"]
        assert len(seen) >= 10
        assert ((macs >= 40) & (macs <= 50)).all()

    def test_only_candidate_is_found(self):
        found = candidates(constraint={"macs": 31})  # the least is 10 + 21: all "a"
        assert run(self.make(found), found.space) == [("a",) * PLACES]

    def test_no_candidate_is_a_budget_error_that_names_the_nearest(self):
        space = ChoiceSpace({"p": ("a", "b"), "q": ("a", "b")})
        table = CostTable(space, fixed={"macs": 0}, shares={"macs": [[0, 10], [0, 10]]})
        limits = Constraint.parse({"macs": [11, 19]}, table)  # within the range, and between points

        def search():
            found = Candidates(space=space, table=table, constraint=limits)
            return self.make(found).ask(1)

        with pytest.raises(BudgetError, match=r"no candidate meets macs in 11 to 19; the nearest"):
            search()

    @pytest.mark.parametrize("stop", [1, 13, 40])
    def test_state_goes_through_json_and_continues(self, stop):
        found = candidates(seed=5)
        whole = run(self.make(found), found.space)
        first = candidates(seed=5)
        searcher = self.make(first)
        head = run(searcher, first.space, limit=stop)
        state = json.loads(json.dumps(searcher.state_dict()))
        second = candidates(seed=99)
        other = self.make(second)
        other.load_state_dict(state)
        tail = []
        while subnets := other.ask(1):
            told(other, second.space, subnets, stop + len(tail))
            tail += [tuple(subnet.choices.values()) for subnet in subnets]
        assert head + tail == whole

    def test_failed_candidates_do_no_harm(self):
        found = candidates()
        searcher = self.make(found)
        count = 0
        while subnets := searcher.ask(5):
            searcher.tell([Trial(number=count, subnet=s, error="no") for s in subnets])
            count += len(subnets)
        assert count >= 10

    def test_settings_are_plain(self):
        settings = self.make(candidates()).settings
        assert json.loads(json.dumps(settings)) == settings
        assert settings["type"]
