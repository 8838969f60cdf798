"""Architecture search, pruning and distillation for object detectors, on plain PyTorch.

The jobs of the commands are functions here: `razorlite.train("configs/….yaml")`. They are loaded
when first used, so that `import razorlite` costs nothing. `search`, `prune` and `cost` are also
the names of sub-packages; these modules can be called. What they take is told by
`help(razorlite.recipes.search)`, and so on.
"""

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from razorlite.recipes import (
        Inferencer,
        build_model,
        demo,
        export,
        load,
        predict,
        test,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "Inferencer",
    "__version__",
    "build_model",
    "cost",
    "demo",
    "export",
    "load",
    "predict",
    "prune",
    "recipes",
    "search",
    "test",
    "train",
]

_PACKAGES = ("cost", "prune", "search")  # that can be called


class _CommandPackage(ModuleType):
    """A sub-package that can be called as the command of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._command(*args, **kwargs)

    @property
    def _command(self) -> Any:
        return getattr(import_module("razorlite.recipes"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Signature:
        return signature(self._command)


class _Package(ModuleType):
    """This package: loads a command when asked for it, and makes three sub-packages callable."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'razorlite' has no attribute {name!r}")
        if name in (*_PACKAGES, "recipes"):
            return import_module(f"razorlite.{name}")
        return getattr(import_module("razorlite.recipes"), name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PACKAGES and isinstance(value, ModuleType):
            value.__class__ = _CommandPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
