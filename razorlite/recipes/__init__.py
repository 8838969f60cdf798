"""What each command does, as functions: train, test, search, prune, cost, predict, export, demo."""

from razorlite.recipes.analysing import analyze_predictions
from razorlite.recipes.beginning import init
from razorlite.recipes.benchmarking import benchmark
from razorlite.recipes.building import build_model
from razorlite.recipes.checking import check_config
from razorlite.recipes.configs import cat_config, show_config, show_types
from razorlite.recipes.datasets import check_data, convert_data, data_stats, split_data
from razorlite.recipes.demonstration import demo
from razorlite.recipes.experiment import load_config
from razorlite.recipes.exporting import export
from razorlite.recipes.loading import Inferencer, load
from razorlite.recipes.looking import analyze, browse
from razorlite.recipes.measuring import cost, test
from razorlite.recipes.openmmlab import convert_config
from razorlite.recipes.predicting import predict
from razorlite.recipes.pruning import prune, show_groups
from razorlite.recipes.rate_finding import find_lr
from razorlite.recipes.searching import search
from razorlite.recipes.sensitivity import sensitivity
from razorlite.recipes.slim_models import load_slim
from razorlite.recipes.training import train

__all__ = [
    "Inferencer",
    "analyze",
    "analyze_predictions",
    "benchmark",
    "browse",
    "build_model",
    "cat_config",
    "check_config",
    "check_data",
    "convert_config",
    "convert_data",
    "cost",
    "data_stats",
    "demo",
    "export",
    "find_lr",
    "init",
    "load",
    "load_config",
    "load_slim",
    "predict",
    "prune",
    "search",
    "sensitivity",
    "show_config",
    "show_groups",
    "show_types",
    "split_data",
    "test",
    "train",
]
