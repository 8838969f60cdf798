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
from razorlite.space.elastic import Elastic

Version = Literal["0.x", "1.x"]


def save_mmrazor(
    space: SearchSpace, subnet: Subnet, path: str | Path, version: Version = "1.x"
) -> None:
    """Write a subnet as MMRazor reads it, whole or not at all.

    Spaces of operations (SPOS, DetNAS, ProxylessNAS) are keyed by the names of dimensions in 0.x
    and by module paths in 1.x. Widths (AutoSlim) are 0.x alone: how many of the first channels
    each convolution and linear layer has. Once-for-All's are 1.x alone; the squeeze of a block has
    the block's ratio, as it has here, and blocks behind a stage's depth the smallest values. Names
    of operations stay as the space has them.

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
    if version == "0.x" and _is_of_widths(space):
        tree = _widths(space, chosen)
    else:
        tree = {key: {"chosen": value} for key, value in _chosen(space, chosen, version).items()}
    write_text_atomic(path, yaml.safe_dump(tree, sort_keys=True, width=1000))


def _chosen(space: SearchSpace, subnet: Subnet, version: Version) -> dict[str, Any]:
    tree = _once_for_all(space, subnet) if _is_once_for_all(space, version) else None
    tree = tree or _operations(space, subnet.choices, version)
    shape = subnet.origin.get("input_shape")
    return tree | ({"input_shape": list(shape)} if shape else {})


def _is_of_widths(space: SearchSpace) -> bool:
    layers = list(space.mutables.values())
    return all(isinstance(m, Elastic) and not _elastic_kernel(m) for m in layers)


def _elastic_kernel(layer: Elastic) -> bool:
    return "kernel" in layer.sides and bool(layer.sides["kernel"].follows)


def _widths(space: SearchSpace, subnet: Subnet) -> dict[str, Any]:
    """Return the channels of each convolution and linear layer, and those of the whole one."""
    plain, tree = space.export(subnet), {}
    for path, layer in space.model.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        now = _channels(plain.get_submodule(path))
        whole = dict(now)
        if isinstance(layer, Elastic):
            outputs = layer.sides["outputs"].kept(subnet.choices)
            if list(outputs) != list(range(len(outputs))):
                raise SubnetError(
                    f"MMRazor 0.x keeps the first channels of a layer, and {path} keeps others"
                )
            sides = {"in_channels": "inputs", "out_channels": "outputs"}
            whole = {name: layer.sides[side].size for name, side in sides.items()}
        tree[path] = now | {f"raw_{name}": count for name, count in whole.items()}
    return tree


def _channels(layer: Any) -> dict[str, int]:
    if isinstance(layer, nn.Linear):
        return {"in_channels": layer.in_features, "out_channels": layer.out_features}
    return {"in_channels": layer.in_channels, "out_channels": layer.out_channels}


def _operations(space: SearchSpace, choices: Values, version: Version) -> dict[str, Any]:
    places = {path: m for path, m in space.mutables.items() if isinstance(m, OneOf)}
    if len(places) < len(space.mutables):
        other = next(path for path in space.mutables if path not in places)
        kind = type(space.mutables[other]).__name__
        raise SubnetError(
            f"MMRazor {version} has no subnets of such a space: {other} is a {kind}; spaces of "
            f"operations can be written, Once-for-All's for 1.x, and widths for 0.x"
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
