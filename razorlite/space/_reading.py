"""Reading subnet files and finding their keys in a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from razorlite.core.errors import SubnetError
from razorlite.core.registry import suggestion

if TYPE_CHECKING:
    from razorlite.space.subnet import Subnet

_OURS = ("format", "fingerprint", "origin", "cost", "scores", "choices", "channels")


def parse_file(path: Path) -> dict[str, Any]:
    """Return the constructor arguments of the subnet in a file.

    Raises:
        SubnetError: it cannot be read or is malformed.
    """
    tree = _load_yaml(path)
    if not isinstance(tree, dict) or not tree:
        raise SubnetError(f"wants 'key: value' lines, got {_show(tree)}; is it a subnet file?")
    if not any(key in tree for key in ("choices", "channels")):
        return {"choices": {str(key): _chosen(str(key), value) for key, value in tree.items()}}
    return _ours(tree)


def read_choices(
    subnet: Subnet,
    choices: Mapping[str, tuple[str, ...]],
    paths: Mapping[str, str],
    fingerprint: str,
) -> Subnet:
    """Return `subnet` keyed by space id, checked against a space.

    Args:
        subnet: keyed by space id or module path.
        choices: names of the choices of each place, by space id.
        paths: module path of each place to its space id.
        fingerprint: of the space.

    Raises:
        SubnetError: it is no point of the space.
    """
    found: dict[str, str] = {}
    for key, name in subnet.choices.items():
        place = _place(key, choices, paths)
        if name not in choices[place]:
            raise SubnetError(
                f"{key} wants one of {', '.join(choices[place])}, got {_show(name)}"
                f"{suggestion(name, choices[place])}"
            )
        if found.setdefault(place, name) != name:
            raise SubnetError(f"{key} wants {found[place]} as elsewhere in {place}, got {name}")
    for place in choices:
        if place not in found:
            raise SubnetError(
                f"no choice for {place}: wants {len(choices)} places, got {len(found)}; add "
                f"'{place}: {choices[place][0]}' or another of {', '.join(choices[place])}"
            )
    if subnet.fingerprint not in ("", fingerprint):
        raise SubnetError(
            f"belongs to another search space: wants fingerprint {fingerprint}, got "
            f"{subnet.fingerprint}; use the config it was searched with"
        )
    ordered = {place: found[place] for place in choices}
    return replace(subnet, choices=ordered, fingerprint=fingerprint)


def _place(key: str, choices: Mapping[str, tuple[str, ...]], paths: Mapping[str, str]) -> str:
    """Return the space id that a key means; a path may have more or fewer parts in front."""
    if key in choices:
        return key
    ends = {
        place
        for path, place in paths.items()
        if f".{path}".endswith(f".{key}") or f".{key}".endswith(f".{path}")
    }
    if len(ends) == 1:
        return ends.pop()
    known = [*choices, *paths]
    shown = f"{known[0]} to {list(choices)[-1]}"
    raise SubnetError(
        f"{key} is no place of this search space, which has {len(choices)} ({shown})"
        f"{suggestion(key, known) or '; is the file of another model?'}"
    )


def _load_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise SubnetError("not a UTF-8 text file; is it a subnet file?") from error
    except OSError as error:
        raise SubnetError(f"cannot read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SubnetError(f"not YAML: {' '.join(str(error).split())}") from error


def _ours(tree: dict[Any, Any]) -> dict[str, Any]:
    for key in tree:
        if key not in _OURS:
            raise SubnetError(f"unknown key {_show(key)}{suggestion(key, _OURS)}")
    if tree.get("format", 1) != 1:
        raise SubnetError(f"format wants 1, got {_show(tree['format'])}; update razorlite")
    choices = _mapping(tree, "choices").items()
    channels = _mapping(tree, "channels").items()
    return {
        "choices": {str(key): _chosen(str(key), value) for key, value in choices},
        "channels": {str(key): _kept(str(key), value) for key, value in channels},
        "fingerprint": str(tree.get("fingerprint") or ""),
        "cost": _figures(tree, "cost"),
        "scores": _figures(tree, "scores"),
        "origin": _mapping(tree, "origin"),
    }


def _chosen(key: str, value: Any) -> str:
    """Return the name in `name`, `{chosen: name}` or `{chosen: [name]}`."""
    if isinstance(value, dict):
        if "chosen" not in value:
            raise SubnetError(f"{key} wants 'chosen: NAME', got {_show(value)}")
        value = value["chosen"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise SubnetError(f"{key} wants the name of one choice, got {_show(value)}")
    return value


def _kept(key: str, value: Any) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
    if not whole or not value or sorted(set(value)) != value:
        raise SubnetError(f"channels.{key} wants rising channel numbers from 0, got {_show(value)}")
    return tuple(value)


def _mapping(tree: dict[Any, Any], name: str) -> dict[Any, Any]:
    value = tree.get(name) or {}
    if not isinstance(value, dict):
        raise SubnetError(f"{name} wants a block of 'key: value' lines, got {_show(value)}")
    return value


def _figures(tree: dict[Any, Any], name: str) -> dict[str, float]:
    figures = _mapping(tree, name)
    for key, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SubnetError(f"{name}.{key} wants a number, got {_show(value)}")
    return {str(key): value for key, value in figures.items()}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Loader(yaml.SafeLoader):
    """Refuses a key written twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise SubnetError(f"line {node.start_mark.line + 1}: {_show(twice)} is written twice")
        return super().construct_mapping(node, deep)
