"""Recipes that need no images: the generator of one for two models, and the step for Python."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.errors import ConfigError
from razorlite.distill.config import SyntheticConfig
from razorlite.distill.expansion import Model, by_recipe
from razorlite.distill.recipes import RECIPES, recipe_of
from razorlite.distill.roles import features_of
from razorlite.distill.step import DistilledStep
from razorlite.distill.synthetic import ForwardStep, NoiseLoader, SyntheticStep
from razorlite.structures import images_of


def synthetic_block(name: str, student: Model, teacher: Model) -> dict[str, Any] | None:
    """Return the block of a recipe's synthetic images for two models; None if it has none.

    Args:
        name: of the recipe.
        student: what learns; its inputs tell the size of images.
        teacher: what it learns from.

    Raises:
        ConfigError: there is no such recipe, or the teacher has no features to record.
    """
    block = recipe_of(name).synthetic
    if block is None:
        return None
    images = images_of(student.inputs)
    known: dict[str, Any] = {"features": features_of(teacher.model)}
    known["shape"] = None if images is None else list(images.shape[-2:])
    return {key: _filled(name, value, known) for key, value in block.items()}


def _filled(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    """Return a part of a block with what is known in the place of its names.

    Raises:
        ConfigError: what a name stands for is not there.
    """
    if isinstance(value, Mapping):
        return {key: _filled(name, part, known) for key, part in value.items()}
    if not isinstance(value, str) or value not in known:
        return value
    if known[value] is None:
        raise ConfigError(
            f"recipe {name!r} wants a classifier of images with a linear layer at its end; "
            f"choose another recipe"
        )
    return known[value]


def without_data(
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    *,
    shape: tuple[int, int],
    total_steps: int,
    seed: int = 0,
    **changes: Any,
) -> tuple[SyntheticStep, NoiseLoader]:
    """Return a training step that teaches a classifier without images, and the noise for it.

    For training loops of one's own:

        step, noise = without_data("zskt", student, teacher, shape=(32, 32), total_steps=10_000)
        for number, batch in enumerate(noise):
            step.begin(number)
            step(student, batch, torch.Tensor.backward)
            optimizer.step()
            optimizer.zero_grad()

    Args:
        name: of the recipe: zskt or dafl.
        student: images (N, 3, H, W) to logits (N, C).
        teacher: the same, with its weights; it is frozen.
        shape: (height, width) in pixels of the images to make.
        total_steps: optimiser steps of the whole run.
        seed: of the generator's initial weights and of the noise.
        changes: entries of `SyntheticConfig` in the place of the recipe's, as plain values.

    Raises:
        ConfigError: the recipe makes no images, or the models do not have what it compares.
    """
    distiller = by_recipe(name, student, teacher, shape=shape, seed=seed)
    images = torch.zeros(1, 3, *shape)
    block = synthetic_block(name, Model(student, images), Model(teacher, images))
    if block is None:
        makers = [n for n, recipe in RECIPES.items() if recipe.synthetic is not None]
        raise ConfigError(f"recipe {name!r} makes no images; {' and '.join(makers)} do")
    config = core_config.build(core_config.load({**block, **changes}), SyntheticConfig)
    inner = DistilledStep(distiller=distiller, base_step=ForwardStep(), task_weight=0.0)
    step = SyntheticStep(inner, synthetic=config, seed=seed, total_steps=total_steps)
    return step, noise_for(step, length=total_steps, seed=seed)


def noise_for(
    step: SyntheticStep, *, length: int, seed: int, device: torch.device | str = "cpu"
) -> NoiseLoader:
    """Return the noise that a step makes its images of.

    Args:
        step: has the generator.
        length: optimiser steps of the whole run.
        seed: of the noise.
        device: where it goes.
    """
    return NoiseLoader(
        latent=step.generator.latent,
        batch_size=step.config.batch_size,
        length=length,
        repeats=step.config.student_steps,
        seed=seed,
        device=device,
    )
