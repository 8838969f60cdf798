"""Search for a good point of a space: searchers, and the study that runs them."""

import sys

from razorlite.core.command_package import CommandPackage
from razorlite.search.candidates import Candidates
from razorlite.search.config import SearchConfig, build_study
from razorlite.search.evolution import EvolutionSearcher
from razorlite.search.pareto import pareto_front
from razorlite.search.scoring import SupernetScore
from razorlite.search.searcher import ExhaustiveSearcher, RandomSearcher, Searcher
from razorlite.search.study import Study
from razorlite.search.trial import Trial
from razorlite.search.workers import CandidateError, SearchError

__all__ = [
    "CandidateError",
    "Candidates",
    "EvolutionSearcher",
    "ExhaustiveSearcher",
    "RandomSearcher",
    "SearchConfig",
    "SearchError",
    "Searcher",
    "Study",
    "SupernetScore",
    "Trial",
    "build_study",
    "pareto_front",
]

sys.modules[__name__].__class__ = CommandPackage
