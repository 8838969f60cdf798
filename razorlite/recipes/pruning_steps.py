"""The training steps of `prune.before`."""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from razorlite.core.errors import ConfigError
from razorlite.engine.steps import Step
from razorlite.prune import Channels, Goal, GradualStep, PruneConfig, Pruner
from razorlite.recipes.building import Built
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.steps import Known, build_step, chain


def known_to_steps(settings: PruneConfig, channels: Channels, goal: Callable[[], Goal]) -> Known:
    """Return what a step of `prune.before` may ask for."""
    return {
        "channels": lambda: channels,
        "pruner": lambda: _counting_pruner(settings),
        "goal": goal,
    }


def before_experiment(experiment: Experiment, settings: PruneConfig) -> Experiment:
    """Return the experiment that trains the whole model; without a teacher."""
    assert settings.before is not None
    before = settings.before
    return replace(experiment, train=before.train, step=before.step, distiller=None)


def check_steps(experiment: Experiment, built: Built, channels: Channels) -> None:
    """Refuse steps that cannot train a model before it is pruned.

    Raises:
        ConfigError: as described.
    """
    settings = experiment.prune
    assert settings is not None
    known = known_to_steps(settings, channels, lambda: settings.pruner().goal(channels))
    step = build_step(before_experiment(experiment, settings), built, _no_teacher, None, known)
    if gradual_of(step) is not None and settings.rounds > 1:
        raise ConfigError(
            f"GradualStep comes down to the budget itself; with it rounds want 1, got "
            f"{settings.rounds}",
            key="rounds",
        )


def _counting_pruner(settings: PruneConfig) -> Pruner:
    if settings.tries:
        raise ConfigError(
            f"GradualStep masks channels alone while it trains, got {', '.join(settings.parts)}; "
            "drop the rest in a pruning of its own, before or after",
            key="parts",
        )
    if settings.whole_budget.latency_ms is not None:
        raise ConfigError(
            "GradualStep counts macs and params while it trains and measures nothing; limit these "
            "in the place of latency_ms",
            key="budget",
        )
    for name, measured in {"round_to": "auto", "per": "latency"}.items():
        if getattr(settings, name) == measured:
            raise ConfigError(
                f"GradualStep measures nothing while it trains; give {name} in the place of "
                f"{measured}",
                key=name,
            )
    return settings.pruner()


def gradual_of(step: Step) -> GradualStep | None:
    """Return the step in a chain that decides what is kept."""
    return next((part for part in chain(step) if isinstance(part, GradualStep)), None)


def _no_teacher() -> NoReturn:
    raise ConfigError("a training before pruning takes no teacher", key="before.step")
