"""The teacher of a distillation: its weights, its preprocessing, its classes."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess, Renormalise
from razorlite.data.relabelling import name_list
from razorlite.distill import (
    EMA,
    Distiller,
    LessonCache,
    PairTerm,
    Tap,
    TeacherConfig,
    Teachers,
    Term,
)
from razorlite.engine.ema import EmaConfig
from razorlite.models.heads.class_head import class_counts
from razorlite.recipes.building import Built, build, load_into, load_trained
from razorlite.recipes.card import ModelCard, read_card, read_with_card
from razorlite.recipes.experiment import Experiment, read


@dataclass(frozen=True)
class Teacher:
    """A built teacher, and what is known of it.

    Attributes:
        model: with its weights.
        classes: names of its labels; None where they are not known.
        preprocess: what its images go through; None where that is not known.
    """

    model: nn.Module
    classes: tuple[str, ...] | None
    preprocess: Preprocess | None


def build_distiller(
    experiment: Experiment,
    student: nn.Module,
    classes: Sequence[str],
    device: torch.device,
    images: int | None = None,
) -> Distiller:
    """Return the teacher that an experiment names, with its weights, and what is compared.

    The teacher sees images as it was trained on them: its configuration, its checkpoint or
    `distiller.teacher.preprocess` says how. Class maps are compared only where both sides have the
    same classes in the same order, as far as that is known.

    Args:
        experiment: the student's configuration, with a `distiller` block.
        student: what learns.
        classes: names of the student's labels.
        device: where both run.
        images: of the training, for what is kept of each.

    Raises:
        ConfigError: student and teacher do not fit, or the teacher's configuration does not fit
            its checkpoint.
        CheckpointError: the teacher's checkpoint cannot be read or is of another model.
    """
    settings = experiment.distiller
    assert settings is not None
    parts: dict[str, Any] = {"pairs": settings.pairs, "terms": settings.terms}
    parts["seed"] = experiment.seed
    if settings.teacher == EMA:
        own_average = copy.deepcopy(student)
        return Distiller(teacher=own_average, ema=settings.ema or EmaConfig(), **parts).to(device)
    known = settings.teachers if settings.teacher is None else {"": settings.teacher}
    blocks = {name: block for name, block in known.items() if isinstance(block, TeacherConfig)}
    if not blocks:
        return Distiller(teacher=None, **parts).to(device)
    if settings.cache is not None:
        parts["cache"] = LessonCache(settings.cache, images)
    teachers = {name: _teacher(block) for name, block in blocks.items()}
    models = {n: experiment.compute(device).place(t.model) for n, t in teachers.items()}
    own = experiment.data.preprocess if experiment.data else None
    views = {n: _view(own, t.preprocess, device) for n, t in teachers.items()}
    if experiment.without_data and views[""] is not None:
        raise ConfigError(
            f"distiller.synthetic makes images as the teacher sees them, with "
            f"{teachers[''].preprocess}, and the student's are to have {own}; give `data` the same"
        )
    if "" in models:
        own_precision = blocks[""].precision
        distiller = Distiller(
            teacher=models[""], prepare=views[""], precision=own_precision, **parts
        )
    else:
        seen = {name: view for name, view in views.items() if view is not None}
        precisions = {n: b.precision for n, b in blocks.items() if b.precision is not None}
        distiller = Distiller(teacher=Teachers(models, seen, precisions), **parts)
    for name, teacher in teachers.items():
        if teacher.classes is not None and teacher.classes != tuple(classes):
            _refuse_class_maps(distiller, student, name, classes, teacher.classes)
    return distiller.to(device)


def taught_classes(experiment: Experiment) -> tuple[str, ...] | None:
    """Return the classes of a student without data: its teacher's, as far as they are known.

    Raises:
        ConfigError: the teacher's configuration does not fit its checkpoint.
        CheckpointError: the teacher's checkpoint cannot be read.
    """
    if not experiment.without_data:
        return None
    assert experiment.distiller is not None
    settings = experiment.distiller.teacher
    assert isinstance(settings, TeacherConfig)
    card = ModelCard() if settings.checkpoint is None else read_card(settings.checkpoint)
    return card.classes if settings.config is None else _names(card, read(settings.config)[1])


def _teacher(settings: TeacherConfig) -> Teacher:
    if settings.config is None:
        return _module(settings)
    _, theirs = read(settings.config)
    built = _built(settings, theirs)
    assert settings.checkpoint is not None
    try:
        card = load_trained(built, settings.checkpoint, theirs)
        names = _names(card, theirs)
    except ConfigError as error:
        raise ConfigError(f"distiller.teacher.config {settings.config}: {error}") from error
    other = theirs.data.preprocess if theirs.data else card.preprocess
    return Teacher(built.model, names, other)


def _module(settings: TeacherConfig) -> Teacher:
    """Return a teacher that is a module of any kind."""
    assert settings.model is not None
    built, card = Built(settings.model()), ModelCard()
    if settings.checkpoint is not None:
        content, card = read_with_card(settings.checkpoint)
        advice = "name weights of distiller.teacher.model"
        load_into(built, settings.checkpoint, advice=advice, content=content)
    return Teacher(built.model, card.classes, settings.preprocess or card.preprocess)


def _built(settings: TeacherConfig, theirs: Experiment) -> Built:
    built = build(theirs, settings.subnet)
    if built.is_supernet:
        raise ConfigError(
            f"distiller.teacher.config {settings.config} is a supernet; name a path of it by "
            f"distiller.teacher.subnet"
        )
    return built


def _names(card: ModelCard, theirs: Experiment) -> tuple[str, ...] | None:
    """Return the teacher's classes: as its checkpoint says, else as its configuration spells out.

    Raises:
        ConfigError: both do, and differ.
    """
    train = theirs.data.train if theirs.data else None
    spelt = [] if train is None else list(_spelt(getattr(train.dataset, "kwargs", {})))
    if card.classes is None:
        return spelt[0] if spelt else None
    for names in spelt:
        if names != card.classes:
            raise ConfigError(
                f"data.train lists the classes {name_list(names)}, but the checkpoint was trained "
                f"for {name_list(card.classes)}; name the configuration it was trained with"
            )
    return card.classes


def _spelt(block: Any) -> Iterator[tuple[str, ...]]:
    """Yield the lists `classes` of a data set's block and of those nested in it."""
    if isinstance(block, Mapping):
        if isinstance(block.get("classes"), Sequence):
            yield tuple(block["classes"])
        for value in block.values():
            yield from _spelt(value)
    elif isinstance(block, list | tuple):
        for value in block:
            yield from _spelt(value)


def _refuse_class_maps(
    distiller: Distiller,
    student: nn.Module,
    name: str,
    ours: Sequence[str],
    theirs: Sequence[str],
) -> None:
    """Refuse to compare what heads say of classes that are not the same; features may be.

    Args:
        distiller: what is compared.
        student: what learns.
        name: of the teacher among several, or empty.
        ours: the student's classes.
        theirs: the teacher's.

    Raises:
        ConfigError: a term compares classes, or a pair lies in a head that tells them apart.
    """
    for term, title in zip(distiller.parts, distiller.names, strict=True):
        taps = [tap for tap in term.teacher_taps if not name or tap.startswith(f"{name}.")]
        if taps and _compares_classes(term, student, distiller.teacher):
            what = str(term.pair) if isinstance(term, PairTerm) else f"distiller term {title!r}"
            raise ConfigError(
                f"{what} compares class maps, but the student's classes are {name_list(ours)} and "
                f"the teacher's {name_list(theirs)}; list the teacher's by "
                f"data.train.dataset.classes, or compare features such as the neck"
            )


def _compares_classes(term: Term, student: nn.Module, teacher: nn.Module | None) -> bool:
    if term.compares_classes or not isinstance(term, PairTerm):
        return term.compares_classes
    sides = ((term.pair.student, student), (term.pair.teacher_name, teacher))
    return any(_tells_classes(place, model) for place, model in sides if model is not None)


def _tells_classes(name: str, model: nn.Module) -> bool:
    """Return whether a recorded place lies in a head that tells classes apart, or holds one."""
    tap, heads = Tap.parse(name), list(class_counts(model))
    if tap.side == "input" and not tap.method:
        return False
    return any(_overlap(part, head) for part in tap.find(model) for head in heads)


def _overlap(part: str, head: str) -> bool:
    """Return whether a module lies in a head, or has it inside, by their names."""
    return not part or f"{part}.".startswith(f"{head}.") or head.startswith(f"{part}.")


def _view(
    own: Preprocess | None, other: Preprocess | None, device: torch.device
) -> Renormalise | None:
    """Return what turns the student's images into the teacher's; None where they are the same.

    Raises:
        ConfigError: the student's images are not padded as the teacher needs them.
    """
    if own is None or other is None:
        return None
    if own.pad_multiple % other.pad_multiple:
        raise ConfigError(
            f"distiller.teacher wants images padded to multiples of {other.pad_multiple} pixels, "
            f"the student's are padded to multiples of {own.pad_multiple}; set "
            f"data.pad_multiple={other.pad_multiple}"
        )
    return None if own.same_pixels(other) else Renormalise(own, other, device)
