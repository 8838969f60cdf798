"""Subnets of Once-for-All's spaces, in the files of its authors and of MMRazor."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from razorlite.core.errors import SubnetError

_log = logging.getLogger("razorlite")
_CHOSEN = ("kernel_size", "expand_ratio", "depth")
CHANNELS = "stage_channels"  # in a subnet's origin: what its space must have


def is_net_config(tree: Mapping[Any, Any]) -> bool:
    """Return whether a tree is a `net.config` of Once-for-All's specialised networks."""
    blocks = tree.get("blocks")
    return isinstance(blocks, list) and bool(blocks) and all(isinstance(b, dict) for b in blocks)


def from_net_config(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return choices and origin of the subnet in a `net.config`.

    A block is `{"mobile_inverted_conv": {...}}` as the authors write it, or flat, with `inputs`,
    `outputs`, `kernel` and `hidden`.

    Raises:
        SubnetError: a block has no such numbers, or none that the space has.
    """
    choices: dict[str, int] = {}
    channels: dict[str, int] = {}
    for stage, blocks in enumerate(_stages(tree), 1):
        path = f"layers.{stage}"
        channels[path] = blocks[-1]["outputs"]
        if len(blocks) > 1:
            choices[f"{path}.depth"] = len(blocks)
        for i, block in enumerate(blocks if stage > 1 else ()):
            choices[f"{path}.{i}.kernel_size"] = block["kernel"]
            choices[f"{path}.{i}.expand_ratio"] = _ratio(f"{path}.{i}", block)
    return {"choices": choices, "origin": {"made_by": "Once-for-All", CHANNELS: channels}}


def is_mmrazor(tree: Mapping[Any, Any]) -> bool:
    """Return whether a tree is MMRazor's file of a subnet of MobileNetV3's space."""
    return any(str(key).endswith(".first_channels") for key in tree)


def from_mmrazor(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return choices and origin of the subnet in MMRazor's file.

    Raises:
        SubnetError: a value is no number.
    """
    chosen = {str(key): _value(str(key), value) for key, value in tree.items()}
    choices = {key: value for key, value in chosen.items() if _varies(key)}
    widths = {key: value for key, value in chosen.items() if key.endswith(".out_channels")}
    channels = {f"layers.{key.split('layers.')[1].split('.')[0]}": v for key, v in widths.items()}
    _tell_of_squeeze(chosen)
    origin = {"made_by": "MMRazor", CHANNELS: channels, "input_shape": chosen.get("input_shape")}
    return {"choices": choices, "origin": origin}


def check_channels(origin: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a subnet of a space with other channels.

    Args:
        origin: of the subnet.
        model: the supernet.

    Raises:
        SubnetError: a stage of the model has other channels, or is not there.
    """
    for path, count in (origin.get(CHANNELS) or {}).items():
        stages = [m for name, m in model.named_modules() if f".{name}".endswith(f".{path}")]
        found = {_width(stage) for stage in stages}
        if found != {count}:
            listed = ", ".join(map(str, sorted(found))) or "no such stage"
            raise SubnetError(
                f"belongs to another search space: {path} gives {count} channels there, and "
                f"{listed} here; change arch or width_mult of the backbone"
            )


def _width(stage: nn.Module) -> int:
    """Return the channels that come out of a stage: those of its last convolution."""
    return [m.out_channels for m in stage.modules() if isinstance(m, nn.Conv2d)][-1]


def _stages(tree: Mapping[Any, Any]) -> Iterator[list[dict[str, int]]]:
    """Yield the blocks of each stage: a stage begins where channels or the map's size change."""
    stage: list[dict[str, int]] = []
    for number, raw in enumerate(tree["blocks"]):
        block = _block(number, raw)
        if stage and (block["stride"] > 1 or block["outputs"] != block["inputs"]):
            yield stage
            stage = []
        stage.append(block)
    yield stage


def _block(number: int, raw: Mapping[str, Any]) -> dict[str, int]:
    conv = raw.get("mobile_inverted_conv", raw)
    try:
        inputs = conv["inputs"] if "inputs" in conv else conv["in_channels"]
        hidden = conv["hidden"] if "hidden" in conv else conv.get("mid_channels")
        return {
            "inputs": int(inputs),
            "outputs": int(conv["outputs"] if "outputs" in conv else conv["out_channels"]),
            "kernel": int(conv["kernel"] if "kernel" in conv else conv["kernel_size"]),
            "stride": int(conv["stride"]),
            "hidden": int(round(inputs * conv["expand_ratio"]) if hidden is None else hidden),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SubnetError(
            f"blocks.{number} wants in_channels, out_channels, kernel_size, stride and a ratio "
            f"or mid_channels of a mobile_inverted_conv ({type(error).__name__}: {error})"
        ) from error


def _ratio(path: str, block: Mapping[str, int]) -> int:
    ratio, rest = divmod(block["hidden"], block["inputs"])
    if rest:
        raise SubnetError(
            f"{path} expands {block['inputs']} channels to {block['hidden']}; a whole ratio is "
            f"needed"
        )
    return ratio


def _value(key: str, value: Any) -> Any:
    found = value.get("chosen") if isinstance(value, Mapping) else value
    numbers = found if isinstance(found, list) else [found]
    if not all(type(number) is int for number in numbers):
        raise SubnetError(f"{key} wants 'chosen: NUMBER', got {value!r:.60}")
    return found


def _varies(key: str) -> bool:
    """Return whether a key is a choice here; the first block of all is fixed."""
    first = f".{key}.".rpartition("layers.1.")[1]
    return not first and key.rpartition(".")[2] in _CHOSEN


def _tell_of_squeeze(chosen: Mapping[str, Any]) -> None:
    """Warn where the squeeze of a block that is there has a ratio of its own."""
    for key, ratio in chosen.items():
        path, _, name = key.rpartition(".")
        stage, _, number = path.rpartition(".")
        there = name == "expand_ratio_se" and int(number) < chosen.get(f"{stage}.depth", 0)
        if there and ratio != chosen.get(f"{path}.expand_ratio"):
            _log.warning(
                "%s is %s, and the block's ratio %s, which its squeeze follows here",
                key,
                ratio,
                chosen.get(f"{path}.expand_ratio"),
            )
