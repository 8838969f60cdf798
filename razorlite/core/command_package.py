"""Sub-packages with the name of a command: they can be called like it."""

import sys
from inspect import Signature, signature
from types import ModuleType
from typing import Any


class CommandPackage(ModuleType):
    """A sub-package of razorlite that runs the command of its name when it is called.

    `razorlite.search(…)` is `razorlite.run_search(…)`, and `razorlite.search.Study` a class. A
    package becomes one by `sys.modules[__name__].__class__ = CommandPackage`, as Python's data
    model provides for modules.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command."""
        return self._command(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        return signature(self._command)

    @property
    def _command(self) -> Any:
        face, _, name = self.__name__.rpartition(".")
        return getattr(sys.modules[face], f"run_{name}")
