"""Recipes of distillation, as data: which parts of two models are compared, and by what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion

Role = Literal["maps", "stages", "classes", "logits", "head", "sides", "regions"]
Block = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One comparison: of the maps or logits that play one role in both models.

    Attributes:
        role: "maps", the pyramid that the head sees; "classes", a one-stage head's class logits at
            every location; "logits", (N, C) of a classifier; "stages", its backbone's maps; "head",
            a one-stage head as a whole; "sides", one that gives distributions of box sides;
            "regions", a second stage as a whole.
        loss: block of the loss of a pair; where its class asks for `student_channels`,
            `teacher_channels` or `num_classes`, these are filled in.
        term: in its place, block of a term. Of its values "student.maps", "teacher.head" and the
            like become what plays that role, "connector" a convolution where channels differ.
        weight: factor of the pair.
        join: compare all levels as one set of locations.
    """

    role: Role
    loss: Block | None = None
    term: Block | None = None
    weight: float = 1.0
    join: bool = False


@dataclass(frozen=True)
class Recipe:
    """A published way of distillation.

    Attributes:
        about: what is learnt, and the paper.
        lines: the comparisons; those of roles that a model lacks are left out.
        synthetic: block of `SyntheticConfig`, where images are made. "shape" and "features" in it
            become what they are in the two models.
    """

    about: str
    lines: tuple[Line, ...] = field(default=())
    synthetic: Block | None = None


def _maps(weight: float = 1.0, **loss: Any) -> tuple[Line, ...]:
    return (Line(role="maps", loss=loss, weight=weight),)


def _logits(**loss: Any) -> tuple[Line, ...]:
    return (Line(role="logits", loss=loss),)


RECIPES: dict[str, Recipe] = {
    "pkd": Recipe(
        "correlation of each channel of the pyramid, https://arxiv.org/abs/2207.02039",
        _maps(type="PKD", weight=2.0),
    ),
    "cwd": Recipe(
        "where each channel of the pyramid is active, https://arxiv.org/abs/2011.13256",
        _maps(type="ChannelWiseDivergence", weight=2.0),
    ),
    "fitnets": Recipe(
        "values of the pyramid, https://arxiv.org/abs/1412.6550",
        _maps(type="FeatureMSE"),
    ),
    "at": Recipe(
        "where the pyramid is active, whatever the channels, https://arxiv.org/abs/1612.03928",
        _maps(type="AttentionTransfer", weight=1000.0),
    ),
    "mgd": Recipe(
        "the pyramid made up from a masked one, https://arxiv.org/abs/2205.01529",
        _maps(type="MGD"),
    ),
    "fgd": Recipe(
        "the pyramid by objects, background and context, https://arxiv.org/abs/2111.11837",
        _maps(type="FGD"),
    ),
    "fbkd": Recipe(
        "the pyramid and its relations by non-local blocks, ICLR 2021, Zhang and Ma",
        _maps(type="FBKD"),
    ),
    "score_l2": Recipe(
        "values of the pyramid where the teacher sees objects",
        (
            Line(
                role="maps",
                term={
                    "type": "ScoredMaps",
                    "student": "student.maps",
                    "teacher": "teacher.maps",
                    "scores": "teacher.classes",
                    "connector": "connector",
                },
            ),
        ),
    ),
    "dkd": Recipe(
        "a classifier's softmax, true and other classes apart, https://arxiv.org/abs/2203.08679",
        _logits(type="DKD"),
    ),
    "dist": Recipe(
        "how a classifier ranks classes and images, https://arxiv.org/abs/2205.10536",
        _logits(type="DIST"),
    ),
    "wsld": Recipe(
        "a classifier's softmax, weighted by what it lacks, https://arxiv.org/abs/2102.00650",
        _logits(type="WSLD"),
    ),
    "rkd": Recipe(
        "distances and angles between images' logits, https://arxiv.org/abs/1904.05068",
        (
            Line(role="logits", loss={"type": "RKDDistance", "weight": 25.0}),
            Line(role="logits", loss={"type": "RKDAngle", "weight": 50.0}),
        ),
    ),
    "crosskd": Recipe(
        "what the teacher's head makes of the student's pyramid, https://arxiv.org/abs/2306.11369",
        (
            Line(
                role="head",
                term={
                    "type": "CrossHead",
                    "student": "student.maps",
                    "teacher": "teacher.head",
                    "connector": "connector",
                },
            ),
        ),
    ),
    "ld": Recipe(
        "distributions of box sides where objects are, https://arxiv.org/abs/2102.12252",
        (
            Line(
                role="sides",
                term={
                    "type": "LocalisationDistillation",
                    "student": "student.sides",
                    "teacher": "teacher.sides",
                },
            ),
        ),
    ),
    "kd": Recipe(
        "class scores where the teacher sees objects; of classifiers, the softmax, "
        "https://arxiv.org/abs/1503.02531",
        (
            Line(role="classes", loss={"type": "SigmoidKL", "quality": 1.0}, join=True),
            Line(role="logits", loss={"type": "LogitKL", "tau": 4.0}),
        ),
    ),
    "zskt": Recipe(
        "a classifier without data, images on which student and teacher disagree, "
        "https://arxiv.org/abs/1905.09768",
        (
            Line(role="logits", loss={"type": "LogitKL", "reduction": "mean"}),
            Line(role="stages", loss={"type": "AttentionTransfer", "weight": 250.0}),
        ),
        {
            "generator": {"type": "ImageGenerator", "shape": "shape"},
            "loss": {"type": "BeliefMismatch"},
            "optimizer": {"type": "Adam", "lr": 1e-3},
            "schedule": {"type": "Cosine"},
            "batch_size": 128,
            "student_steps": 10,
            "clip_grad_norm": 5.0,
        },
    ),
    "dafl": Recipe(
        "a classifier without data, images that the teacher is sure of, "
        "https://arxiv.org/abs/1904.01186",
        _logits(type="LogitKL"),
        {
            "generator": {"type": "ImageGenerator", "shape": "shape", "latent": 1000},
            "loss": {
                "type": "TeacherConfidence",
                "features": "features",
                "one_hot": 0.05,
                "activation": 0.01,
                "entropy": 2.17,
            },
            "optimizer": {"type": "Adam", "lr": 1e-3},
            "schedule": {"type": "Cosine"},
            "batch_size": 256,
        },
    ),
    "proposals": Recipe(
        "classes and boxes of second stages on the same regions, NeurIPS 2017, Chen et al.",
        (
            Line(
                role="regions",
                term={
                    "type": "SharedProposals",
                    "student": "student.regions",
                    "teacher": "teacher.regions",
                    "teacher_maps": "teacher.maps",
                },
            ),
        ),
    ),
}


def recipe_of(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"no recipe {name!r}{suggestion(name, RECIPES) or f'; there are {sorted(RECIPES)}'}"
        )
    return RECIPES[name]
