"""Short functions and files, the field's own words, shapes in docstrings."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "razorlite"
PROJECTS = PACKAGE.parent / "projects"
FILES = [*sorted(PACKAGE.rglob("*.py")), *sorted(PROJECTS.rglob("*.py"))]

# Words that a newcomer would have to learn; metrics, costs, evaluate, expected and worker pool are
# the field's. A figure is a picture: of matplotlib, or in a report.
PRIVATE = {"figures", "crew", "judge", "judged", "judges", "said", "dear", "laid", "lay", "wanted"}
PICTURES = {"razorlite/visual/report.py", "razorlite/recipes/demonstration.py"}

SHAPE = re.compile(
    r"\((\.\.\.|…|[A-Z0-9]\w*|\d+)( \* \w+)?,[^()]*\)|0-dim|scalar|shape", re.IGNORECASE
)

# Tensors of any shape: state dicts, and what is done to each tensor of a nest.
CONTAINED = re.compile(r"(Mapping|dict|Callable|Iterable|Collection)\[.*\]")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(function: Function) -> int:
    """Return the lines from the first statement after the docstring to the last one."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def names_in(tree: ast.Module) -> Iterator[str]:
    """Yield what a file names: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def inherited_methods(tree: ast.Module, owner: ast.AST) -> set[str]:
    """Return the methods that a class has from bases in its file, with docstrings that hold."""
    names = {ast.unparse(base) for base in getattr(owner, "bases", [])}
    bases = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in names]
    return {
        m.name
        for base in bases
        for m in base.body
        if isinstance(m, ast.FunctionDef) and ast.get_docstring(m)
    }


def public_tensor_functions(tree: ast.Module) -> Iterator[Function]:
    """Yield functions at the top and public methods of public classes that take a Tensor."""
    owners = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    for owner in (tree, *owners):
        inherited = inherited_methods(tree, owner)
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and node.name in inherited:
                continue
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                kinds = [ast.unparse(a.annotation) for a in arguments if a.annotation]
                if any(re.search(r"\bTensor\b", CONTAINED.sub("", kind)) for kind in kinds):
                    yield node


class Facts(NamedTuple):
    """What the rules ask about one file."""

    lines: int
    bodies: list[int]
    names: set[str]
    silent: list[str]


def facts(path: Path) -> Facts:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    bodies = [body_lines(node) for node in ast.walk(tree) if isinstance(node, Function)]
    silent = [
        f"{function.name}:{function.lineno}"
        for function in public_tensor_functions(tree)
        if not SHAPE.search(ast.get_docstring(function) or "")
    ]
    return Facts(len(source.splitlines()), bodies, set(names_in(tree)), silent)


@pytest.fixture(scope="module")
def files() -> dict[str, Facts]:
    return {str(path.relative_to(PACKAGE.parent)): facts(path) for path in FILES}


def test_functions_are_short(files):
    assert statistics.median([lines for file in files.values() for lines in file.bodies]) <= 8


def test_a_body_is_counted_without_its_docstring():
    source = 'def f(\n    x,\n):\n    """Say.\n\n    More.\n    """\n    a = 1\n\n    return a\n'
    assert body_lines(ast.parse(source).body[0]) == 3


def test_files_are_short(files):
    assert {name: file.lines for name, file in files.items() if file.lines > 350} == {}


def test_names_are_the_fields_own(files):
    assert [(f, n) for f, file in files.items() for n in file.names if strange(n, f)] == []


def strange(name: str, file: str) -> bool:
    return bool(words(name) & (PRIVATE - ({"figures"} if file in PICTURES else set())))


def test_words_of_a_name():
    assert words("_JudgeOfLayers.with_figures") == {"judge", "of", "layers", "with", "figures"}


def test_public_functions_of_tensors_say_their_shapes(files):
    assert {name: file.silent for name, file in files.items() if file.silent} == {}
