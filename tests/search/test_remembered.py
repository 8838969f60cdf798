"""Workers that know what another search has scored."""

import numpy as np

from razorlite.search import Attempt, Outcome, RememberingWorkers
from tests.search.contract import scored, small_space


class Counting:
    size = 1

    def __init__(self):
        self.asked = []

    def run(self, score, candidates):
        self.asked += list(candidates)
        return {n: Outcome(metrics={"score": 7.0}) for n in candidates}


def test_what_is_known_is_not_scored_again_but_on_the_first_images():
    space, rest = small_space(), Counting()
    points = np.array([[0, 1, 2, 0, 1, 2], [1] * 6])
    trials = scored(space, points)
    trials[0].scores["score"] = trials[0].values[0]
    workers = RememberingWorkers.of(rest, trials[:1])
    candidates = {3: trials[0].subnet, 4: trials[1].subnet}
    attempt = Attempt(lambda _: 0.0, ("score",))
    found = workers.run(attempt, candidates)
    assert {n: o.metrics["score"] for n, o in found.items()} == {3: -4.0, 4: 7.0}
    assert rest.asked == [4]
    workers.run(Attempt(attempt, ("score",), on_first=True), candidates)
    assert rest.asked == [4, 3, 4]
