"""Architecture search, pruning and distillation for object detectors, on plain PyTorch.

The jobs of the commands are functions here: `razorlite.train("configs/….yaml")`. They are loaded
when first used, so that `import razorlite` costs nothing. `search`, `prune` and `cost` are also
sub-packages; the commands of these names are `run_search`, `run_prune` and `run_cost`, and calling
the sub-package does the same.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from razorlite.core.version import __version__

if TYPE_CHECKING:
    from razorlite.recipes import (
        Inferencer,
        build_model,
        demo,
        export,
        find_lr,
        load,
        load_slim,
        predict,
        test,
        train,
    )
    from razorlite.recipes import cost as run_cost
    from razorlite.recipes import prune as run_prune
    from razorlite.recipes import search as run_search

__all__ = [
    "Inferencer",
    "__version__",
    "build_model",
    "cost",
    "demo",
    "export",
    "find_lr",
    "load",
    "load_slim",
    "predict",
    "prune",
    "recipes",
    "run_cost",
    "run_prune",
    "run_search",
    "search",
    "test",
    "train",
]

_PACKAGES = ("cost", "prune", "recipes", "search")


def __getattr__(name: str) -> Any:
    """Load a sub-package or a command when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'razorlite' has no attribute {name!r}")
    if name in _PACKAGES:
        return import_module(f"razorlite.{name}")
    return getattr(import_module("razorlite.recipes"), name.removeprefix("run_"))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
