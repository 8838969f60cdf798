"""Writing subnets in the files of MMRazor."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import nn

from razorlite.core.errors import SubnetError
from razorlite.core.files import write_text_atomic
from razorlite.models.backbones.choice_blocks import MBBlock
from razorlite.models.necks.pooling import MixedPooling
from razorlite.space import OneOf, SearchSpace, Subnet, Values

Version = Literal["0.x", "1.x"]


def save_mmrazor(
    space: SearchSpace, subnet: Subnet, path: str | Path, version: Version = "1.x"
) -> None:
    """Write a subnet as MMRazor reads it, whole or not at all.

    Spaces of operations (SPOS, DetNAS, ProxylessNAS) are keyed by the names of dimensions in 0.x
    and by module paths in 1.x. Once-for-All's are 1.x alone; the squeeze of a block has the
    block's ratio, as it has here, and blocks behind a stage's depth the smallest values. Names of
    operations stay as the space has them.

    Args:
        space: that the subnet is of.
        subnet: `origin["input_shape"]`, height and width, is written where there is one.
        path: of the YAML file.
        version: of MMRazor.

    Raises:
        SubnetError: it is no point of the space, or MMRazor has no such space.
        RunFolderError: the file cannot be written.
    """
    chosen = space.resolve(subnet)
    tree = _once_for_all(space, chosen) if _is_once_for_all(space, version) else None
    tree = tree or _operations(space, chosen.choices, version)
    shape = subnet.origin.get("input_shape")
    tree |= {"input_shape": list(shape)} if shape else {}
    nested = {key: {"chosen": value} for key, value in tree.items()}
    write_text_atomic(path, yaml.safe_dump(nested, sort_keys=True, width=1000))


def _operations(space: SearchSpace, choices: Values, version: Version) -> dict[str, Any]:
    places = {path: m for path, m in space.mutables.items() if isinstance(m, OneOf)}
    if len(places) < len(space.mutables):
        other = next(path for path in space.mutables if path not in places)
        kind = type(space.mutables[other]).__name__
        raise SubnetError(
            f"MMRazor {version} has no subnets of such a space: {other} is a {kind}; spaces of "
            f"operations can be written, and Once-for-All's for 1.x"
        )
    if version == "0.x":
        return {name: [value] for name, value in choices.items()}
    return {path: choices[place.space_id] for path, place in places.items()}


def _is_once_for_all(space: SearchSpace, version: Version) -> bool:
    return version == "1.x" and any(name.endswith(".expand_ratio") for name in space.choices)


def _once_for_all(space: SearchSpace, subnet: Subnet) -> dict[str, Any]:
    """Return the values of all blocks, and what the space does not vary."""
    plain, tree = space.export(subnet), dict(subnet.choices)
    for path, stage in _stages(space.model):
        there = plain.get_submodule(path)
        tree |= {f"{path}.depth": len(list(there.children()))}
        tree |= {f"{path}.out_channels": _width(there)}
        tree |= dict(_blocks(path, stage, subnet.choices))
    first, _ = next(_stages(space.model))
    parent = first.rpartition(".layers.")[0]
    stem = plain.get_submodule(f"{parent}.layers.0")
    tree[f"{parent}.first_channels"] = _width(stem)
    ends = [m.mix.out_features for m in plain.modules() if isinstance(m, MixedPooling)]
    return tree | ({f"{parent}.last_channels": ends[-1]} if ends else {})


def _width(module: nn.Module) -> int:
    """Return the channels that come out of a module: those of its last convolution."""
    return [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)][-1]


def _stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the path of each row of blocks, and the row."""
    for path, module in model.named_modules():
        if any(isinstance(child, MBBlock) for child in module.children()):
            yield path, module


def _blocks(path: str, stage: nn.Module, choices: Values) -> Iterator[tuple[str, Any]]:
    """Yield ratio and kernel of the blocks that have no choice, and the ratio of each squeeze."""
    for number, block in enumerate(stage.children()):
        assert isinstance(block, MBBlock)
        own = f"{path}.{number}"
        kernel = block.depthwise_conv.get_submodule("conv").get_parameter("weight").shape[-1]
        fixed = {"expand_ratio": 1, "kernel_size": kernel}
        found = {name: choices.get(f"{own}.{name}", value) for name, value in fixed.items()}
        if block.squeeze is not None:
            found["expand_ratio_se"] = found["expand_ratio"]
        yield from ((f"{own}.{name}", value) for name, value in found.items())
