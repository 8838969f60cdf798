"""What an expression of a Python configuration comes to, without running any of it.

Only what configurations are made of is followed: constants, lists and dicts, names of the file,
arithmetic, and calls that build such values. All else is a `Refusal`, which says where it stands.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from razorlite.core.yaml_lines import Node

_MOST_STEPS = 100_000  # of a file; what a person writes takes a hundredth of it
_MOST_ITEMS = 10_000  # of a list or text that arithmetic makes
_MOST_BITS = 256
_TEMPLATE = re.compile(r"\{\{\s*([\w.$:/-]*)\s*\}\}")


class Refusal(Exception):
    """An expression that is not followed: what and why, and the line."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


class Imported(str):
    """The name of a class or module that a file imports; `type=FPN` stands for `type="FPN"`."""

    __slots__ = ()


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
    ast.Is: lambda one, other: one is other,
    ast.IsNot: lambda one, other: one is not other,
}
_PLAIN_CALLS: dict[str, Callable[..., Any]] = {
    "list": list,
    "tuple": list,
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "len": len,
    "min": min,
    "max": max,
    "round": round,
    "abs": abs,
    "sum": sum,
}


class Expressions:
    """Follows the expressions of one file.

    Args:
        file: its name, for sources.
        names: the values of its variables; filled by who follows its statements.
        read: gets the name of each variable that an expression reads.
    """

    def __init__(self, file: str, names: Mapping[str, Node], read: set[str]) -> None:
        self.file = file
        self.names = names
        self.read = read
        self.steps = 0
        self._forms: dict[type[ast.expr], Callable[[Any], Any]] = {
            ast.Constant: lambda node: self._text(node.value),
            ast.Dict: self._dict,
            ast.List: lambda node: self._items(node.elts),
            ast.Tuple: lambda node: self._items(node.elts),
            ast.Set: self._set,
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
            ast.BinOp: self._binary,
            ast.UnaryOp: lambda node: _UNARY[type(node.op)](self.plain(node.operand)),
            ast.Compare: self._compare,
            ast.IfExp: lambda node: self._value(
                node.body if self.plain(node.test) else node.orelse
            ),
            ast.JoinedStr: self._joined,
            ast.Call: self._call,
            ast.ListComp: self._comprehension,
        }

    def follow(self, node: ast.expr) -> Node:
        """Return the value of an expression.

        Raises:
            Refusal: it is none that is followed.
        """
        return self._wrapped(self._value(node), node)

    def whole(self, node: ast.expr) -> Node:
        """Return the value of an expression that has no more parts than a file may have.

        Raises:
            Refusal: it has, or it is none that is followed.
        """
        found: Node = self._counted(self.follow(node), node)
        return found

    def plain(self, node: ast.expr) -> Any:
        """Return the value of an expression in plain lists, dicts and scalars."""
        return plain(self._counted(self.follow(node), node))

    def _value(self, node: ast.expr) -> Any:
        self.steps += 1
        form = self._forms.get(type(node))
        if form is None or self.steps > _MOST_STEPS:
            raise self._refusal("is not followed", node)
        try:
            return form(node)
        except RecursionError:
            raise self._refusal("is too deep", node) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._refusal(f"has no value ({type(error).__name__})", node) from None

    def _wrapped(self, value: Any, node: ast.expr) -> Node:
        if isinstance(value, Node):
            return value
        return from_plain(self._counted(value, node), f"{self.file}:{node.lineno}")

    def _counted(self, value: Any, node: ast.expr) -> Any:
        """Return a value whose parts are not too many, shared ones counted each time."""
        waiting = [value]
        while waiting:
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise self._refusal("is too large", node)
            part = waiting.pop()
            part = part.value if isinstance(part, Node) else part
            if isinstance(part, dict | list):
                waiting += part.values() if isinstance(part, dict) else part
        return value

    def _refusal(self, reason: str, node: ast.expr) -> Refusal:
        text = " ".join(ast.unparse(node).split()) if self.steps <= _MOST_STEPS else "the file"
        return Refusal(f"{text if len(text) <= 60 else text[:57] + '...'} {reason}", node.lineno)

    def _dict(self, node: ast.Dict) -> Any:
        found: dict[str, Node] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found |= self._mapping(value)
            else:
                found[str(self.plain(key))] = self.follow(value)
        return Node(found, f"{self.file}:{node.lineno}")

    def _mapping(self, node: ast.expr) -> dict[str, Node]:
        value = self.follow(node).value
        if not isinstance(value, dict):
            raise self._refusal("is no dict", node)
        return value

    def _items(self, elements: list[ast.expr]) -> Any:
        found: list[Node] = []
        for element in elements:
            if isinstance(element, ast.Starred):
                found += self._list(element.value)
            else:
                found.append(self.follow(element))
        return found

    def _list(self, node: ast.expr) -> list[Node]:
        value = self.follow(node).value
        if not isinstance(value, list):
            raise self._refusal("is no list", node)
        return value

    def _set(self, node: ast.Set) -> Any:
        """Follow `{{_base_.name}}` outside quotes, which Python reads as a set in a set."""
        inner = node.elts[0]
        if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1:
            return self._value(inner.elts[0])
        raise self._refusal("is not followed", node)

    def _name(self, node: ast.Name) -> Any:
        self.read.add(node.id)
        if node.id not in self.names:
            raise self._refusal("is not known here", node)
        return self.names[node.id]

    def _attribute(self, node: ast.Attribute) -> Any:
        owner = self.follow(node.value)
        if isinstance(owner.value, Imported):
            return Imported(node.attr)
        if isinstance(node.value, ast.Name) and node.value.id == "_base_":
            self.read.add(node.attr)
        return owner.value[node.attr]

    def _subscript(self, node: ast.Subscript) -> Any:
        owner = self.follow(node.value).value
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            return owner[slice(*(part and self.plain(part) for part in parts))]
        return owner[self.plain(node.slice)]

    def _binary(self, node: ast.BinOp) -> Any:
        left, right = self.plain(node.left), self.plain(node.right)
        if isinstance(node.op, ast.Mult) and _repeated(left, right) > _MOST_ITEMS:
            raise self._refusal("is too long", node)
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            raise self._refusal("is not followed", node)
        if isinstance(node.op, ast.Pow) and not _is_small(left, right):
            raise self._refusal("is too large", node)
        made = _BINARY[type(node.op)](left, right)
        if isinstance(made, int) and made.bit_length() > _MOST_BITS:
            raise self._refusal("is too large", node)
        return made

    def _compare(self, node: ast.Compare) -> bool:
        values = [self.plain(node.left), *map(self.plain, node.comparators)]
        pairs = zip(node.ops, values, values[1:], strict=False)
        return all(_COMPARE[type(op)](one, other) for op, one, other in pairs)

    def _joined(self, node: ast.JoinedStr) -> str:
        """Follow an f-string without conversions and formats."""
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is None:
                parts.append(str(self.plain(part.value)))
            elif isinstance(part, ast.Constant):
                parts.append(str(part.value))
            else:
                raise self._refusal("is not followed", node)
        return "".join(parts)

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        if name in ("dict", "ConfigDict"):
            return self._dict_call(node)
        if name in ("copy.deepcopy", "deepcopy", "copy.copy") and len(node.args) == 1:
            return self._value(node.args[0])
        if name == "range" and not node.keywords:
            return self._range(node)
        if name in _PLAIN_CALLS and not node.keywords:
            return _PLAIN_CALLS[name](*map(self.plain, node.args))
        raise self._refusal("is not run", node)

    def _dict_call(self, node: ast.Call) -> Any:
        found: dict[str, Node] = {}
        for argument in node.args:
            found |= self._mapping(argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                found |= self._mapping(keyword.value)
            else:
                found[keyword.arg] = self.follow(keyword.value)
        return Node(found, f"{self.file}:{node.lineno}")

    def _range(self, node: ast.Call) -> list[int]:
        numbers = range(*map(self.plain, node.args))
        if len(numbers) > _MOST_ITEMS:
            raise self._refusal("is too long", node)
        return list(numbers)

    def _comprehension(self, node: ast.ListComp) -> list[Node]:
        """Follow `[expression for name in list]`, with or without an `if`."""
        loop = node.generators[0]
        if len(node.generators) > 1 or not isinstance(loop.target, ast.Name):
            raise self._refusal("is not followed", node)
        found = []
        for item in self._list(loop.iter):
            inner = Expressions(self.file, {**self.names, loop.target.id: item}, self.read)
            inner.steps = self.steps
            if all(inner.plain(test) for test in loop.ifs):
                found.append(inner.follow(node.elt))
            self.steps = inner.steps
        return found

    def _text(self, value: Any) -> Any:
        """Return a constant; `{{_base_.name}}` and the like in a text are replaced."""
        if not isinstance(value, str) or "{{" not in value:
            return value if isinstance(value, str | bool | int | float | None) else str(value)
        whole = _TEMPLATE.fullmatch(value)
        if whole and whole[1].startswith("_base_."):
            return self._base(whole[1])
        return _TEMPLATE.sub(lambda match: str(plain(self._template(match[1]))), value)

    def _template(self, name: str) -> Any:
        if name.startswith("_base_."):
            return self._base(name)
        if name.startswith("$"):  # an environment variable: its default, whatever it is here
            return name.partition(":")[2]
        return self.names[name]

    def _base(self, name: str) -> Any:
        _, *parts = name.split(".")
        self.read.add(parts[0])
        value = self.names["_base_"]
        for part in parts:
            value = value.value[part]
        return value


def plain(node: Any) -> Any:
    """Return a value without its sources."""
    value = node.value if isinstance(node, Node) else node
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list) else value


def from_plain(value: Any, source: str) -> Node:
    """Return nodes of plain values and of nodes, which keep their sources."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({str(key): from_plain(child, source) for key, child in value.items()}, source)
    if isinstance(value, list | tuple):
        return Node([from_plain(child, source) for child in value], source)
    return Node(value, source)


def _repeated(left: Any, right: Any) -> int:
    """Return how long the product of a list or a text with a number is; 0 of numbers."""
    for many, times in ((left, right), (right, left)):
        if isinstance(many, list | str) and isinstance(times, int):
            return len(many) * times
    return 0


def _is_small(base: Any, exponent: Any) -> bool:
    return isinstance(exponent, int | float) and abs(exponent) <= 64 and abs(base) <= 1e6
