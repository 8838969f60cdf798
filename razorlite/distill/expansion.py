"""From a recipe and two models to explicit pairs and terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from razorlite.core import config as core_config
from razorlite.core.config import Factory, signature_of
from razorlite.core.errors import ConfigError
from razorlite.core.registry import lookup
from razorlite.distill.config import DistillPair
from razorlite.distill.distiller import Distiller
from razorlite.distill.recipes import Block, Line, recipe_of
from razorlite.distill.roles import (
    Maps,
    class_maps_of,
    dense_head,
    logits_of,
    pyramid_of,
    region_head,
    stages_of,
)
from razorlite.distill.scene import Term
from razorlite.structures import Inputs, example_inputs

_NAMES = {
    "maps": "maps of a neck or backbone",
    "stages": "maps of a classifier's backbone",
    "classes": "class maps of a one-stage head",
    "logits": "logits (N, C) of a classifier",
    "head": "a one-stage head of razorlite",
    "sides": "a one-stage head with distributions of box sides (GFLHead)",
    "regions": "a second stage of razorlite",
}


@dataclass(frozen=True)
class Model:
    """One of the two models, and what of it plays which role.

    Attributes:
        model: student or teacher.
        inputs: what it is run on once, to see the sizes of its maps.
        prefix: of its names among several teachers, "NAME." or empty.
    """

    model: nn.Module
    inputs: Inputs
    prefix: str = ""

    @cached_property
    def maps(self) -> Maps | None:
        """What its head sees."""
        return pyramid_of(self.model, self.inputs)

    @cached_property
    def stages(self) -> Maps | None:
        """What a classifier's backbone gives."""
        return stages_of(self.model, self.inputs)

    @cached_property
    def classes(self) -> Maps | None:
        """What its one-stage head says of classes."""
        return class_maps_of(self.model, self.inputs)

    @cached_property
    def logits(self) -> Maps | None:
        """What it says of classes of whole images."""
        return logits_of(self.model, self.inputs)

    @cached_property
    def head(self) -> str | None:
        """The name of its one-stage head."""
        return dense_head(self.model)

    @cached_property
    def sides(self) -> str | None:
        """The name of its one-stage head, if that gives distributions of box sides."""
        head = None if self.head is None else self.model.get_submodule(self.head)
        return self.head if hasattr(head, "reg_max") else None

    @cached_property
    def regions(self) -> str | None:
        """The name of its second stage."""
        return region_head(self.model)

    def name(self, role: str) -> str:
        """Return the name of what plays a role.

        Raises:
            ConfigError: nothing does.
        """
        found = getattr(self, role)
        if found is None:
            raise ConfigError(f"{type(self.model).__name__} has not {_NAMES[role]}")
        return f"{self.prefix}{found.tap if isinstance(found, Maps) else found}".removesuffix(".")


@dataclass(frozen=True)
class _Match:
    """Maps of both sides that are compared: names, channels, and whether sizes differ."""

    student: str
    teacher: str
    channels: tuple[int, int]
    resize: bool = False


def expand_recipe(name: str, student: Model, teacher: Model) -> dict[str, list[dict[str, Any]]]:
    """Return the `pairs` and `terms` that a recipe comes to for two models, as plain blocks.

    Args:
        name: of the recipe.
        student: what learns.
        teacher: what it learns from.

    Raises:
        ConfigError: there is no such recipe, or the models do not have what it compares.
    """
    blocks: dict[str, list[dict[str, Any]]] = {"pairs": [], "terms": []}
    lines = recipe_of(name).lines
    for line in lines:
        if getattr(student, line.role) is None or getattr(teacher, line.role) is None:
            continue
        try:
            kind, found = _blocks(line, student, teacher)
        except ConfigError as error:
            raise ConfigError(f"recipe {name!r}: {error}") from error
        blocks[kind] += found
    if not any(blocks.values()):
        raise ConfigError(_lacking(name, lines, student, teacher))
    return blocks


def by_recipe(
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    *,
    shape: tuple[int, int],
    teacher_shape: tuple[int, int] | None = None,
    **more: Any,
) -> Distiller:
    """Return a teacher and what a student learns from it by a recipe.

    Args:
        name: of the recipe, see `razorlite.distill.RECIPES`.
        student: any module that is called with images (N, 3, H, W).
        teacher: another one, with its weights; it is frozen.
        shape: (height, width) in pixels of images to try the student on.
        teacher_shape: the same of the teacher, if it wants others.
        more: arguments of `Distiller`, such as `seed` and `prepare`.

    Raises:
        ConfigError: there is no such recipe, or the models do not have what it compares.
    """
    sides = [
        Model(model, example_inputs(model, size))
        for model, size in ((student, shape), (teacher, teacher_shape or shape))
    ]
    blocks = core_config.build(core_config.load(expand_recipe(name, *sides)), _Blocks)
    return Distiller(teacher=teacher, pairs=blocks.pairs, terms=blocks.terms, **more)


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """Pairs and terms as a configuration lists them."""

    pairs: list[DistillPair]
    terms: list[Factory[Term]]


def _blocks(line: Line, student: Model, teacher: Model) -> tuple[str, list[dict[str, Any]]]:
    if line.term is not None:
        return "terms", [_term(line.term, student, teacher)]
    ours, theirs = getattr(student, line.role), getattr(teacher, line.role)
    matches = list(_matches(ours, theirs, teacher.prefix))
    return "pairs", [_pair(line, match) for match in matches]


def _pair(line: Line, match: _Match) -> dict[str, Any]:
    """Return the block of a pair.

    Raises:
        ConfigError: the numbers of channels differ where nothing can bring them together.
    """
    assert line.loss is not None
    ours, theirs = match.channels
    loss = _filled(line.loss, {"student_channels": ours, "teacher_channels": theirs})
    pair: dict[str, Any] = {"student": match.student}
    pair |= {"teacher": match.teacher} if match.teacher != match.student else {}
    pair["loss"] = loss
    needs = getattr(lookup(loss["type"]), "same_channels", True) and "student_channels" not in loss
    if needs and ours != theirs:
        if line.role != "maps":
            raise ConfigError(
                f"{match.student!r} has {ours} channels and the teacher's {match.teacher!r} "
                f"{theirs}: heads of other kinds or classes; compare features, such as by pkd"
            )
        pair["connector"] = _connector(ours, theirs)
    options = {"weight": line.weight != 1.0 and line.weight, "resize": match.resize}
    return pair | {k: v for k, v in {**options, "join": line.join}.items() if v}


def _filled(block: Block, known: dict[str, Any]) -> dict[str, Any]:
    """Return a block with those of the known values that its class asks for."""
    asked = signature_of(lookup(block["type"])).annotations
    return {**block, **{name: value for name, value in known.items() if name in asked}}


def _connector(ours: int, theirs: int) -> dict[str, Any]:
    return {"type": "ConvConnector", "student_channels": ours, "teacher_channels": theirs}


def _term(block: Block, student: Model, teacher: Model) -> dict[str, Any]:
    """Return the block of a term with names in the place of roles.

    Raises:
        ConfigError: a side lacks a role.
    """
    filled: dict[str, Any] = {}
    for key, value in block.items():
        side, _, role = str(value).partition(".")
        if side in ("student", "teacher"):
            filled[key] = (student if side == "student" else teacher).name(role)
        elif value != "connector":
            filled[key] = value
        elif student.maps and teacher.maps:
            filled |= _connected(key, student.maps, teacher.maps)
    return filled


def _connected(key: str, ours: Maps, theirs: Maps) -> dict[str, Any]:
    """Return a connector between two pyramids of the same levels, where one is needed.

    Raises:
        ConfigError: the levels are not the same.
    """
    if [s[1:] for s in ours.sizes] != [s[1:] for s in theirs.sizes]:
        raise ConfigError(
            f"the teacher's head cannot take the student's maps, as their levels differ: {ours} "
            f"and {theirs}; compare the pyramids, such as by pkd"
        )
    channels = [_only(side) for side in (ours, theirs)]
    return {} if channels[0] == channels[1] else {key: _connector(*channels)}


def _only(maps: Maps) -> int:
    if len(maps.channels) > 1:
        raise ConfigError(f"wants levels with equally many channels, got {maps}")
    return maps.sizes[0][0]


def _matches(ours: Maps, theirs: Maps, prefix: str) -> Iterator[_Match]:
    """Yield which maps are compared, by their heights and widths.

    As a whole where all levels are alike, else level by level (the last of those of one size), else
    each of the teacher's with the nearest of the student's.
    """
    other = f"{prefix}{theirs.tap}".removesuffix(".")
    whole = [size[1:] for size in ours.sizes] == [size[1:] for size in theirs.sizes]
    if whole and len(ours.channels) == len(theirs.channels) == 1:
        channels = ours.sizes[0][0], theirs.sizes[0][0]
        yield _Match(ours.tap, other, channels)
        return
    last = [{size[1:]: i for i, size in enumerate(side.sizes)} for side in (ours, theirs)]
    pairs = [(i, last[1][size]) for size, i in last[0].items() if size in last[1]]
    resize = not pairs
    for i, j in pairs or _nearest(ours.sizes, theirs.sizes):
        names = f"{ours.tap}[{i}]", f"{other}[{j}]"
        yield _Match(*names, (ours.sizes[i][0], theirs.sizes[j][0]), resize)


def _nearest(
    ours: Sequence[tuple[int, ...]], theirs: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """Return the numbers of each of the teacher's levels and of the student's nearest in area."""

    def distance(i: int, j: int) -> float:
        return abs(math.log(math.prod(ours[i][1:]) / math.prod(theirs[j][1:])))

    found = [(min(range(len(ours)), key=lambda i: distance(i, j)), j) for j in range(len(theirs))]
    return sorted(found)


def _lacking(name: str, lines: Sequence[Line], student: Model, teacher: Model) -> str:
    """Say what the models do not have that a recipe compares."""
    missing = [
        f"the {side} {type(part.model).__name__} has none"
        for side, part in (("student", student), ("teacher", teacher))
        if all(getattr(part, line.role) is None for line in lines)
    ]
    needs = " or ".join(_NAMES[role] for role in dict.fromkeys(line.role for line in lines))
    return (
        f"recipe {name!r} compares {needs}; {' and '.join(missing) or 'the two have not the same'}"
        f"; choose another recipe, or write pairs"
    )
