"""Configuration files: reading, `_base_`, merging, overrides and custom imports."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from razorlite.core import shipped
from razorlite.core.errors import ConfigError
from razorlite.core.yaml_lines import DEEPEST, MOST_BYTES, Node, dump, from_tree, parse, plain

Key = tuple[str, ...]
Overrides = Sequence[str] | Mapping[str, Any]

_MOST_FILES = 100
_MOST_FAULTS = 20


class LocatedConfigError(ConfigError):
    """A ConfigError whose message already starts with file and line."""


class Config:
    """A merged configuration that knows where each value was written.

    Attributes:
        tree: plain nested dicts and lists.
        path: the file it was read from, or None.
        name: the file's name without folder and ending, or "config".
        imported: whether modules that it names may be imported.
        unchecked: what could not be checked as they may not, a remark each.
    """

    def __init__(
        self, tree: dict[str, Any], *, sources: Mapping[Key, str], path: Path | None = None
    ) -> None:
        self.tree = tree
        self.path = path
        self.name = path.stem if path else "config"
        self.imported = True
        self.unchecked: list[str] = []
        self._sources = dict(sources)

    def where(self, path: str | Key = "") -> str:
        """Return "file.yaml:12" for a dotted path, or for the nearest block around it."""
        key = split_path(path) if isinstance(path, str) else tuple(path)
        while key and key not in self._sources:
            key = key[:-1]
        return self._sources.get(key, "config")

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value at a dotted path such as "model.neck" or "stages.0.depth"."""
        value: Any = self.tree
        for part in split_path(path):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and _number(part) < len(value):
                value = value[_number(part)]
            else:
                return default
        return value

    def dump(self) -> str:
        """Return YAML text of the merged tree; loading it gives an equal tree."""
        return dump(self.tree)


def load(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Overrides = (),
    *,
    imports: bool = True,
) -> Config:
    """Read a configuration with its bases, apply overrides and import `custom_imports`.

    Args:
        config: a YAML file, the name of a shipped one, or nested dicts and lists.
        overrides: "a.b=value" or "a.0.b=value" each, the value is YAML; or a mapping of such paths
            to plain values. A dict is merged, any other value replaces. A `type` is set before
            other keys, as a changed type drops them.
        imports: import modules of `custom_imports`, and later those of dotted types: this runs
            their code.

    Returns:
        The merged tree. Dicts merge key by key, lists are replaced, a block whose `type` differs
        replaces the base's block; where None is not a legal value, `null` stands for the default.

    Raises:
        ConfigError: all faults found, one a line, with file and line.
    """
    faults: list[str] = []
    root, path = _read(config, faults)
    for key, value in _settings(overrides, faults):
        root = _set(root, key, value, faults)
    raise_faults(faults)
    sources = dict(_sources(root, ()))
    result = Config(plain(root), sources=sources, path=path)
    result.imported = imports
    if imports:
        _import_custom(result, faults)
    raise_faults(faults)
    return result


def raise_faults(faults: Sequence[str]) -> None:
    """Raise one ConfigError with every fault on its own line, if there are any."""
    lines = list(dict.fromkeys(faults))
    if len(lines) > _MOST_FAULTS:
        lines[_MOST_FAULTS:] = [f"... and {len(lines) - _MOST_FAULTS} more faults"]
    if lines:
        raise LocatedConfigError("\n".join(lines))


def split_path(path: str) -> Key:
    """Split "a.0.b" into ("a", "0", "b"); a part with dots is written in double quotes."""
    return tuple(quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^."]+)', path))


def join_path(key: Key) -> str:
    """Return the dotted spelling of a path."""
    return ".".join(f'"{part}"' if "." in part else part for part in key)


def merge(base: Node, new: Node) -> Node:
    """Return `base` overlaid with `new`: dicts by key unless `type` differs, all else replaced."""
    if not (isinstance(base.value, dict) and isinstance(new.value, dict)):
        return new
    kinds = [block["type"].value for block in (base.value, new.value) if "type" in block]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        return new
    merged = dict(base.value)
    for key, child in new.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, new.source)


def _read(config: Any, faults: list[str]) -> tuple[Node, Path | None]:
    if isinstance(config, Config):
        return _with_sources(config), config.path
    if isinstance(config, Mapping):
        return from_tree(config, "config"), None
    path = shipped.find(config)
    return _Files(faults).read(path), path


def _with_sources(config: Config) -> Node:
    """Rebuild the nodes of a loaded configuration."""

    def rebuild(value: Any, key: Key) -> Node:
        if isinstance(value, dict):
            children = {name: rebuild(child, (*key, name)) for name, child in value.items()}
            return Node(children, config.where(key))
        if isinstance(value, list):
            items = [rebuild(child, (*key, str(index))) for index, child in enumerate(value)]
            return Node(items, config.where(key))
        return Node(value, config.where(key))

    return rebuild(config.tree, ())


class _Files:
    """Reads a file and its bases, each file once."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self._read: dict[str, Node] = {}

    def read(self, path: Path, inside: tuple[Path, ...] = ()) -> Node:
        """Read a file and merge it over its bases; `inside` are the files that led here."""
        real = os.path.realpath(path)
        if real not in self._read:
            self._read[real] = self._merged(path, inside)
        return self._read[real]

    def _merged(self, path: Path, inside: tuple[Path, ...]) -> Node:
        node = parse(_read_text(path), str(path), self.faults)
        if node.value is None:
            node = Node({}, node.source)
        if not isinstance(node.value, dict):
            self.faults.append(f"{path}: wants 'key: value' lines, got {type(node.value).__name__}")
            return Node({}, str(path))
        result = Node({}, str(path))
        for base, source in _bases(node.value.pop("_base_", None), self.faults):
            result = merge(result, self._base(path, base, source, (*inside, path)))
        return merge(result, node)

    def _base(self, path: Path, base: str, source: str, chain: tuple[Path, ...]) -> Node:
        """Read one base of a file; an empty block where it cannot be used."""
        try:
            found = _find_base(path, base)
        except ConfigError as error:
            self.faults.append(f"{source}: _base_: {error}")
            return Node({}, source)
        if any(_same(found, seen) for seen in chain):
            self.faults.append(
                f"{source}: _base_: {found} is a base of itself; remove one of the two"
            )
        elif len(chain) > DEEPEST or len(self._read) > _MOST_FILES:
            self.faults.append(
                f"{source}: _base_: more than {DEEPEST} bases of bases, or {_MOST_FILES} files; "
                f"join some of them"
            )
        else:
            return self.read(found, chain)
        return Node({}, source)


def _find_base(path: Path, base: str) -> Path:
    """Return the file that `_base_` names: relative to its file, or shipped."""
    beside = Path(os.path.normpath(path.parent / base))
    if beside.is_file():
        return beside
    try:
        return shipped.find_shipped(base)
    except ConfigError:
        raise ConfigError(f"no file {beside}{shipped.near_yaml(beside)}") from None


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes; is it a configuration?")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a UTF-8 text file; is it a configuration?") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _bases(node: Node | None, faults: list[str]) -> list[tuple[str, str]]:
    if node is None:
        return []
    items = node.value if isinstance(node.value, list) else [node]
    for item in items:
        if not isinstance(item.value, str):
            faults.append(f"{item.source}: _base_: wants a file or a list of files")
    return [(item.value, item.source) for item in items if isinstance(item.value, str)]


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _settings(overrides: Overrides, faults: list[str]) -> list[tuple[Key, Node]]:
    """Return the path and the value of each override; types come first."""
    if isinstance(overrides, Mapping):
        sources = {path: f"--set {path}" for path in overrides}
        found = [(split_path(p), from_tree(overrides[p], s)) for p, s in sources.items()]
    else:
        found = [setting for text in overrides for setting in _setting(text, faults)]
    return sorted(found, key=lambda setting: setting[0][-1] != "type")


def _setting(override: str, faults: list[str]) -> list[tuple[Key, Node]]:
    """Return the path and the value of a text KEY=VALUE, or nothing and a fault."""
    path, equals, text = override.partition("=")
    key, source = split_path(path.strip()), f"--set {path.strip()}"
    if not equals or not key:
        faults.append(f"--set {override}: wants KEY=VALUE, for instance --set seed=1")
        return []
    if len(key) > DEEPEST:
        faults.append(f"--set: a key more than {DEEPEST} parts deep: {path[:40]}...")
        return []
    return [(key, parse(text, source, faults, fixed_source=source))]


def _set(root: Node, key: Key, value: Node, faults: list[str]) -> Node:
    try:
        return _put(root, key, value)
    except ConfigError as error:
        faults.append(f"{value.source}: {error}")
        return root


def _put(node: Node, key: Key, new: Node, done: Key = ()) -> Node:
    """Return a copy of `node` with `new` merged in at `key`."""
    if not key:
        return merge(node, new)
    head, rest = key[0], key[1:]
    if isinstance(node.value, list):
        index = _index(node.value, head, done)
        items = list(node.value)
        items[index] = _put(items[index], rest, new, (*done, head))
        return Node(items, node.source)
    if node.value is not None and not isinstance(node.value, dict):
        raise ConfigError(f"{join_path(done)} is {node.value!r}, not a block with keys")
    children = node.value or {}
    if rest:
        child = _put(children.get(head, Node(None, new.source)), rest, new, (*done, head))
        return Node({**children, head: child}, node.source)
    return merge(Node(children, node.source), Node({head: new}, node.source))


def _index(items: list[Node], head: str, done: Key) -> int:
    if not head.isdecimal():
        raise ConfigError(f"{join_path(done)} is a list; name an item by its index from 0")
    if _number(head) >= len(items):
        raise ConfigError(f"{join_path(done)} has {len(items)} items; there is no item {head[:20]}")
    return _number(head)


def _number(text: str) -> int:
    """Return the index that a part of a path is, or one beyond any list."""
    return int(text) if text.isdecimal() and len(text) < 10 else sys.maxsize


def _sources(node: Node, key: Key) -> Iterator[tuple[Key, str]]:
    yield key, node.source
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            yield from _sources(child, (*key, name))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _sources(child, (*key, str(index)))


def _import_custom(config: Config, faults: list[str]) -> None:
    """Import the user's modules; the configuration's folder and the current one are searched."""
    modules = config.tree.get("custom_imports") or []
    where = config.where("custom_imports")
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        faults.append(f"{where}: custom_imports: wants a list of module names, got {modules!r}")
        return
    _search_in(Path(where.rpartition(":")[0]).parent, (config.path or Path()).parent, Path())
    for index, name in enumerate(modules):
        try:
            importlib.import_module(name)
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            faults.append(
                f"{config.where(('custom_imports', str(index)))}: custom_imports: cannot import "
                f"{name!r}: {reason}; looked beside the configuration and in the current folder too"
            )


def _search_in(*folders: Path) -> None:
    """Add folders to the end of the import path, so that they hide nothing installed."""
    for folder in folders:
        if str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))
