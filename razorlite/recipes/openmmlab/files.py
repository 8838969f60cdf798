"""Python configurations of MMEngine and MMCV: statements, bases and merging; nothing is run."""

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from razorlite.core.errors import ConfigError
from razorlite.core.yaml_lines import MOST_BYTES, Node
from razorlite.recipes.openmmlab.expressions import Expressions, Imported, Refusal, plain

_MOST_FILES = 50
_DEEPEST = 20
_HIDDEN = ("_base_", "__file__")


@dataclass
class Source:
    """A configuration merged with its bases.

    Attributes:
        tree: each variable that is left at the end.
        read: names of variables that others were made of.
        remarks: what is not followed, "file.py:3: what and why" each.
        files: how many files were read.
    """

    tree: dict[str, Node] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    files: int = 0


def read_source(path: Path) -> Source:
    """Read a Python configuration and its bases, without running them.

    Raises:
        ConfigError: a file cannot be read, is no Python, or is a base of itself.
    """
    source = Source()
    source.tree = _File(path, source, ()).read()
    return source


class _File:
    """One file: its variables, and what they are merged with."""

    def __init__(self, path: Path, source: Source, inside: Sequence[Path]) -> None:
        if path.resolve() in [one.resolve() for one in inside]:
            raise ConfigError(f"{inside[-1]}: {path} is a base of itself; remove one of the two")
        if len(inside) > _DEEPEST or source.files >= _MOST_FILES:
            raise ConfigError(f"{path}: more than {_MOST_FILES} files, or {_DEEPEST} deep")
        source.files += 1
        self.path, self.source, self.inside = path, source, (*inside, path)
        self.names: dict[str, Node] = {}
        self.base: dict[str, Node] = {}
        self.own: set[str] = set()
        self.expressions = Expressions(str(path), self.names, source.read)

    def read(self) -> dict[str, Node]:
        """Return the variables, merged over those of the bases."""
        self._templates()
        body = _parse(self.path).body
        for statement in sorted(body, key=lambda one: not _names_bases(one)):
            self._follow(statement)
        values = {name: self.names[name] for name in self.names if name in self.own}
        merged = merge(Node(self.base, ""), Node(values, "")).value
        return {name: node for name, node in merged.items() if _is_value(name, node)}

    def _templates(self) -> None:
        names = {"fileDirname": str(self.path.parent), "fileBasename": self.path.name}
        names |= {"fileBasenameNoExtension": self.path.stem, "fileExtname": self.path.suffix}
        self.names.update({name: Node(text, "") for name, text in names.items()})

    def _follow(self, statement: ast.stmt) -> None:
        try:
            self._statement(statement)
        except Refusal as refusal:
            self._remark(refusal.line, str(refusal))

    def _remark(self, line: int, text: str) -> None:
        self.source.remarks.append(f"{self.path}:{line}: {text}")

    def _statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            value = self.expressions.whole(statement.value)
            for target in statement.targets:
                self._assign(target, value)
        elif isinstance(statement, ast.ImportFrom):
            self._import(statement)
        elif isinstance(statement, ast.With | ast.If) and _is_for_bases(statement):
            for inner in statement.body:
                self._statement(inner)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                name = alias.asname or alias.name.partition(".")[0]
                self.names[name] = Node(Imported(name), "")
        elif isinstance(statement, ast.Expr):
            self._expression(statement.value)
        elif not _changes_nothing(statement):
            raise Refusal(f"{_first_line(statement)} is not followed", statement.lineno)

    def _assign(self, target: ast.expr, value: Node) -> None:
        if isinstance(target, ast.Name) and target.id == "_base_":
            self._read_bases(value)
        elif isinstance(target, ast.Name):
            self.names[target.id] = value
            self.own.add(target.id)
        elif isinstance(target, ast.Subscript | ast.Attribute):
            owner = self.expressions.follow(target.value).value
            key = (
                target.attr
                if isinstance(target, ast.Attribute)
                else self.expressions.plain(target.slice)
            )
            self._put(owner, key, value, target)
        else:
            raise Refusal(f"{ast.unparse(target)} = ... is not followed", target.lineno)

    def _put(self, owner: object, key: object, value: Node, target: ast.expr) -> None:
        if isinstance(owner, dict):
            owner[str(key)] = value
        elif isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner):
            owner[key] = value
        else:
            raise Refusal(f"{ast.unparse(target)} = ... is not followed", target.lineno)

    def _expression(self, call: ast.expr) -> None:
        """Follow `name.merge(dict(...))` and `name.update(dict(...))`; a docstring is nothing."""
        if isinstance(call, ast.Constant):
            return
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            raise Refusal(f"{ast.unparse(call)[:60]} is not run", call.lineno)
        owner, method = self.expressions.follow(call.func.value), call.func.attr
        given = [self.expressions.whole(argument) for argument in call.args]
        if method in ("merge", "update") and isinstance(owner.value, dict):
            new = {k.arg: self.expressions.whole(k.value) for k in call.keywords if k.arg}
            for part in (*given, Node(new, "")):
                self._overlay(owner, part, method)
        elif method in ("append", "extend") and isinstance(owner.value, list) and len(given) == 1:
            owner.value.extend(given if method == "append" else given[0].value)
        else:
            raise Refusal(f"{ast.unparse(call)[:60]} is not run", call.lineno)

    def _overlay(self, owner: Node, new: Node, method: str) -> None:
        if not isinstance(new.value, dict):
            return
        owner.value.update(merge(owner, new).value if method == "merge" else new.value)

    def _import(self, statement: ast.ImportFrom) -> None:
        if statement.level == 0:
            for alias in statement.names:
                self.names[alias.asname or alias.name] = Node(Imported(alias.name), "")
            return
        folder = self.path.parents[min(statement.level, len(self.path.parents)) - 1]
        path = folder.joinpath(*(statement.module or "").split(".")).with_suffix(".py")
        found = self._base(path, statement.lineno)
        asked = [alias.name for alias in statement.names]
        taken = found if asked == ["*"] else {n: found[n] for n in asked if n in found}
        self.names.update(taken)
        self.own |= taken.keys()

    def _read_bases(self, value: Node) -> None:
        bases = value.value if isinstance(value.value, list) else [value]
        for base in bases:
            line = int(base.source.rpartition(":")[2] or 0)
            name = str(plain(base))
            if "::" in name or not name.endswith(".py"):
                self._remark(line, f"_base_: {name} is no Python file beside this one; left out")
                continue
            found = self._base(self.path.parent / name, line)
            self.base = merge(Node(self.base, ""), Node(found, "")).value
        self.names["_base_"] = Node(self.base, "")

    def _base(self, path: Path, line: int) -> dict[str, Node]:
        if not path.is_file():
            raise ConfigError(f"{self.path}:{line}: _base_: no file {path}; put it there")
        return _File(path, self.source, self.inside).read()


def merge(base: Node, new: Node) -> Node:
    """Return `base` overlaid with `new`: dicts by key but for those with `_delete_`, else replaced.

    What follows `_delete_` is a new dict; sources stay with their values.
    """
    if not isinstance(new.value, dict):
        return new
    own = {key: child for key, child in new.value.items() if key != "_delete_"}
    deletes = "_delete_" in new.value and bool(plain(new.value["_delete_"]))
    old = base.value if isinstance(base.value, dict) and not deletes else {}
    nothing = Node(None, "")
    merged = {key: merge(old.get(key, nothing), child) for key, child in own.items()}
    return Node({**old, **merged}, new.source)


def _parse(path: Path) -> ast.Module:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes; is it a configuration?")
        with warnings.catch_warnings():  # of odd spellings, which are the file's own matter
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid Python: {error.msg}") from error
    except (UnicodeDecodeError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}: not a Python configuration that can be read") from error


def _names_bases(statement: ast.stmt) -> bool:
    """Return whether a statement is `_base_ = ...`, which counts wherever it stands."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "_base_" for target in targets)


def _is_for_bases(statement: ast.With | ast.If) -> bool:
    """Return whether a block holds bases: `with read_base():`, or `if "_base_":` before it."""
    if isinstance(statement, ast.If):
        return isinstance(statement.test, ast.Constant) and statement.test.value == "_base_"
    return "read_base" in ast.unparse(statement.items[0].context_expr)


def _changes_nothing(statement: ast.stmt) -> bool:
    """Return whether a statement leaves all values as they are: `pass`, or `del` of a variable."""
    targets = statement.targets if isinstance(statement, ast.Delete) else [statement]
    return all(isinstance(target, ast.Name | ast.Pass) for target in targets)


def _is_value(name: str, node: Node) -> bool:
    return name not in _HIDDEN and not isinstance(node.value, Imported)


def _first_line(statement: ast.stmt) -> str:
    text = ast.unparse(statement).splitlines()[0]
    return text if len(text) <= 60 else f"{text[:57]}..."
