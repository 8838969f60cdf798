"""A dict of a Python configuration whose keys are taken one by one; what nobody takes is named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from razorlite.core.errors import ConfigError
from razorlite.core.yaml_lines import Node
from razorlite.recipes.openmmlab.expressions import plain

Tree = dict[str, Any]
Losses = Mapping[str, Tree]
_SCOPES = ("mmdet", "mmcls", "mmpretrain", "mmengine", "mmrazor", "mmcv")


@dataclass
class Remarks:
    """What a conversion has to say, in the order of the configuration.

    Attributes:
        lines: "file.py:12: model.neck.foo: what is left out, and why" each.
    """

    lines: list[str] = field(default_factory=list)

    def add(self, source: str, path: str, text: str) -> None:
        """Add a remark once."""
        line = ": ".join(filter(None, [source, path, text]))
        if line not in self.lines:
            self.lines.append(line)


class Block:
    """A dict of the configuration.

    Args:
        node: the dict.
        path: where it stands, such as "model.neck".
        remarks: gets what is left out.
    """

    def __init__(self, node: Node, path: str, remarks: Remarks) -> None:
        self.node, self.path, self.remarks = node, path, remarks
        self._children: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        self._taken: set[str] = set()

    @classmethod
    def of(cls, node: Node, path: str, remarks: Remarks) -> "Block":
        """Return a block of a node.

        Raises:
            ConfigError: the node is no dict.
        """
        if not isinstance(node.value, dict):
            raise ConfigError(f"{node.source}: {path}: expected a dict, got {plain(node)!r}")
        return cls(node, path, remarks)

    @property
    def type(self) -> str:
        """The name of its class, without a scope such as `mmdet.`; empty if it names none."""
        name = str(self.take("type", ""))
        scope, _, rest = name.rpartition(".")
        return rest if scope in _SCOPES else name

    def __contains__(self, key: str) -> bool:
        return key in self._children and self._children[key].value is not None

    def take(self, key: str, default: Any = None) -> Any:
        """Return a plain value; None stands for what is left out."""
        self._taken.add(key)
        value = plain(self._children[key]) if key in self._children else None
        return default if value is None else value

    def give(self, key: str, default: Any = None) -> Any:
        """Return a plain value, None where it is None."""
        self._taken.add(key)
        return plain(self._children[key]) if key in self._children else default

    def block(self, key: str) -> "Block":
        """Return the block under a key, an empty one where there is none."""
        self._taken.add(key)
        node = self._children.get(key)
        if node is None or node.value is None:
            return Block(Node({}, self.node.source), self.at(key), self.remarks)
        return Block.of(node, self.at(key), self.remarks)

    def blocks(self, key: str) -> list["Block"]:
        """Return the blocks of a list under a key, or the one block that is there."""
        self._taken.add(key)
        node = self._children.get(key)
        if node is None or node.value is None:
            return []
        nodes = node.value if isinstance(node.value, list) else [node]
        return [Block.of(n, f"{self.at(key)}.{i}", self.remarks) for i, n in enumerate(nodes)]

    def lists(self, key: str) -> list[list["Block"]]:
        """Return the lists of blocks under a key."""
        self._taken.add(key)
        outer = self._children[key].value if key in self._children else []
        return [
            [Block.of(n, f"{self.at(key)}.{i}", self.remarks) for n in one.value]
            for i, one in enumerate(outer)
            if isinstance(one.value, list)
        ]

    def ignore(self, *keys: str) -> None:
        """Take keys that say nothing about models, data and training."""
        self._taken.update(keys)

    def expect(self, key: str, *values: Any) -> None:
        """Name a key that has a value other than those that have a counterpart."""
        if key in self._children and self.give(key) not in values:
            self.lose(key, f"{_shown(self.give(key))} has no counterpart")
        self._taken.add(key)

    def lose(self, key: str, why: str) -> None:
        """Name what is left out of the result."""
        self._taken.add(key)
        source = self._children[key].source if key in self._children else self.node.source
        self.remarks.add(source, self.at(key), f"{why}; left out")

    def refuse(self, what: str, known: Iterable[str]) -> ConfigError:
        """Return what to raise for a type without which there is nothing to write."""
        return ConfigError(
            f"{self.node.source}: {self.path}: {what} has no counterpart; there are "
            f"{', '.join(sorted(known))}"
        )

    def finish(self) -> None:
        """Name every key that nobody took."""
        for key, child in self._children.items():
            if key not in self._taken:
                self.lose(key, f"{_shown(plain(child))} has no counterpart")

    def at(self, key: str) -> str:
        """Return where a key stands."""
        return f"{self.path}.{key}" if self.path else key


def without(tree: Tree, **defaults: Any) -> Tree:
    """Return a block without the keys that have the default value, and without None."""
    return {
        k: v for k, v in tree.items() if v is not None and not (k in defaults and defaults[k] == v)
    }


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
