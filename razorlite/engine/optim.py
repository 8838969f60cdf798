"""Optimisers by name, parameter groups by name patterns, and work on active parameters only."""

import fnmatch
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.config import annotate
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.ranges import NonNegative, Share, ShareBelowOne, checked
from razorlite.core.registry import register, suggestion
from razorlite.core.tensor_files import first_line
from razorlite.engine.steps import Step

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []),
)

# LBFGS wants a closure that runs the model several times a step; the runner gives it none.
OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    if kind is not torch.optim.Optimizer and name != "LBFGS"
}
_RULES: dict[str, Any] = {
    "lr": NonNegative,
    "momentum": ShareBelowOne,
    "weight_decay": NonNegative,
    "betas": tuple[ShareBelowOne, ShareBelowOne],
    "alpha": ShareBelowOne,
    "rho": Share,
    "lr_decay": NonNegative,
}
for _name, _kind in OPTIMIZERS.items():
    register(_name)(_kind)
    annotate(_kind, {n: _RULES[n] for n in inspect.signature(_kind).parameters if n in _RULES})


@checked
@dataclass(frozen=True, kw_only=True)
class ParamRule:
    """What a name pattern changes.

    Attributes:
        lr_mult: multiplies the learning rate.
        decay_mult: multiplies the weight decay, in place of the norms' and biases' own.
    """

    lr_mult: NonNegative = 1.0
    decay_mult: NonNegative | None = None


@checked
@dataclass(frozen=True, kw_only=True)
class ParamOptions:
    """Learning rates and weight decay that differ between parameters.

    Attributes:
        patterns: rule by pattern. A pattern is a parameter's name, the name of a module that
            holds it ("backbone.stem"), a glob ("*.conv1.*"), or a regular expression after "re:".
            Where several match, the longest counts. Parameters of a step start with "step.".
        norm_decay_mult: multiplies the weight decay of normalisation layers.
        bias_decay_mult: multiplies the weight decay of other biases.
    """

    patterns: dict[str, ParamRule] = field(default_factory=dict)
    norm_decay_mult: NonNegative = 0.0
    bias_decay_mult: NonNegative = 0.0


def build_optimizer(
    make: Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    *,
    options: ParamOptions | None = None,
    extra: Mapping[str, nn.Parameter] | None = None,
) -> torch.optim.Optimizer:
    """Build an optimiser over the trainable parameters of a model.

    Args:
        make: called with the parameter groups, e.g. a `Partial[torch.optim.Optimizer]`.
        model: whose parameters to train.
        options: multipliers by name pattern.
        extra: further parameters by name.

    Raises:
        ConfigError: a pattern matches nothing, or there is nothing to train.
    """
    groups = build_param_groups(model, options or ParamOptions(), extra=extra)
    optimizer = make(groups)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"] = group["lr"] * group["lr_mult"]
        if "weight_decay" in group:
            group["weight_decay"] *= group["decay_mult"]
    return optimizer


def check_step(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Take a step with a single weight: some settings are refused by the first step only.

    Raises:
        ConfigError: the optimiser cannot take it.
    """
    weight = nn.Parameter(torch.ones(1, device="cpu"))
    weight.grad = torch.ones_like(weight)
    try:
        make([{"params": [weight]}]).step()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"cannot take a step ({first_line(error)}); set it otherwise, or take another",
            key="optimizer",
        ) from error


def build_param_groups(
    model: nn.Module,
    options: ParamOptions,
    *,
    extra: Mapping[str, nn.Parameter] | None = None,
) -> list[dict[str, Any]]:
    """Group trainable parameters by their multipliers.

    Returns:
        Groups with keys `params`, `names`, `lr_mult` and `decay_mult`.

    Raises:
        ConfigError: a pattern matches nothing, or there is nothing to train.
    """
    parameters = {**dict(model.named_parameters()), **(extra or {})}
    rules = _match(options.patterns, parameters)
    norms = _norm_parameters(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            key = _multipliers(name, name in norms, rules.get(name, ParamRule()), options)
            group = groups.setdefault(key, {"params": [], "names": []})
            group["params"].append(parameter)
            group["names"].append(name)
    if not groups:
        raise ConfigError("the model has no parameter to train: all have requires_grad=False")
    return [{**g, "lr_mult": lr, "decay_mult": decay} for (lr, decay), g in groups.items()]


def parameters_of_step(step: Step) -> dict[str, nn.Parameter]:
    """Return what a step trains beside the model, named `step.…`."""
    return {f"step.{name}": parameter for name, parameter in step.named_parameters()}


class ActiveGroups:
    """Shows an optimiser only some of its parameters for a while.

    A supernet's step then costs what its active path costs: nothing walks the other paths.

    Args:
        optimizer: whose groups to thin out; it gets no further groups later.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._groups = optimizer.param_groups
        self._home = {p: i for i, group in enumerate(self._groups) for p in group["params"]}

    @contextmanager
    def only(self, active: Iterable[nn.Parameter]) -> Iterator[None]:
        """Let the optimiser see these parameters alone, for the time of a block."""
        kept = [group["params"] for group in self._groups]
        for group in self._groups:
            group["params"] = []
        for parameter in active:
            self._groups[self._home[parameter]]["params"].append(parameter)
        try:
            yield
        finally:
            for group, params in zip(self._groups, kept, strict=True):
                group["params"] = params


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore per-parameter state by name; learning rates and the like stay as configured.

    Raises:
        CheckpointError: the state is of another optimiser or other parameters.
    """
    saved = [name for group in state["param_groups"] for name in group.get("names", ())]
    here = [name for group in optimizer.param_groups for name in group.get("names", ())]
    if sorted(saved) != sorted(here):
        odd = sorted(set(saved) ^ set(here)) or [f"{len(saved)} against {len(here)} names"]
        raise CheckpointError(
            f"the checkpoint's optimiser trains other parameters ({len(odd)} differ, e.g. "
            f"{odd[0]}); resume with the model and param_options it was trained with"
        )
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    try:
        numbered = _renumber(optimizer, state, saved, here)
        _check_moments(optimizer, numbered["state"])
        optimizer.load_state_dict(numbered)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint's optimiser does not fit {type(optimizer).__name__} ({error}); "
            f"resume with the optimiser it was trained with"
        ) from error
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    _match_layouts(optimizer)


def _match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Let what is kept for each parameter lie in memory as the parameter does.

    Mixed orders would give the same numbers, more slowly.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _renumber(
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    saved: Sequence[str],
    here: Sequence[str],
) -> dict[str, Any]:
    if not here:
        return dict(state)
    number = {name: i for i, name in enumerate(saved)}
    moved = {
        i: state["state"][number[n]] for i, n in enumerate(here) if number[n] in state["state"]
    }
    return {"state": moved, "param_groups": optimizer.state_dict()["param_groups"]}


def _check_moments(optimizer: torch.optim.Optimizer, states: Mapping[int, Any]) -> None:
    """Check what an optimiser has kept for each parameter, by the parameters' order.

    Raises:
        ValueError: it is not of this parameter, or something else than for the other ones.
    """
    places = [(g, p) for g, group in enumerate(optimizer.param_groups) for p in group["params"]]
    names = {frozenset(state) for state in states.values()}
    if len(names) > 1:
        odd = sorted(set.union(*map(set, names)) - set.intersection(*map(set, names)))
        raise ValueError(f"some parameters have {odd[0]!r} and some do not")
    kinds: dict[tuple[int, str], set[str]] = {}
    for index, kept in states.items():
        group, parameter = places[index]
        for name, value in kept.items():
            kinds.setdefault((group, name), set()).add(_moment_kind(name, value, parameter.shape))
    odd = [name for (_, name), found in kinds.items() if len(found - {"any"}) > 1 or "" in found]
    if odd:
        raise ValueError(f"{odd[0]!r} does not fit the parameters")


def _moment_kind(name: str, value: Any, shape: torch.Size) -> str:
    """Return what an optimiser has kept for a parameter; nothing if it cannot be that."""
    if value is None:
        return "none"
    if not isinstance(value, Tensor):
        fits = isinstance(value, int | float) and math.isfinite(value)
        return "number" if fits and (name != "step" or value >= 0) else ""
    if not value.isfinite().all() or (name == "step" and (value < 0).any()):
        return ""
    if value.ndim == 0:
        return "scalar" if shape else "any"
    factored = name.endswith("_var")  # rows and columns of Adafactor
    return "tensor" if value.shape == shape or factored else ""


def _multipliers(
    name: str, is_norm: bool, rule: ParamRule, options: ParamOptions
) -> tuple[float, float]:
    if rule.decay_mult is not None:
        return rule.lr_mult, rule.decay_mult
    if is_norm:
        return rule.lr_mult, options.norm_decay_mult
    is_bias = name.rpartition(".")[2] == "bias"
    return rule.lr_mult, options.bias_decay_mult if is_bias else 1.0


def _norm_parameters(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }


def _match(patterns: Mapping[str, ParamRule], names: Iterable[str]) -> dict[str, ParamRule]:
    """Return the rule of each name that some pattern matches."""
    names = list(names)
    rules: dict[str, ParamRule] = {}
    for pattern in sorted(patterns, key=len):
        matched = _matching(pattern, names)
        if not matched:
            hint = suggestion(pattern, _prefixes(names)) or f"; there are {', '.join(names[:3])}, …"
            raise ConfigError(f"param_options: pattern {pattern!r} matches no parameter{hint}")
        rules.update(dict.fromkeys(matched, patterns[pattern]))
    return rules


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    if not pattern.startswith("re:"):
        head = pattern.rstrip(".") + "."
        return [
            n
            for n in names
            if n == pattern or n.startswith(head) or fnmatch.fnmatchcase(n, pattern)
        ]
    try:
        expression = re.compile(pattern[3:])
    except re.error as error:
        raise ConfigError(
            f"param_options: {pattern!r} is no regular expression ({error})"
        ) from error
    return [name for name in names if expression.search(name)]


def _prefixes(names: Iterable[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    return sorted({".".join(p[:i]) for p in parts for i in range(1, len(p) + 1)})
