"""What each command does, as functions: train, test, search, prune, cost, demo."""

from razorlite.recipes.building import build_model
from razorlite.recipes.demonstration import demo
from razorlite.recipes.experiment import load_config
from razorlite.recipes.measuring import cost, test
from razorlite.recipes.pruning import prune
from razorlite.recipes.searching import search
from razorlite.recipes.training import train

__all__ = ["build_model", "cost", "demo", "load_config", "prune", "search", "test", "train"]
