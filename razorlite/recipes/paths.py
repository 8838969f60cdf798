"""Paths in configurations: whose folder they start at, and how a run folder's file writes them.

A path that starts with `./` or `../` starts at the file that names it, if it leads to something
from there. Any other one starts at the current folder and, if it leads nowhere from there, at that
file. So run folders may be moved, and be used from anywhere.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from razorlite.core import config as core_config
from razorlite.core.config import Config

_KEYS = (
    "subnet",
    "load_from",
    "load_from.checkpoint",
    "distiller.teacher",
    "distiller.checkpoint",
    "search.retraining.config",
)
_TEACHER_KEYS = ("config", "checkpoint", "subnet")


def located(config: Config) -> Config:
    """Return a configuration whose paths are good in the current folder."""
    found = {key: _located(path, config.where(key)) for key, path in _paths(config).items()}
    return core_config.load(config, _changed(config, found))


def portable(config: Config, folder: Path) -> Config:
    """Return a configuration whose paths are good in a file of a folder, wherever it is moved.

    Args:
        config: a `located` one.
        folder: where the file will lie. Paths into it start there, and so do relative ones that
            lead to something; all others (names of shipped configurations) stay.
    """
    found = {key: _portable(path, folder) for key, path in _paths(config).items()}
    return core_config.load(config, _changed(config, found))


def teacher_keys(config: Config) -> list[str]:
    """Return where a configuration may name files of its teachers."""
    several = config.get("distiller.teachers")
    names = [f"teachers.{name}" for name in several] if isinstance(several, dict) else []
    return [f"distiller.{n}.{key}" for n in ("teacher", *names) for key in _TEACHER_KEYS]


def _paths(config: Config) -> dict[str, str]:
    values = {key: config.get(key) for key in (*_KEYS, *teacher_keys(config))}
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _changed(config: Config, paths: Mapping[str, str]) -> dict[str, str]:
    return {key: path for key, path in paths.items() if path != config.get(key)}


def _located(path: str, source: str) -> str:
    file = source.rpartition(":")[0]
    beside = Path(file).parent / path
    if not file or source.startswith("--set ") or not beside.exists():
        return path
    explicit = path.startswith(("./", "../", ".\\", "..\\"))
    return str(beside) if explicit or not Path(path).exists() else path


def _portable(path: str, folder: Path) -> str:
    place, start = os.path.realpath(path), os.path.realpath(folder)
    if Path(place).is_relative_to(start):
        return f"./{Path(place).relative_to(start).as_posix()}"
    if Path(path).is_absolute() or not Path(path).exists():
        return path
    try:
        return Path(os.path.relpath(place, start)).as_posix()
    except ValueError:  # another drive
        return place
