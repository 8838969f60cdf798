"""Statements and expressions of Python configurations are followed, and nothing is run."""

import contextlib

import pytest

from razorlite.core.errors import ConfigError
from razorlite.recipes.openmmlab import expressions
from razorlite.recipes.openmmlab.expressions import plain
from razorlite.recipes.openmmlab.files import read_source
from tests.recipes.openmmlab.dialects import write


def values(folder, text, **bases):
    found = read_source(write(folder, **bases, main=text))
    return {name: plain(node) for name, node in found.tree.items()}, found.remarks


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("dict(a=1, **dict(b=(2, 3)))", {"a": 1, "b": [2, 3]}),
        ("{'a': {'b': None}, **{'c': True}}", {"a": {"b": None}, "c": True}),
        ("[1] * 2 + [i * 2 for i in range(3) if i != 1]", [1, 1, 0, 4]),
        ("-2 ** 2 + 7 // 2 + 7 % 4 + 1 / 4", -4 + 3 + 3 + 0.25),
        ("[*[1, 2], 3][1:]", [2, 3]),
        ("f'{\"a\"}_{1 + 1}'", "a_2"),
        ("1 if 2 > 1 else 0", 1),
        ("len([1, 2]) + int('3') + max(1, 2)", 7),
        ("dict(a=dict(b=5)).a.b", 5),
        ("'{{fileBasenameNoExtension}}.txt'", "main.txt"),
        ("'{{$HOME:here}}/x'", "here/x"),
        ("1e8", 1e8),
    ],
)
def test_expressions(tmp_path, expression, expected):
    assert values(tmp_path, f"x = {expression}\n") == ({"x": expected}, [])


@pytest.mark.parametrize(
    "expression",
    [
        "open('/etc/passwd').read()",
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "().__class__.__bases__[0]",
        "[].append",
        "eval('1')",
        "'%s' % 1",
        "{1, 2}",
        "unknown",
        "1 / 0",
        "[1][5]",
        "(x := 1)",
        "[1] * 10 ** 9",
        "'a' * 10 ** 9",
        "9 ** 9 ** 9",
        "2 ** 63 * 2 ** 63 * 2 ** 63 * 2 ** 63 * 2 ** 63",
        "range(10 ** 9)",
        "[i for i in range(3) for j in range(3)]",
    ],
)
def test_what_is_not_followed_is_named(tmp_path, expression):
    found, remarks = values(tmp_path, f"a = 1\nx = {expression}\nb = 2\n")
    assert found == {"a": 1, "b": 2}
    assert len(remarks) == 1
    assert "main.py:2: " in remarks[0]


@pytest.mark.parametrize("statement", ["for i in [1]:\n    x = i", "def f(): pass", "x += 1"])
def test_statements_that_are_not_followed(tmp_path, statement):
    found, remarks = values(tmp_path, f"a = 1\n{statement}\n")
    assert found == {"a": 1}
    assert remarks[0].endswith(f"main.py:2: {statement.splitlines()[0]} is not followed") or (
        "def f():" in remarks[0]
    )


def test_nothing_grows_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(expressions, "_MOST_STEPS", 3000)
    doubled = "".join(f"a{i + 1} = dict(l=a{i}, r=a{i})\n" for i in range(40))
    found, remarks = values(tmp_path, "a0 = dict(x=1)\n" + doubled)
    assert len(found) < 12
    assert "is too large" in remarks[0]


def test_bases_merge_and_delete(tmp_path):
    base = "model = dict(a=dict(x=1, y=2), b=[1, 2], c=dict(z=3))\nlr = 0.1\n"
    text = "_base_ = ['./base.py']\n"
    text += "model = dict(a=dict(y=5), b=[3], c=dict(_delete_=True, w=4), lr=_base_.lr * 2)\n"
    found, remarks = values(tmp_path, text + "copy = {{_base_.model.a}}\n", base=base)
    assert found["model"] == {"a": {"x": 1, "y": 5}, "b": [3], "c": {"w": 4}, "lr": 0.2}
    assert found["copy"] == {"x": 1, "y": 2}
    assert remarks == []


def test_several_bases_and_a_base_of_a_base(tmp_path):
    found, _ = values(
        tmp_path,
        "_base_ = ['one.py', 'two.py']\nd = 4\n",
        zero="a = dict(n=0)\n",
        one="_base_ = 'zero.py'\na = dict(m=1)\n",
        two="c = 3\n",
    )
    assert found == {"a": {"n": 0, "m": 1}, "c": 3, "d": 4}


def test_variables_of_a_text_base_are_not_names_here(tmp_path):
    found, remarks = values(tmp_path, "_base_ = 'one.py'\nx = lr\n", one="lr = 1\n")
    assert found == {"lr": 1}
    assert "main.py:2: lr is not known here" in remarks[0]


def test_bases_elsewhere_are_named(tmp_path):
    found, remarks = values(tmp_path, "_base_ = ['mmdet::_base_/x.py']\na = 1\n")
    assert found == {"a": 1}
    assert "main.py:1: _base_: mmdet::_base_/x.py is no Python file beside this one" in remarks[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_base_ = './none.py'\n", r"main.py:1: _base_: no file .*none.py"),
        ("_base_ = './main.py'\n", "main.py is a base of itself"),
        ("a = = 1\n", "main.py:1: not valid Python"),
        ("a = " + "(" * 5000 + "\n", "main.py"),
        ("a = 1\0\n", "main.py"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected):
        values(tmp_path, text)


def test_deep_expressions_are_refused_not_fatal(tmp_path):
    with contextlib.suppress(ConfigError):  # older versions of Python do not parse it
        found, remarks = values(tmp_path, f"a = 1\nx = {'+'.join(['1'] * 3000)}\n")
        assert found.get("a") == 1
        assert found.get("x") == 3000 or "is too deep" in remarks[0]


def test_no_file_at_all(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_source(tmp_path / "none.py")
