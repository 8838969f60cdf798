"""Imports point down only, and private modules are their package's: razorlite keeps to both."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "razorlite"
LAYERS = [
    {"core"},
    {"ops", "structures"},
    {"models", "engine", "data", "evaluation"},
    {"space", "trace", "cost"},
    {"search", "distill", "prune", "deploy", "visual"},
    {"recipes"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
FILES = sorted(ROOT.rglob("*.py"))
PLACEHOLDER = "razorlite.space.placeholder"


@cache
def imports(source: str, module: str) -> tuple[str, ...]:
    """Return the dotted name of everything a module imports, inside functions too."""
    return tuple(_imports(source, module))


def _imports(source: str, module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in called(node):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def called(call: ast.Call) -> str:
    """Return the last name of what is called, an empty one where it has none."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def violations(source: str, module: str) -> list[str]:
    """Return the imports that do not point to a lower layer or to the module's own part."""
    own = module.split(".")[1]
    found = []
    for name in imports(source, module):
        parts = name.split(".")
        if parts[0] != "razorlite" or len(parts) < 2 or parts[1] not in RANK or parts[1] == own:
            continue
        allowed = own == "models" and f"{name}.".startswith(f"{PLACEHOLDER}.")
        if RANK[parts[1]] >= RANK[own] and not allowed:
            found.append(f"{module} imports {name}")
    return found


def trespasses(source: str, module: str) -> list[str]:
    """Return the imports of other packages' private modules or names."""
    found = []
    for name in imports(source, module):
        parts = name.split(".")
        private = next((i for i, p in enumerate(parts) if p[0] == "_" and p[-2:] != "__"), None)
        if parts[0] == "razorlite" and private is not None:
            home = parts[:private]
            if module.split(".")[: len(home)] != home:
                found.append(f"{module} imports {name}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts)


def everywhere(check) -> list[str]:
    """Return what a check finds in all files."""
    return [f for path in FILES for f in check(path.read_text("utf-8"), module_name(path))]


def test_imports_point_down():
    face = "razorlite.__init__"  # of the package: loads the recipes when asked
    assert everywhere(lambda s, module: [] if module == face else violations(s, module)) == []


def test_private_modules_are_imported_by_their_package_alone():
    assert everywhere(trespasses) == []


@pytest.mark.parametrize(
    ("source", "module", "count"),
    [
        ("from razorlite.data._items import Item", "razorlite.data.loader", 0),
        ("from razorlite.data._items import Item", "razorlite.recipes.splits", 1),
        ("from razorlite.data.loader import _order", "razorlite.data.coco", 1),
        ("from razorlite.data import __all__", "razorlite.recipes.splits", 0),
    ],
)
def test_trespasses_are_found(source, module, count):
    assert len(trespasses(source, module)) == count


def test_every_part_has_a_layer():
    assert {module_name(path).split(".")[1] for path in FILES} <= {*RANK, "__init__"}


def test_placeholder_needs_torch_only():
    source = (ROOT / "space" / "placeholder.py").read_text(encoding="utf-8")
    roots = {name.split(".")[0] for name in imports(source, PLACEHOLDER)}
    assert roots <= {"torch", "typing", "collections"}


@pytest.mark.parametrize(
    ("source", "module", "count"),
    [
        ("from razorlite.core import errors", "razorlite.models.fpn", 0),
        ("from razorlite.models.fpn import FPN", "razorlite.models.fcos", 0),
        ("from razorlite.data import coco", "razorlite.models.fpn", 1),
        ("import razorlite.search.study", "razorlite.engine.runner", 1),
        ("def f():\n    from razorlite import recipes", "razorlite.search.study", 1),
        ("import importlib\nimportlib.import_module('razorlite.cli')", "razorlite.recipes.run", 1),
        ("from ..visual import plots", "razorlite.search.study", 1),
        ("from razorlite.space.placeholder import Placeholder", "razorlite.models.searchable", 0),
        ("from razorlite.space import placeholder", "razorlite.models.searchable", 0),
        ("from razorlite.space import Mutator", "razorlite.models.searchable", 1),
        ("from razorlite.space.placeholder import Placeholder", "razorlite.engine.runner", 1),
    ],
)
def test_the_check_itself(source, module, count):
    assert len(violations(source, module)) == count


# No import circle at all: those that are for types alone, or wait inside a function, count too.
Graph = dict[str, set[str]]


def modules_of(root: Path) -> dict[str, str]:
    """Return the source of every module of a package by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def import_graph(sources: dict[str, str], packages: set[str]) -> Graph:
    """Return which modules each module imports, and the packages that this runs on the way."""
    graph: Graph = {}
    for module, source in sources.items():
        inside = f"{module}.__init__" if module in packages else module
        graph[module] = set()
        for name in imports(source, inside):
            target = name if name in sources else name.rpartition(".")[0]
            if target in sources:
                graph[module] |= {target, *passed_through(target, module)}
    return graph


def passed_through(target: str, module: str) -> Iterator[str]:
    """Yield the packages around a target that are not around the module that imports it."""
    while "." in target:
        target = target.rpartition(".")[0]
        if not f"{module}.".startswith(f"{target}."):
            yield target


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of modules of which each imports, by some way, all the others."""
    reached = {module: reachable(graph, module) for module in graph}
    groups = {
        tuple(sorted(o for o in reached[module] if module in reached[o]))
        for module in graph
        if module in reached[module]
    }
    return [list(group) for group in sorted(groups)]


def reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return seen


def packages_of(root: Path) -> set[str]:
    return {module_name(path).removesuffix(".__init__") for path in root.rglob("__init__.py")}


def test_no_import_circles():
    sources = modules_of(ROOT)
    graph = import_graph(sources, packages_of(ROOT))
    assert sum(len(targets) for targets in graph.values()) > 500
    assert circles(graph) == []


CIRCLES = [
    ({"a": "import p.b", "b": "import p.a"}, [["p.a", "p.b"]]),
    ({"a": "from p import b", "b": "from p.a import x"}, [["p.a", "p.b"]]),
    ({"a": "if TYPE_CHECKING:\n    from p.b import X", "b": "import p.a"}, [["p.a", "p.b"]]),
    ({"a": "def f():\n    from p.b import x", "b": "from . import a"}, [["p.a", "p.b"]]),
    ({"a": "import p.b", "b": "import p.c", "c": "from p.a import x"}, [["p.a", "p.b", "p.c"]]),
    ({"a": "import p.q.b", "q": "import p.a", "q.b": ""}, [["p.a", "p.q"]]),
    ({"q": "from p.q import b", "q.b": "from p.q import x"}, [["p.q", "p.q.b"]]),
    ({"q": "from p.q import b", "q.b": "from p.q import c", "q.c": ""}, []),
    ({"a": "import p.b", "b": "import p.c", "c": "import os"}, []),
]


@pytest.mark.parametrize(("sources", "expected"), CIRCLES)
def test_circles_are_found(sources, expected):
    named = {"p": "", **{f"p.{name}": source for name, source in sources.items()}}
    assert circles(import_graph(named, {"p", "p.q"})) == expected
