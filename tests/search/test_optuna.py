"""Optuna's samplers pass the suite that every searcher passes."""

import sys

import pytest

from razorlite.core.errors import ConfigError
from razorlite.search import OptunaSearcher
from tests.search.contract import SearcherContract, candidates

pytest.importorskip("optuna", reason="Optuna is not installed")


@pytest.mark.slow
class TestOptuna(SearcherContract):
    def make(self, candidates):
        return OptunaSearcher(candidates=candidates, max_trials=20, batch_size=5)


@pytest.mark.slow
class TestOptunaNSGA2(SearcherContract):
    def make(self, candidates):
        return OptunaSearcher(candidates=candidates, max_trials=20, batch_size=10, sampler="nsga2")


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'razorlite.optuna.'"):
        OptunaSearcher(candidates=candidates())
