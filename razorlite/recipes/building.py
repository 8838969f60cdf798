"""From a configuration to a model: plain, a supernet, an exported or a slimmed subnet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from razorlite.core.config import Overrides
from razorlite.core.errors import CheckpointError, ConfigError, SubnetError
from razorlite.cost import FactoredCost, tabulate
from razorlite.engine.checkpoint import Adapt, LoadReport, load_weights, read_checkpoint
from razorlite.engine.weights import find_weights, tensor_names
from razorlite.prune import Channels
from razorlite.recipes.card import ModelCard, check_preprocess, read_with_card
from razorlite.recipes.classes import compare
from razorlite.recipes.experiment import ConfigLike, Experiment, LoadFrom, read
from razorlite.space import SearchSpace, Subnet, prepare
from razorlite.space.placeholder import Placeholder
from razorlite.trace import ChannelGraph

Costs = Callable[[tuple[int, int]], FactoredCost]
"""Counts MACs and parameters of a space's points for a (height, width), each once."""


@dataclass(frozen=True)
class Built:
    """A model and where it comes from.

    Attributes:
        model: plain, or a supernet.
        space: of the supernet that the model is, or was exported from.
        subnet: what the model was exported or slimmed to.
        channels: of a slimmed model, those of the whole one.
        counted: the costs of the space, where it was built and counted before.
    """

    model: nn.Module
    space: SearchSpace | None = None
    subnet: Subnet | None = None
    channels: Channels | None = None
    counted: Costs | None = None

    @cached_property
    def costs(self) -> Costs:
        """What the points of the space cost, counted when first asked for."""
        assert self.space is not None
        return self.counted or cache(partial(tabulate, self.space))

    @property
    def is_supernet(self) -> bool:
        """Return whether paths are still to be chosen."""
        return self.space is not None and self.subnet is None


def build_model(config: ConfigLike, overrides: Overrides = ()) -> nn.Module:
    """Return the model that a configuration describes.

    A `mutator` block makes it a supernet; with `subnet` it is a plain model again.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, or a mapping of paths to plain values.

    Raises:
        ConfigError: the configuration is wrong.
        SubnetError: the subnet file is malformed or does not belong to the model.
    """
    return build(read(config, overrides)[1]).model


def build(
    experiment: Experiment,
    subnet: str | Path | Subnet | None = None,
    graph: ChannelGraph | None = None,
) -> Built:
    """Build an experiment's model.

    Args:
        experiment: the configuration.
        subnet: a subnet or its file instead of the configuration's.
        graph: channel groups of the model before channels are dropped, where they are known.

    Raises:
        ConfigError: the model has placeholders, and there is no mutator.
        SubnetError: the subnet file is malformed or does not belong to the model.
    """
    model = experiment.model()
    preparers = experiment.preparers
    space = prepare(model, preparers, experiment.shape) if preparers else None
    if any(isinstance(module, Placeholder) for module in model.modules()):
        raise ConfigError(
            "the model has placeholders and the configuration no `mutator`; take one from "
            "configs/_base_/spaces by _base_"
        )
    path = experiment.subnet if subnet is None else subnet
    if path is None:
        return Built(model, space)
    chosen = _read_subnet(path, space)
    if space is not None:
        model = space.export(chosen)
    if not chosen.is_pruned:
        return Built(model, space, chosen)
    channels = channels_of(model, experiment, graph)
    try:
        return Built(channels.slim(chosen), space, chosen, channels)
    except SubnetError as error:
        raise SubnetError(f"{path}: {error}") from error


def build_plain(experiment: Experiment) -> Built:
    """Build an experiment's model, which must be no supernet.

    Raises:
        ConfigError: as `build`, or the model is a supernet.
        SubnetError: as `build`.
    """
    built = build(experiment)
    if built.is_supernet:
        raise ConfigError("the configuration is a supernet; name a path of it by `subnet`")
    return built


def channels_of(
    model: nn.Module, experiment: Experiment, graph: ChannelGraph | None = None
) -> Channels:
    """Return the channels of an experiment's model, as its `prune` block says to read it."""
    leaves = experiment.prune.leaves if experiment.prune else ()
    return Channels(model, experiment.shape, leaves=leaves, graph=graph)


def channels_left(built: Built, experiment: Experiment) -> Channels:
    """Return the channels of a built model as it is, which may be slim."""
    if built.channels is None or built.subnet is None:
        return channels_of(built.model, experiment)
    return built.channels.slim_channels(built.model, built.subnet)


def load_into(
    built: Built,
    path: str | Path,
    options: LoadFrom | None = None,
    *,
    adapt: Adapt | None = None,
    advice: str = "use the configuration it was trained with",
    content: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load a checkpoint; of a supernet's, a subnet takes the weights of its path.

    Args:
        built: takes the weights.
        path: the checkpoint.
        options: how to read it.
        adapt: changes the tensors, by the model's names, before they are compared.
        advice: what to do if it does not fit.
        content: what the file holds, if it has been read already.

    Raises:
        CheckpointError: the file cannot be read or is of another model.
    """
    how = options or LoadFrom(checkpoint=str(path))
    content = read_checkpoint(path) if content is None else content
    load = partial(
        load_weights,
        built.model,
        path,
        strict=how.strict,
        prefix=how.prefix,
        ignore=how.ignore,
        ema=how.ema,
        adapt=_completed(built, adapt),
        advice=_subnet_advice(built, content, path) or advice,
        content=content,
    )
    if not of_supernet(built, path, how, content):
        return load()
    space, subnet = built.space, built.subnet
    assert space is not None
    assert subnet is not None
    return load(
        names=space.model.state_dict(), convert=lambda state: space.chosen_weights(state, subnet)
    )


def _subnet_advice(built: Built, content: Mapping[str, Any], path: str | Path) -> str:
    """Return what to do where the weights are of a subnet, and the model is whole."""
    if built.subnet is not None or ModelCard.from_meta(content.get("meta"), path).subnet is None:
        return ""
    return "it is of a subnet: name the file of it by --subnet, or `subnet` in the configuration"


def _completed(built: Built, adapt: Adapt | None) -> Adapt | None:
    """Return what also gives a plain model's weights those that its supernet has beside them."""
    added = built.space.additions() if built.space is not None and built.is_supernet else {}
    if not added:
        return adapt
    return lambda state: {**added, **(state if adapt is None else adapt(state))}


def load_trained(built: Built, path: str | Path, experiment: Experiment) -> ModelCard:
    """Load weights to use as they are: they have the model's classes and the data's preprocessing.

    Returns:
        What the checkpoint says of its model.

    Raises:
        ConfigError: the configuration has other preprocessing or another number of classes.
        CheckpointError: the file cannot be read or is of another model.
    """
    content, card = read_with_card(path)
    check_preprocess(card, experiment.data, path)
    if card.classes is not None:
        compare(built.model, card.classes, where=str(path))
    check_subnet(built, card, path)
    load_into(built, path, content=content)
    return card


def check_subnet(built: Built, card: ModelCard, path: str | Path) -> None:
    """Refuse weights that were trained as another subnet of the space than a model is.

    Not every choice shows in the weights: not the size of images, nor the bits of a layer.

    Args:
        built: the model.
        card: what the weights' file says.
        path: the file, for the message.

    Raises:
        CheckpointError: both are known and differ; names a choice.
    """
    ours, theirs = built.subnet or Subnet(), card.subnet or Subnet()
    if ours.fingerprint != theirs.fingerprint:
        return
    for name, value in theirs.choices.items():
        if ours.choices.get(name, value) != value:
            raise CheckpointError(
                f"{path} was trained as a subnet with {name} {value}, and the one given has "
                f"{ours.choices[name]}; name the subnet file that it was trained with"
            )


def of_supernet(
    built: Built,
    path: str | Path,
    options: LoadFrom | None = None,
    content: Mapping[str, Any] | None = None,
) -> bool:
    """Return whether a checkpoint is of the supernet that a model was exported from.

    It is not, if it says of which subnet it is. Else it is, if it has weights that the supernet
    alone has; where both have the same names, if they have the supernet's shapes.

    Args:
        built: the model.
        path: the checkpoint.
        options: how to read it.
        content: what the file holds, if it has been read already.

    Raises:
        CheckpointError: the file cannot be read.
    """
    if built.space is None or built.subnet is None:
        return False
    content = read_checkpoint(path) if content is None else content
    if ModelCard.from_meta(content.get("meta"), path).subnet is not None:
        return False
    how = options or LoadFrom(checkpoint=str(path))
    whole = built.space.model.state_dict()
    alone = whole.keys() - built.model.state_dict().keys()
    if alone:
        return any(name.endswith(tuple(alone)) for name in tensor_names(content))
    state = find_weights(content, whole, path=path, prefix=how.prefix, ema=how.ema) or {}
    shared = whole.keys() & state.keys()
    return bool(shared) and all(state[name].shape == whole[name].shape for name in shared)


def untrained(value: Any) -> Any:
    """Return a block without pretrained weights, where others come or none are needed."""
    if isinstance(value, Mapping):
        return {key: untrained(part) for key, part in value.items() if key != "pretrained"}
    return [untrained(part) for part in value] if isinstance(value, list) else value


def _read_subnet(subnet: str | Path | Subnet, space: SearchSpace | None) -> Subnet:
    """Return a subnet, checked against the space if there is one."""
    if not isinstance(subnet, Subnet):
        chosen = Subnet.load(subnet) if space is None else space.load(subnet)
    else:
        chosen = subnet if space is None else space.resolve(subnet)
    if chosen.choices and space is None:
        raise SubnetError(
            f"{subnet} chooses operations, but the configuration has no `mutator`; use the "
            f"supernet's configuration, or a subnet file that pruning wrote"
        )
    return chosen
