"""Search for a good point of a space: searchers, and the study that runs them."""

import sys

from razorlite.core.command_package import CommandPackage
from razorlite.search import spaces as spaces
from razorlite.search.ageing import AgeingEvolutionSearcher
from razorlite.search.candidates import Candidates
from razorlite.search.config import RetrainingConfig, SearchConfig, build_study
from razorlite.search.continued import ContinuedSearcher, continued
from razorlite.search.elastic import Elastic, ElasticConfig, ElasticResult
from razorlite.search.evolution import EvolutionSearcher
from razorlite.search.feasible import Feasible
from razorlite.search.fixed import FixedSearcher
from razorlite.search.history import HistorySearcher
from razorlite.search.local import LocalSearcher
from razorlite.search.nsga import NSGA2Searcher
from razorlite.search.objectives import Objectives
from razorlite.search.optuna_searcher import OptunaSearcher
from razorlite.search.pareto import pareto_front
from razorlite.search.predictor import PredictorSearcher
from razorlite.search.ranking import RankCorrelation
from razorlite.search.ray_workers import RayWorkers, ray_cluster
from razorlite.search.remembered import RememberingWorkers
from razorlite.search.scoring import SupernetScore
from razorlite.search.searcher import ExhaustiveSearcher, RandomSearcher, Searcher
from razorlite.search.seen import Seen
from razorlite.search.slimming import GreedySlimming
from razorlite.search.study import Study
from razorlite.search.trial import Trial
from razorlite.search.workers import (
    Attempt,
    CandidateError,
    Outcome,
    ProcessWorkers,
    SearchError,
    Workers,
)

__all__ = [
    "AgeingEvolutionSearcher",
    "Attempt",
    "CandidateError",
    "Candidates",
    "ContinuedSearcher",
    "Elastic",
    "ElasticConfig",
    "ElasticResult",
    "EvolutionSearcher",
    "ExhaustiveSearcher",
    "Feasible",
    "FixedSearcher",
    "GreedySlimming",
    "HistorySearcher",
    "LocalSearcher",
    "NSGA2Searcher",
    "Objectives",
    "OptunaSearcher",
    "Outcome",
    "PredictorSearcher",
    "ProcessWorkers",
    "RandomSearcher",
    "RankCorrelation",
    "RayWorkers",
    "RememberingWorkers",
    "RetrainingConfig",
    "SearchConfig",
    "SearchError",
    "Searcher",
    "Seen",
    "Study",
    "SupernetScore",
    "Trial",
    "Workers",
    "build_study",
    "continued",
    "pareto_front",
    "ray_cluster",
]

sys.modules[__name__].__class__ = CommandPackage
