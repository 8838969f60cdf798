"""Rules that users teach: what a layer or function of their own does to channels."""

from collections.abc import Callable
from typing import Any

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.trace.calls import Call, Rule

_TAUGHT: dict[Any, Rule] = {}


def rule(*kinds: Any) -> Callable[[Rule], Rule]:
    """Teach what a class of layers, or a function of torch's, does to channels.

    The decorated function gets the `Call` and the `Ledger` and returns a label map in the place of
    each tensor that the call gives: most often what `pointwise` or `spatial` returns. Layers of
    the class are then not looked into; their own tensors are cut if they have one number per
    channel, under the names of torch's norms, and the rule is `per_channel`. Slim models are
    compared with whole ones as always, so a rule that is wrong is found out.

    Args:
        kinds: subclasses of `nn.Module`, or functions such as `torch.frac`.

    Raises:
        ConfigError: something else is given.
    """
    for kind in kinds:
        layer = isinstance(kind, type) and issubclass(kind, nn.Module)
        if not layer and (isinstance(kind, type | str) or not callable(kind)):
            raise ConfigError(f"rule takes classes of nn.Module or functions, got {kind!r}")

    def teach(taught: Rule) -> Rule:
        _TAUGHT.update(dict.fromkeys(kinds, taught))
        return taught

    return teach


def taught_rule(call: Call) -> Rule | None:
    """Return the rule that was taught for a call, if one was."""
    if call.module is None:
        return _TAUGHT.get(call.run)
    return None if call.altered or call.as_function else _TAUGHT.get(type(call.module))


def is_taught(module: nn.Module) -> bool:
    """Return whether there is a rule for the class of a module."""
    return type(module) in _TAUGHT
