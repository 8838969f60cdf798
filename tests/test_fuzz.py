"""The fuzz tools themselves: seeded, and the guard stops what takes too long or too much."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import Overrun, Raw, guarded, mutants_of_bytes, mutants_of_tree, to_json

TREE = {"a": [1, 2.5, "x"], "b": {"c": None}}


def test_the_same_seed_gives_the_same_files():
    for mutants, good in ((mutants_of_tree, TREE), (mutants_of_bytes, to_json(TREE))):
        files = [mutant.data for mutant in mutants(good, 50, seed=1)]
        assert files == [mutant.data for mutant in mutants(good, 50, seed=1)]
        assert files != [mutant.data for mutant in mutants(good, 50, seed=2)]
        assert len(set(files)) > 25


def test_the_good_tree_stays_as_it_is():
    before = json.dumps(TREE)
    list(mutants_of_tree(TREE, 50, seed=0))
    assert json.dumps(TREE) == before


def test_raw_text_is_written_as_it_is():
    text = to_json({"x": Raw("1e400"), "y": [math.nan, Raw("[[]]")]})
    assert text == b'{"x": 1e400, "y": [NaN, [[]]]}'


def test_the_guard_stops_what_takes_too_long():
    with pytest.raises(Overrun, match=r"longer than 0\.05 s"), guarded(seconds=0.05):
        sum(1 for _ in itertools.count())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no limit of memory here")
def test_the_guard_stops_what_takes_too_much_and_lets_go_afterwards():
    with pytest.raises(MemoryError), guarded(megabytes=64):
        np.zeros(16 << 30, dtype=np.uint8)  # no hole of freed memory is as large
    assert np.zeros(200 << 20, dtype=np.uint8).size == 200 << 20
