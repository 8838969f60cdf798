"""What a training starts from: weights, the order of the labels, what is frozen."""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from razorlite.core.errors import CheckpointError
from razorlite.models.backbones.base import Freezable
from razorlite.models.pretrained import is_pretrained, pretrained_sources
from razorlite.recipes.building import Built, check_subnet, load_into
from razorlite.recipes.card import ModelCard, check_preprocess, read_card, read_with_card
from razorlite.recipes.experiment import Experiment, LoadFrom
from razorlite.recipes.fine_tuning import OtherClasses
from razorlite.recipes.foreign import warn_of_caffe
from razorlite.recipes.splits import Splits
from razorlite.recipes.teaching import taught_classes

_log = logging.getLogger("razorlite")
_ADVICE = "leave names out by load_from.ignore, or load what fits by load_from.strict=false"


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        known: what the weights' file says.
        splits: the images, with labels in the run's order.
        unfrozen: modules that learn although the configuration freezes them.
    """

    known: ModelCard
    splits: Splits
    unfrozen: tuple[str, ...]


def begin(built: Built, experiment: Experiment, device: torch.device, last: Path | None) -> Start:
    """Load what training starts from, and compare classes and preprocessing.

    Args:
        built: the model; takes the weights of `load_from`.
        experiment: the configuration.
        device: to train on.
        last: the checkpoint to go on from, whose weights are loaded later.

    Raises:
        ConfigError: classes or preprocessing of model, data and weights do not fit.
        DataError: the images have other classes than the checkpoint to go on from, or images are
            held out that it was trained on.
        CheckpointError: a checkpoint cannot be read or is of another model.
    """
    if last is not None:
        card = read_card(last)
        check_preprocess(card, experiment.data, last)
        check_subnet(built, card, last)
        splits = Splits(experiment, device, card.classes)
        splits.match(built.model)
        if splits.holds_out:
            splits.check_held_out(card, last)
        try:
            unfreeze(built.model, card.unfrozen)
        except (AttributeError, AssertionError):
            raise CheckpointError(
                f"{last} lets {list(card.unfrozen)} learn, which this model has nothing frozen of; "
                f"was it edited? Use another copy"
            ) from None
        return Start(card, splits, card.unfrozen)
    card, splits, loaded = _first(built, experiment, device)
    for source in pretrained_sources(built.model):
        warn_of_caffe(source, splits.data.preprocess)
    unfrozen = tuple(name for name, m in _unloaded(built.model, loaded) if m.frozen_part())
    for name, module in _unloaded(built.model, loaded):
        _log.warning("%s", _note(name, module))
    unfreeze(built.model, unfrozen)
    return Start(card, splits, unfrozen)


def _first(
    built: Built, experiment: Experiment, device: torch.device
) -> tuple[ModelCard, Splits, Collection[str]]:
    """Load `load_from` into a new run; return what it says, the images, and what was loaded."""
    origin = experiment.load_from
    taught = taught_classes(experiment)
    if origin is None:
        splits = Splits(experiment, device, taught)
        splits.match(built.model)
        if is_pretrained(built.model):
            _rearrange(built, experiment)
        return ModelCard(), splits, ()
    how = LoadFrom(checkpoint=origin) if isinstance(origin, str) else origin
    content, card = read_with_card(how.checkpoint)
    check_preprocess(card, experiment.data, how.checkpoint)
    if card.preprocess is None and experiment.data is not None:
        warn_of_caffe(how.checkpoint, experiment.data.preprocess)
    splits = Splits(experiment, device, taught, order=card.classes)
    splits.match(built.model)
    if splits.holds_out:
        splits.check_held_out(card, how.checkpoint)
    adapt = OtherClasses(built.model, splits.classes, card.classes)
    report = load_into(built, how.checkpoint, how, adapt=adapt, advice=_ADVICE, content=content)
    if card.trained_on is None:  # a supernet's paths share what they have
        _rearrange(built, experiment)
    if adapt.note():
        _log.warning("%s: %s", how.checkpoint, adapt.note())
    return card, splits, report.loaded


def _rearrange(built: Built, experiment: Experiment) -> None:
    """Let preparers rearrange the plain model's weights that a supernet starts from."""
    for preparer in experiment.preparers if built.is_supernet else ():
        preparer.loaded(built.model)


def unfreeze(model: nn.Module, names: Collection[str]) -> None:
    """Let all of the named modules learn."""
    for name in names:
        module = model.get_submodule(name)
        assert isinstance(module, Freezable)
        module.unfreeze()


def _unloaded(model: nn.Module, loaded: Collection[str]) -> Iterator[tuple[str, Freezable]]:
    """Yield modules with something frozen that no weights were loaded into, by name."""
    for name, module in model.named_modules():
        if isinstance(module, Freezable) and not is_pretrained(module):
            start = f"{name}." if name else ""
            if any(f"{start}{key}" not in loaded for key in _frozen_names(module)):
                yield name, module


def _frozen_names(module: Freezable) -> list[str]:
    """Return the names of a module's tensors that training leaves as they are."""
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if not module.norm_eval:
        return frozen
    return [*frozen, *(n for n, _ in module.named_buffers() if n.endswith("running_var"))]


def _note(name: str, module: Freezable) -> str:
    statistics = "norm_eval: true" if module.norm_eval else ""
    part = module.frozen_part()
    held = ", ".join(filter(None, [part, statistics]))
    done = (
        "stay random: all of it is trained"
        if part
        else "keep the statistics of no image: norm_eval: false lets it learn them"
    )
    return (
        f"model.{name} has {held}, but no weights were loaded into it and it would {done}; give "
        f"it weights by model.{name}.pretrained or load_from to freeze it"
    )
