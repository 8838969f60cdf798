"""Imports point down only: the table of layers, and that razorlite keeps to it."""

import ast
from collections.abc import Iterator
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


def imports(source: str, module: str) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    if path == ROOT / "__init__.py":  # the face of the package: loads the recipes when asked
        return
    assert violations(path.read_text(encoding="utf-8"), module_name(path)) == []


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
