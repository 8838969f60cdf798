"""Rank correlation with its interval over draws of the candidates."""

import pytest

from razorlite.search import RankCorrelation


def test_tau_and_its_interval():
    found = RankCorrelation.of([1, 2, 3, 4], [1, 2, 4, 3])
    assert found.tau == pytest.approx(4 / 6)
    assert found.low < found.tau <= found.high
    assert str(found).startswith("0.67 (95 % of draws of the subnets ")
    same = RankCorrelation.of(range(6), range(6))
    assert (same.tau, same.low, same.high, same.count) == (1, 1, 1, 6)


def test_without_an_order_there_is_none():
    found = RankCorrelation.of([1, 1, 1], [1, 2, 3])
    assert (found.tau, found.low, found.high) == (None, None, None)
    assert str(found) == "not known (of 3 subnets)"
