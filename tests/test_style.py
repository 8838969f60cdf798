"""Short functions and files, the field's own words, shapes in docstrings."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "razorlite"
PROJECTS = PACKAGE.parent / "projects"
FILES = [*sorted(PACKAGE.rglob("*.py")), *sorted(PROJECTS.rglob("*.py"))]
NAMES = [str(path.relative_to(PACKAGE.parent)) for path in FILES]

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


def functions(path: Path) -> Iterator[Function]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (n for n in ast.walk(tree) if isinstance(n, Function))


def body_lines(function: Function) -> int:
    """Return the lines from the first statement after the docstring to the last one."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def names_in(path: Path) -> Iterator[str]:
    """Yield what a file names: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def public_tensor_functions(path: Path) -> Iterator[Function]:
    """Yield functions at the top and public methods of public classes that take a Tensor."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
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


def test_functions_are_short():
    lines = [body_lines(function) for path in FILES for function in functions(path)]
    assert statistics.median(lines) <= 8


def test_a_body_is_counted_without_its_docstring():
    source = 'def f(\n    x,\n):\n    """Say.\n\n    More.\n    """\n    a = 1\n\n    return a\n'
    assert body_lines(ast.parse(source).body[0]) == 3


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_names_are_the_fields_own(path):
    allowed = {"figures"} if str(path.relative_to(PACKAGE.parent)) in PICTURES else set()
    assert {n for n in names_in(path) if words(n) & (PRIVATE - allowed)} == set()


def test_words_of_a_name():
    assert words("_JudgeOfLayers.with_figures") == {"judge", "of", "layers", "with", "figures"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_public_functions_of_tensors_say_their_shapes(path):
    silent = [
        f"{function.name}:{function.lineno}"
        for function in public_tensor_functions(path)
        if not SHAPE.search(ast.get_docstring(function) or "")
    ]
    assert silent == []
