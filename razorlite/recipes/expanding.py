"""The `distiller` block in full: its teacher as a block, its recipe as pairs and terms."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.config import Config, Overrides
from razorlite.core.errors import ConfigError
from razorlite.distill import DistillerConfig, TeacherConfig, names_file
from razorlite.distill.expansion import Model, expand_recipe
from razorlite.distill.without_data import synthetic_block
from razorlite.recipes.dry_step import plain_build, teacher_without_values
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.structures import example_inputs

_SHORT = ("recipe", "checkpoint")


def read_expanded(
    config: ConfigLike, overrides: Overrides = (), subnet: str | Path | None = None
) -> tuple[Config, Experiment]:
    """Return what `read` does, with the `distiller` block in full.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        subnet: a subnet file in the place of the configuration's.

    Raises:
        ConfigError: the configuration is wrong, or its recipe does not go with its models.
    """
    merged, experiment = read(config, overrides, subnet)
    full = expanded(merged)
    return full, experiment if full is merged else core_config.build(full, Experiment)


def expanded_for(config: Config, student: nn.Module) -> tuple[Config, DistillerConfig | None]:
    """Return a configuration whose `distiller` block is in full for a built student, and the block.

    Args:
        config: a checked one.
        student: what is trained in the place of the configuration's own model, such as a slim one.

    Raises:
        ConfigError: the teacher cannot be built, or either lacks what the recipe compares.
    """
    full = expanded(config, student)
    return full, core_config.build(full, Experiment).distiller


def expanded(config: Config, student: nn.Module | None = None) -> Config:
    """Return a configuration whose `distiller` block says all that it means.

    Args:
        config: a checked one.
        student: built already; by default the configuration's, without values.

    Raises:
        ConfigError: student or teacher cannot be built, or do not have what the recipe compares.
    """
    block = config.get("distiller")
    if not isinstance(block, Mapping) or not _is_short(block):
        return config
    full = {key: value for key, value in block.items() if key not in _SHORT}
    if names_file(block.get("teacher")):
        full["teacher"] = {"config": block["teacher"], "checkpoint": block.get("checkpoint")}
    changed = _with_distiller(config, full)
    if block.get("recipe") is None:
        return changed
    found = _blocks(_with_distiller(config, {**full, "recipe": block["recipe"]}), student)
    images = found.pop("synthetic", None)
    if images is not None:
        full["synthetic"] = {**images, **(full.get("synthetic") or {})}
    for key, blocks in found.items():
        if blocks:
            full[key] = [*blocks, *(full.get(key) or [])]
    return _with_distiller(config, full)


def _is_short(block: Mapping[str, Any]) -> bool:
    return names_file(block.get("teacher")) or block.get("recipe") is not None


def _with_distiller(config: Config, block: Mapping[str, Any]) -> Config:
    """Return a configuration with another `distiller` block, which may have fewer keys."""
    changed = copy.copy(config)
    changed.tree = {**config.tree, "distiller": dict(block)}
    return changed


def _blocks(config: Config, built: nn.Module | None) -> dict[str, Any]:
    """Return the pairs, terms and synthetic images that a configuration's recipes come to."""
    experiment = core_config.build(config, Experiment)
    settings = experiment.distiller
    assert settings is not None
    recipe = settings.recipe
    known: dict[str, Any] = settings.teachers or {"": settings.teacher}
    recipes = recipe if isinstance(recipe, Mapping) else dict.fromkeys(known, str(recipe))
    _check_names(config, recipes, known)
    try:
        student = _student(config, experiment, built)
        found: dict[str, Any] = {"pairs": [], "terms": []}
        for name, own in recipes.items():
            teacher = _teacher(known[name], name, student, experiment.shape)
            for key, blocks in expand_recipe(own, student, teacher).items():
                found[key] += blocks
            images = synthetic_block(own, student, teacher)
            found |= {} if images is None else {"synthetic": images}
    except core_config.LocatedConfigError:
        raise
    except ConfigError as error:
        where = config.where("distiller.recipe")
        raise core_config.LocatedConfigError(f"{where}: distiller.recipe: {error}") from error
    return found


def _check_names(config: Config, recipes: Mapping[str, str], teachers: Mapping[str, Any]) -> None:
    """Refuse recipes for teachers that are not there.

    Raises:
        ConfigError: a name is of no teacher.
    """
    unknown = [name for name in recipes if name not in teachers]
    if unknown:
        raise core_config.LocatedConfigError(
            f"{config.where('distiller.recipe')}: distiller.recipe: {unknown[0]!r} is no name of "
            f"`teachers`; write the recipe's name alone, or name: recipe for each of `teachers`"
        )


def _student(config: Config, experiment: Experiment, built: nn.Module | None) -> Model:
    """Return the built student, or a configuration's model without values, with inputs for it."""
    if built is not None:
        return Model(built, example_inputs(built, experiment.shape))
    fetched = plain_build(config, {"distiller": None})
    with torch.device("meta"):
        model = fetched().model
    return Model(model, example_inputs(model, experiment.shape, device="meta"))


def _teacher(settings: Any, name: str, student: Model, shape: tuple[int, int]) -> Model:
    """Return a teacher without values; the student itself where it teaches itself."""
    if not isinstance(settings, TeacherConfig):
        return student
    with torch.device("meta"):
        model = teacher_without_values(settings, f"teachers.{name}" if name else "teacher")
    inputs = example_inputs(model, shape, device="meta")
    return Model(model, inputs, f"{name}." if name else "")
