"""The training step of an experiment on shapes alone, to find what does not go together."""

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.config import Config, Factory, LocatedConfigError
from razorlite.core.errors import ConfigError
from razorlite.distill import (
    EMA,
    DistilledStep,
    Distiller,
    Length,
    PairTerm,
    Scene,
    Side,
    SyntheticStep,
    TeacherConfig,
    Teachers,
    Term,
)
from razorlite.engine.steps import Step
from razorlite.recipes.building import Built, build, untrained
from razorlite.recipes.experiment import Experiment, read
from razorlite.recipes.steps import build_step, chain
from razorlite.recipes.tasks import task_of
from razorlite.structures import Batch, example_inputs

_KNOWN = {"classification": "labels", "detection": "boxes"}


def plain_build(config: Config, overrides: dict[str, Any]) -> Callable[[], Built]:
    """Return what builds a configuration's model without fetching pretrained weights."""
    fetched = {f"model.{key}": None for key in keys_of(config.tree.get("model"), "pretrained")}
    changed = core_config.load(config, {**fetched, **overrides})
    experiment = core_config.build(changed, Experiment)
    return lambda: build(experiment)


def keys_of(tree: Any, name: str, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys of a name in nested dicts."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        here = f"{path}.{key}" if path else key
        if key == name and value is not None:
            yield here
        yield from keys_of(value, name, here)


def dry_step(experiment: Experiment, built: Built) -> Step:
    """Return an experiment's training step, its teacher without values.

    Args:
        experiment: the configuration.
        built: the model, on shapes or not.

    Raises:
        ConfigError: the steps do not go together, or not with the model.
    """
    with torch.device("meta"):
        distiller = partial(_distiller, experiment, built.model)
        length = _length(experiment)
        if experiment.distiller is not None:
            experiment.distiller.weighting(length)  # whose messages name the unit
        return build_step(experiment, built, distiller, length)


def _length(experiment: Experiment) -> Length:
    """Return how long the training is, in epochs where these have no known number of steps."""
    train = experiment.train
    if train is None or train.max_epochs is None:
        return Length(None if train is None else train.max_steps)
    return Length(train.max_epochs, 1, "epochs")


def compare_once(step: Step, built: Built, shape: tuple[int, int]) -> None:
    """Let the distillers of a step compare a student, in all its forms, with its teacher.

    Terms of one's own compare what their `rehearse` does, as they may need targets; what they
    record must be there.

    Args:
        step: what `dry_step` returned.
        built: the student; is in evaluation mode afterwards.
        shape: (height, width) in pixels of the images.

    Raises:
        ConfigError: the two sides do not fit.
    """
    student = built.model
    batch = Batch(example_inputs(student, shape, count=2, device="meta"))
    for part in chain(step):
        if isinstance(part, SyntheticStep):
            part.rehearse(student)
    for distiller in [part.distiller for part in chain(step) if isinstance(part, DistilledStep)]:
        teacher = distiller.teach(batch)
        with distiller.recorder(student) as recorder, closing(_forms(built)) as forms:
            student.eval()
            for number in forms:
                student(batch.inputs)
                teacher = teacher or Side(student, recorder.kept())
                _compare(distiller, Scene(batch, Side(student, recorder), teacher), number)
                recorder.clear()


def teaches_nothing(experiment: Experiment) -> bool:
    """Return whether a run ends before its distillation starts, as far as that can be told."""
    settings = experiment.distiller
    return settings is not None and settings.weighting(_length(experiment)).is_idle


def _forms(built: Built) -> Generator[int, None, None]:
    """Yield 0 for the present form, then set a supernet to others, with every value in one."""
    yield 0
    if built.space is not None and built.is_supernet:
        with built.space.kept_path():
            for number, point in enumerate(built.space.covering(), 1):
                built.space.select(built.space.decode(point))
                yield number


def _compare(distiller: Distiller, scene: Scene, number: int) -> None:
    """Compare shapes by all terms.

    Raises:
        ConfigError: the two sides do not fit, at all or in a form with a number above 0.
    """
    try:
        for term in distiller.terms:
            if isinstance(term, PairTerm):
                _check_needs(term, scene.student.model)
            assert isinstance(term, Term)
            term.rehearse(scene)
    except ConfigError as error:
        if not number:
            raise
        raise ConfigError(
            f"{str(error).rpartition('; ')[0]} in some of the supernet's forms; compare what is "
            f"there and alike in all, or let its channels stay (by ChannelWidths.ignore)"
        ) from error


def _check_needs(term: PairTerm, student: nn.Module) -> None:
    """Refuse a loss that needs labels of images where there are boxes, or the reverse.

    Raises:
        ConfigError: as described.
    """
    task = task_of(student)
    if task is not None and term.loss.needs not in ("", _KNOWN[task]):
        raise ConfigError(
            f"{term.pair}: {type(term.loss).__name__} needs the images' {term.loss.needs}, but "
            f"{task} has their {_KNOWN[task]}; take a loss that needs neither, such as PKD"
        )


def _distiller(experiment: Experiment, student: nn.Module) -> Distiller:
    settings = experiment.distiller
    assert settings is not None
    teacher: nn.Module | None = copy.deepcopy(student) if settings.teacher == EMA else None
    if isinstance(settings.teacher, TeacherConfig):
        teacher = teacher_without_values(settings.teacher)
    elif settings.teachers:
        known = settings.teachers.items()
        teacher = Teachers({n: teacher_without_values(s, f"teachers.{n}") for n, s in known})
    try:
        return Distiller(teacher=teacher, pairs=settings.pairs, terms=settings.terms)
    except LocatedConfigError:
        raise
    except ConfigError as error:
        raise ConfigError(str(error), key="distiller") from error


def teacher_without_values(settings: TeacherConfig, key: str = "teacher") -> nn.Module:
    """Return a teacher as its block describes it, without its weights.

    Args:
        settings: the block.
        key: where it stands in the `distiller` block.

    Raises:
        ConfigError: it cannot be built, or is a supernet.
    """
    if settings.model is not None:
        model: nn.Module = Factory(settings.model.type, untrained(settings.model.kwargs))()
        return model
    assert settings.config is not None
    theirs, _ = read(settings.config)
    path = settings.subnet
    built = plain_build(theirs, {} if path is None else {"subnet": path})()
    if built.is_supernet:
        raise ConfigError(
            "is a supernet; name a path of it by `subnet`", key=f"distiller.{key}.config"
        )
    return built.model
