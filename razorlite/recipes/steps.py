"""The training step that a configuration describes: steps around one another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

from razorlite.core.config import Partial
from razorlite.core.errors import ConfigError
from razorlite.distill import (
    EMA,
    LARGEST_PATH,
    DistilledStep,
    Distiller,
    ForwardStep,
    Length,
    SyntheticStep,
)
from razorlite.engine.steps import Step, plain_step
from razorlite.recipes.building import Built
from razorlite.recipes.experiment import Experiment
from razorlite.space import PathStep, SinglePathStep

Block = Partial[Step] | Step
Known = Mapping[str, Callable[[], Any]]
_NEEDS = {
    "space": "a supernet: a `mutator` and no `subnet`",
    "costs": "a supernet: a `mutator` and no `subnet`",
    "ends": "a supernet: a `mutator` and no `subnet`",
    "distiller": "a `distiller` block",
    "start_step": "a `distiller` block",
    "synthetic": "distiller.synthetic, or a recipe such as zskt",
    "channels": "a model to prune: list it in prune.before.step",
}


def build_step(
    experiment: Experiment,
    built: Built,
    distiller: Callable[[], Distiller],
    length: Length | None = None,
    more: Known | None = None,
) -> Step:
    """Return the training step of an experiment.

    The `step` block lists steps, the outermost first; each takes by name what its constructor asks
    for: `base_step` (the next one, in the end a plain step), `seed`, `total_steps`, of a supernet
    `space`, `costs` (what paths cost) and `ends` (the largest and the smallest path), of a
    `distiller` block the `distiller`, `start_step`, `stop_step`, `warmup_steps`, `cooldown_steps`,
    `task_weight` and `synthetic`.
    Without the block, a `mutator` stands for `SinglePathStep`, and a `distiller` for a
    `DistilledStep` around it; where its images are synthetic, for a `SyntheticStep` around that.

    Args:
        experiment: the configuration.
        built: the model.
        distiller: builds what the `distiller` block describes.
        length: optimiser steps of the whole run and of an epoch, as far as they are known.
        more: what else steps may ask for, such as pruning's `channels`.

    Raises:
        ConfigError: the steps do not go together, or not with the model.
    """
    known = {**_known(experiment, built, distiller, length or Length()), **(more or {})}
    blocks = _blocks(experiment, built)
    if experiment.distiller is not None:
        _check_taken(blocks)
    step: Step = ForwardStep() if experiment.without_data else plain_step
    for number, block in reversed(list(enumerate(blocks))):
        last = number == len(blocks) - 1
        step = _around(step, block, known, last, f"step.{number}" if len(blocks) > 1 else "step")
    _check_paths(list(chain(step)), built.is_supernet)
    _check_own_losses(list(chain(step)))
    teacher = experiment.distiller.teacher if experiment.distiller is not None else None
    if teacher == LARGEST_PATH:
        _check_in_place(list(chain(step)))
    if teacher == EMA and built.is_supernet:
        raise ConfigError(
            f"{EMA} averages all of a supernet, of which each step trains one path; name "
            f"{LARGEST_PATH}, or train a subnet",
            key="distiller.teacher",
        )
    return step


def chain(step: Step) -> Iterator[Step]:
    """Yield a step and the steps inside it, the outermost first."""
    inner: Any = step
    while isinstance(inner, Step):
        yield inner
        inner = vars(inner).get("base_step")


def _blocks(experiment: Experiment, built: Built) -> Sequence[Block]:
    if experiment.step is not None:
        return experiment.step if isinstance(experiment.step, list) else [experiment.step]
    kinds: list[tuple[bool, type[Step]]] = [
        (experiment.without_data, SyntheticStep),
        (experiment.distiller is not None, DistilledStep),
        (built.is_supernet, SinglePathStep),
    ]
    return [Partial(kind) for expected, kind in kinds if expected]


def _known(
    experiment: Experiment,
    built: Built,
    distiller: Callable[[], Distiller],
    length: Length,
) -> Known:
    """Return what steps may ask for by name; made when it is asked for."""
    known: dict[str, Callable[[], Any]] = {
        "seed": lambda: experiment.seed,
        "total_steps": lambda: length.total,
    }
    space = built.space
    if space is not None and built.is_supernet:
        costs = partial(built.costs, experiment.shape)
        ends = cache(lambda: (costs().largest(), costs().smallest()))
        known |= {"space": lambda: space, "costs": costs, "ends": ends}
    settings = experiment.distiller
    if settings is not None:
        known |= {n: partial(lambda s: s, s) for n, s in settings.steps(length).items()}
        known["distiller"] = cache(distiller)
        known["task_weight"] = lambda: 0.0 if settings.synthetic else settings.task_weight
        if settings.synthetic is not None:
            known["synthetic"] = lambda: settings.synthetic
    return known


def _around(step: Step, block: Block, known: Known, last: bool, key: str) -> Step:
    """Build a block around a step.

    Raises:
        ConfigError: it lacks something, or is no wrapping one and not the last.
    """
    left = _left(block)
    if "base_step" not in left and not last:
        raise ConfigError(f"{_name(block)} has no step inside; put it last", key=key)
    if not isinstance(block, Partial):  # built already
        return block
    known = {**known, "base_step": lambda: step}
    for name, required in left.items():
        if required and name not in known:
            raise ConfigError(f"{block.type} needs {_NEEDS.get(name, repr(name))}", key=key)
    return block(**{name: known[name]() for name in left if name in known})


def _left(block: Block) -> dict[str, bool]:
    return block.left() if isinstance(block, Partial) else {}


def _name(block: Block) -> str:
    return block.type if isinstance(block, Partial) else type(block).__name__


def _check_taken(blocks: Sequence[Block]) -> None:
    """Refuse a distiller that no step uses, or that several do.

    Raises:
        ConfigError: as described.
    """
    users = [_name(block) for block in blocks if "distiller" in _left(block)]
    if not users:
        raise ConfigError(
            "no step uses the `distiller` block; add {type: DistilledStep} in front", key="step"
        )
    if len(users) > 1:
        raise ConfigError(f"{' and '.join(users)} both use the distiller; keep one", key="step")


def _check_paths(steps: Sequence[Step], is_supernet: bool) -> None:
    """Refuse a supernet whose paths nothing chooses, or several steps do.

    Raises:
        ConfigError: as described.
    """
    choosing = [type(step).__name__ for step in steps if isinstance(step, PathStep)]
    if is_supernet and not choosing:
        raise ConfigError(
            "the model is a supernet, but no step chooses a path; add {type: SinglePathStep} or "
            "{type: SandwichStep}, or name a `subnet`",
            key="step",
        )
    if len(choosing) > 1:
        raise ConfigError(f"{' and '.join(choosing)} both choose paths; keep one", key="step")


def _check_own_losses(steps: Sequence[Step]) -> None:
    """Refuse to learn from the teacher alone around a step with losses of its own.

    Raises:
        ConfigError: as described.
    """
    alone = [i for i, s in enumerate(steps) if isinstance(s, DistilledStep) and not s.task_weight]
    dropped = [step for step in steps[alone[0] :] if step.adds_losses] if alone else []
    if dropped:
        raise ConfigError(
            f"0 would leave out what {type(dropped[0]).__name__} adds to the losses; take a weight "
            f"above 0, such as 0.1",
            key="distiller.task_weight",
        )


def _check_in_place(steps: Sequence[Step]) -> None:
    """Refuse a largest path that has no others to teach.

    Raises:
        ConfigError: no step inside the distilled one trains several paths.
    """
    kinds = [type(step) for step in steps]
    inside = kinds[kinds.index(DistilledStep) + 1 :] if DistilledStep in kinds else kinds
    if not any(issubclass(kind, PathStep) and kind.largest_first for kind in inside):
        raise ConfigError(
            "the largest path teaches the others of a step: list {type: DistilledStep} and, "
            "inside it, {type: SandwichStep} in `step`, or name another teacher",
            key="distiller.teacher",
        )
