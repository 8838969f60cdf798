"""Rules in annotations: read by the check of a configuration and kept by constructors."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from razorlite.core import registry
from razorlite.core.config import ConfigError, Factory, build, check, load
from razorlite.core.ranges import (
    Count,
    Distinct,
    Filled,
    Indices,
    Odd,
    Positive,
    PositiveSpan,
    Range,
    Share,
    Size,
    checked,
)


@checked
@dataclass(frozen=True, kw_only=True)
class Part:
    width: Count = 1
    sizes: dict[str, Size] = field(default_factory=dict)


class Layer:
    def __init__(self, width: Count, *, drop: Annotated[float, Range(0, below=1)] = 0.0) -> None:
        self.width, self.drop = width, drop


class Thinner(Layer):
    """Inherits the constructor, and its rules."""


@checked
@dataclass(frozen=True, kw_only=True)
class Schema:
    part: Part | None = None
    layer: Factory[Layer] | None = None
    count: Count | None = None
    share: Share = 0.5
    rate: float = 1.0
    either: Count | Size = 1
    span: PositiveSpan = (1.0, 2.0)
    indices: Indices = (0,)
    names: Annotated[list[str], Filled(), Distinct()] = field(default_factory=lambda: ["a"])
    odd: Annotated[int, Odd()] = 1
    positive: Positive = 1.0

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ConfigError("13 brings bad luck", key="count")


@pytest.fixture(autouse=True, scope="module")
def registered():
    before = dict(registry._TABLE)
    for kind in (Layer, Thinner):
        registry.register()(kind)
    yield
    registry._TABLE.clear()
    registry._TABLE.update(before)


WRONG = [
    ("count", 0, "count: wants a whole number of at least 1 or null, got 0"),
    ("share", 1.5, "share: wants a number of at least 0 and at most 1, got 1.5"),
    ("share", -1, "share: wants a number of at least 0 and at most 1, got -1"),
    ("rate", float("nan"), "rate: wants a finite number, got nan"),
    ("rate", float("inf"), "rate: wants a finite number, got inf"),
    ("positive", 0, "positive: wants a number above 0, got 0"),
    ("either", 0, "either: wants a whole number of at least 1 or a list of 2"),
    ("either", [3, 0], "either.1: wants a whole number of at least 1, got 0"),
    ("span", [2, 1], "span: wants a list of 2"),
    ("span", [0, 1], "span.0: wants a number above 0, got 0"),
    (
        "indices",
        [],
        "indices: wants a list, each item a whole number of at least 0 that is not empty",
    ),
    ("indices", [1, 1], "that rises, got [1, 1]"),
    ("names", ["a", "a"], "names: wants a list, each item text that is not empty without repeats"),
    ("odd", 4, "odd: wants a whole number that is odd, got 4"),
    ("part", {"width": 0}, "part.width: wants a whole number of at least 1, got 0"),
    ("part", {"sizes": {"x": [1, 0]}}, "part.sizes.x.1: wants a whole number of at least 1, got 0"),
    ("layer", {"type": "Layer", "width": 0}, "layer.width: wants a whole number of at least 1"),
    (
        "layer",
        {"type": "Thinner", "width": 1, "drop": 1},
        "layer.drop: wants a number of at least 0",
    ),
    ("count", 13, "count: 13 brings bad luck"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_the_check_names_the_place(key, value, message):
    with pytest.raises(ConfigError) as caught:
        check(load({key: value}), Schema)
    (line,) = str(caught.value).split("\n")
    assert line.startswith("config: ")
    assert message in line


def test_all_at_once_with_what_constructors_say():
    tree = {"count": 13, "part": {"width": -1}, "share": 2, "layer": {"type": "Layer"}}
    with pytest.raises(ConfigError) as caught:
        check(load(tree), Schema)
    assert len(str(caught.value).split("\n")) == 3
    with pytest.raises(ConfigError) as caught:
        check(load({"outer": {"count": 13}, "width": 0}), Outer)
    assert sorted(line.split(": ")[1] for line in str(caught.value).split("\n")) == [
        "outer.count",
        "width",
    ]


@dataclass
class Outer:
    outer: Schema
    width: Count


@pytest.mark.parametrize(("key", "value", "message"), WRONG[:3] + WRONG[5:14])
def test_python_is_told_the_same(key, value, message):
    with pytest.raises(ConfigError, match=rf"^Schema\.{key} wants "):
        Schema(**{key: value})


def test_right_values_pass():
    tree: dict[str, Any] = {"count": 1, "share": 1, "either": [1, 2], "span": [1, 1]}
    assert build(load(tree), Schema).either == (1, 2)
    assert Schema(count=None, either=(3, 4), span=(0.5, 0.5)).count is None
    assert Layer(3, drop=0.5).width == 3
    assert Thinner(width=2).width == 2


def test_positional_arguments_and_subclasses_are_checked():
    with pytest.raises(ConfigError, match=r"Layer\.width wants a number of at least 1, got 0"):
        Layer(0)
    with pytest.raises(ConfigError, match=r"Layer\.width wants a number of at least 1, got -2"):
        Thinner(width=-2)
    with pytest.raises(TypeError, match="widht"):
        Layer(widht=1)
