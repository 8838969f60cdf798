"""YAML read into nodes that know their line. Scalars follow YAML 1.2, so `1e-4` is a number."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import ComposerError

MOST_BYTES = 500_000
DEEPEST = 64
_MOST_VALUES = 30_000
_TAG = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
_FLOAT = re.compile(
    r"""^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+[eE][-+]?[0-9]+
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.X,
)


@dataclass
class Node:
    """A value of a configuration and where it was written.

    Attributes:
        value: a scalar, a list of nodes, or a dict of text keys to nodes.
        source: "file.yaml:12", "--set a.b" or "config".
    """

    value: Any
    source: str


class _Loader(yaml.SafeLoader):
    """Composes no more values than a person writes, and no deeper."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 PyYAML's own spelling

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            self._refuse(f"more than {_MOST_VALUES} values; is it a configuration?")
        if self._depth >= DEEPEST:
            self._refuse(f"blocks more than {DEEPEST} deep; is it a configuration?")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, problem: str) -> None:
        raise ComposerError(None, None, problem, self.peek_event().start_mark)


_Loader.add_implicit_resolver(
    _TAG + "bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    _TAG + "null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    _TAG + "int", re.compile("^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(_TAG + "merge", re.compile("^<<$"), ["<"])


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_Dumper.add_multi_representer(
    object, lambda dumper, value: dumper.represent_str(f"<{type(value).__qualname__} object>")
)


def parse(text: str, name: str, faults: list[str], fixed_source: str | None = None) -> Node:
    """Read a YAML text.

    Args:
        text: one YAML document.
        name: what stands before the line number in sources and faults.
        faults: gets a line for each duplicate key, foreign tag or syntax error.
        fixed_source: a source for all nodes, instead of name and line.
    """
    reader = _Reader(name, faults, fixed_source)
    try:
        root = yaml.compose(text, Loader=_Loader)
        return Node(None, name) if root is None else reader.read(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = " (indent with spaces)" if "'\\t'" in str(error.problem) else ""
        context = f" {error.context}" if error.context else ""
        faults.append(f"{reader.at(mark)}: not valid YAML: {error.problem}{context}{hint}")
    except yaml.reader.ReaderError as error:
        where = fixed_source or f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        character = f"{error.character:#06x}"
        faults.append(f"{where}: not valid YAML: the character {character} is no text; remove it")
    return Node(None, name)


def dump(tree: Any) -> str:
    """Return YAML text that `parse` reads back as an equal tree."""
    return yaml.dump(
        tree,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=100,
        allow_unicode=True,
    )


def with_blocks(text: str, blocks: Mapping[str, Any]) -> str:
    """Return YAML text with other values of keys at its top; all else stays as it is written.

    Args:
        text: lines of `key: value`.
        blocks: key to its new value; a key that is not there is added at the end.
    """
    lines, node = text.rstrip().splitlines(), yaml.compose(text, Loader=_Loader)
    starts = {} if node is None else {k.value: k.start_mark.line for k, _ in node.value}
    for key in sorted(blocks, key=lambda name: -starts.get(name, len(lines))):
        start = starts.get(key, len(lines))
        end = min((s for s in starts.values() if s > start), default=len(lines))
        while end > start and re.match(r"\s*(#|$)", lines[end - 1]):  # it is about what follows
            end -= 1
        lines[start:end] = _block(key, blocks[key]).splitlines()
    return "\n".join(lines) + "\n"


def _block(key: str, value: Any) -> str:
    if isinstance(value, dict | list):
        return dump({key: value})
    return ": ".join(dump([scalar])[1:-2] for scalar in (key, value))  # without brackets


def plain(node: Node) -> Any:
    """Return the node's value without sources."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def from_tree(tree: Any, source: str) -> Node:
    """Return a node for plain nested dicts and lists; other objects are kept as they are."""
    if isinstance(tree, Mapping):
        return Node({str(key): from_tree(value, source) for key, value in tree.items()}, source)
    if isinstance(tree, list | tuple):
        return Node([from_tree(value, source) for value in tree], source)
    return Node(tree, source)


class _Reader:
    """Turns PyYAML's nodes into ours and collects faults."""

    def __init__(self, name: str, faults: list[str], fixed_source: str | None) -> None:
        self.name = name
        self.faults = faults
        self.fixed_source = fixed_source
        self.open: set[int] = set()
        self.count = 0

    def at(self, mark: Any) -> str:
        if self.fixed_source is not None or mark is None:
            return self.fixed_source or self.name
        return f"{self.name}:{mark.line + 1}"

    def read(self, node: yaml.Node, source: str | None = None) -> Node:
        source = source or self.at(node.start_mark)
        self.count += 1
        if self.count > _MOST_VALUES:
            problem = f"aliases repeat more than {_MOST_VALUES} values; write out what is needed"
            raise ComposerError(None, None, problem, node.start_mark)
        if id(node) in self.open:
            self.faults.append(f"{source}: an alias refers to the block it stands in")
            return Node(None, source)
        self.open.add(id(node))
        value = self._value(node, source)
        self.open.remove(id(node))
        return Node(value, source)

    def _value(self, node: yaml.Node, source: str) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar(node, source)
        self.faults.append(
            f"{source}: the tag {_short(node.tag)!r} is not allowed; write plain YAML"
        )
        return None

    def _scalar(self, node: yaml.ScalarNode, source: str) -> Any:
        kind = node.tag.removeprefix(_TAG)
        try:
            return _SCALARS[kind](node.value)
        except OverflowError:
            self.faults.append(f"{source}: {_short(node.value)} is too large for a number")
        except ValueError:
            self.faults.append(f"{source}: {_short(repr(node.value))} is no {kind}")
        return None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        children: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in node.value:
            source = self.at(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or _UNPRINTABLE.search(key_node.value):
                self.faults.append(f"{source}: a key must be plain text")
            elif key_node.tag == _TAG + "merge":
                merged = {**self._merge_key(value_node, source), **merged}
            elif key_node.value in children:
                first = children[key_node.value].source
                key = _short(repr(key_node.value))
                self.faults.append(
                    f"{source}: key {key} is written twice, first at {first}; keep one"
                )
            else:
                children[key_node.value] = self.read(value_node, source)
        return {**merged, **children}

    def _merge_key(self, node: yaml.Node, source: str) -> dict[str, Node]:
        """Read what `<<` brings in; of several blocks, the first has precedence."""
        blocks = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Node] = {}
        for block in reversed(blocks):
            if isinstance(block, yaml.MappingNode):
                merged.update(self.read(block).value or {})
            else:
                self.faults.append(f"{source}: '<<' wants a block or a list of blocks")
        return merged


def _text(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError
    return text


def _int(text: str) -> int:
    if len(text) > 40:  # a longer one takes Python long to read
        raise OverflowError
    value = int(text.replace("_", ""), 16 if text.lower().startswith("0x") else 10)
    if not -(2**63) <= value < 2**63:
        raise OverflowError
    return value


def _float(text: str) -> float:
    value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(value) and "inf" not in text.lower():
        raise OverflowError
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": _text,
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": _float,
}
