"""Reading subnet files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion
from razorlite.space._published import from_mmrazor, from_net_config, is_mmrazor, is_net_config
from razorlite.space.dimension import Value, is_value

_LARGEST = 4 << 20  # bytes of a subnet file
_WIDEST = 1 << 20  # channels of a layer
_OURS = ("format", "fingerprint", "origin", "cost", "scores", "choices", "channels", "dropped")
_CHOSEN = ("choices", "channels", "dropped")
_PARTS: dict[str, tuple[type, str]] = {
    "blocks": (str, "paths of modules"),
    "layers": (int, "numbers"),
    "queries": (int, "numbers"),
}


def parse_file(path: Path) -> dict[str, Any]:
    """Return the constructor arguments of the subnet in a file.

    Raises:
        SubnetError: it cannot be read or is malformed.
    """
    tree = _load_yaml(path)
    if not isinstance(tree, dict) or not tree:
        raise SubnetError(f"wants 'key: value' lines, got {shown(tree)}; is it a subnet file?")
    if all(isinstance(value, dict) and "out_channels" in value for value in tree.values()):
        return _widths(tree)
    if is_net_config(tree):
        return from_net_config(tree)
    if is_mmrazor(tree):
        return from_mmrazor(tree)
    if not any(key in tree for key in _CHOSEN) and type(tree.get("format")) is not int:
        return {"choices": {str(key): _chosen(str(key), value) for key, value in tree.items()}}
    return _ours(tree)


def _load_yaml(path: Path) -> Any:
    text = _read_text(path)
    try:
        return yaml.load(text, Loader=_Loader)
    except SubnetError:
        raise
    except RecursionError as error:
        raise SubnetError("not a subnet file: it is nested too deeply") from error
    except Exception as error:  # whatever YAML's constructors make of odd tags and dates
        raise SubnetError(f"not YAML: {' '.join(str(error).split())[:200]}") from error


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise SubnetError("is no file but a folder, a pipe or a device")
        if path.stat().st_size > _LARGEST:
            raise SubnetError(f"has more than {_LARGEST:,} bytes; is it a subnet file?")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubnetError("not a UTF-8 text file; is it a subnet file?") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SubnetError(f"cannot read: {reason}") from error


def _ours(tree: dict[Any, Any]) -> dict[str, Any]:
    for key in tree:
        if key not in _OURS:
            raise SubnetError(f"unknown key {shown(key)}{suggestion(key, _OURS)}")
    if tree.get("format", 1) != 1:
        raise SubnetError(f"format wants 1, got {shown(tree['format'])}; update razorlite")
    choices = _mapping(tree, "choices").items()
    channels = _mapping(tree, "channels").items()
    dropped = _mapping(tree, "dropped").items()
    return {
        "choices": {str(key): _chosen(str(key), value) for key, value in choices},
        "channels": {str(key): _kept(str(key), value) for key, value in channels},
        "dropped": {str(key): _dropped(str(key), value) for key, value in dropped},
        "fingerprint": str(tree.get("fingerprint") or ""),
        "cost": _numbers(tree, "cost"),
        "scores": _numbers(tree, "scores"),
        "origin": _mapping(tree, "origin"),
    }


def _chosen(key: str, value: Any) -> Value:
    """Return the value in `value`, `{chosen: value}` or `{chosen: [value]}`."""
    if isinstance(value, dict):
        if "chosen" not in value:
            raise SubnetError(f"{short(key)} wants 'chosen: NAME', got {shown(value)}")
        value = value["chosen"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not is_value(value):
        advice = "; write names such as on, off, yes and no in quotes"
        raise SubnetError(
            f"{short(key)} wants one name or number, got {shown(value)}"
            f"{advice if isinstance(value, bool) else ''}"
        )
    return value  # type: ignore[no-any-return]


def _widths(tree: dict[Any, dict[Any, Any]]) -> dict[str, Any]:
    """Return the first channels that MMRazor 0.x keeps, by layer, and how many there were."""
    kept = {str(key): _kept(str(key), value["out_channels"]) for key, value in tree.items()}
    whole = {str(k): v["raw_out_channels"] for k, v in tree.items() if "raw_out_channels" in v}
    return {"channels": kept, "origin": {"made_by": "MMRazor", "whole": whole}}


def _kept(key: str, value: Any) -> tuple[int, ...]:
    """Return numbers of channels; a single number means so many of the first."""
    if type(value) is int and 0 < value <= _WIDEST:
        return tuple(range(value))
    whole = isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
    if not whole or not value or sorted(set(value)) != value:
        raise SubnetError(
            f"channels.{short(key)} wants rising channel numbers from 0, or how many of the first "
            f"channels stay, got {shown(value)}"
        )
    return tuple(value)


def _dropped(key: str, value: Any) -> tuple[str | int, ...]:
    if key not in _PARTS:
        raise SubnetError(f"dropped knows {', '.join(_PARTS)}, got {shown(key)}")
    kind, what = _PARTS[key]
    whole = isinstance(value, list) and all(type(item) is kind for item in value)
    if not whole or not value or len(set(value)) < len(value):
        raise SubnetError(f"dropped.{key} wants different {what}, got {shown(value)}")
    if kind is int and min(value) < 0:
        raise SubnetError(f"dropped.{key} wants numbers from 0, got {shown(value)}")
    return tuple(value)


def _mapping(tree: dict[Any, Any], name: str) -> dict[Any, Any]:
    value = tree.get(name) or {}
    if not isinstance(value, dict):
        raise SubnetError(f"{name} wants a block of 'key: value' lines, got {shown(value)}")
    return value


def _numbers(tree: dict[Any, Any], name: str) -> dict[str, float]:
    numbers = _mapping(tree, name)
    for key, value in numbers.items():
        if type(value) not in (int, float):
            raise SubnetError(f"{name}.{short(key)} wants a number, got {shown(value)}")
        if not _is_finite(value):
            raise SubnetError(f"{name}.{short(key)} wants a finite number, got {shown(value)}")
    return {str(key): value for key, value in numbers.items()}


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def shown(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    text = f"{text!r}" if isinstance(value, str) else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def short(key: Any) -> str:
    """Return a key as it is written, in one line and not too long."""
    text = " ".join(str(key).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


class _Loader(yaml.SafeLoader):
    """Refuses a key written twice, and aliases, of which a short file can make gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise SubnetError(f"line {line}: aliases (*) have no place in a subnet file")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                line = key.start_mark.line + 1
                raise SubnetError(f"line {line}: {shown(key.value)} is written twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
