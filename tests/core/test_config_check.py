"""Checking a tree against signatures, and building from it."""

import copy
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import pytest
import torch
from torch import nn

from razorlite.core import registry
from razorlite.core.config import ConfigError, Factory, Given, Partial, build, check, load

if TYPE_CHECKING:
    from decimal import Decimal


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The classes of this file, registered for its tests only."""
    before = dict(registry._TABLE)
    registry._TABLE.clear()
    for thing in (Net, Stem, Neck, Sgd, Loose, Tag, PlainReader, Doubler, double, make_stem):
        registry.register()(thing)
    yield
    registry._TABLE.clear()
    registry._TABLE.update(before)


class Reader:
    """Not registered itself; a base for the registered ones."""


class PlainReader(Reader):
    def __init__(self, *, root: Path, split: str = "train") -> None:
        self.root, self.split = root, split


class Stem(nn.Module):
    def __init__(self, *, width: int, act: Literal["relu", "silu"] = "relu") -> None:
        super().__init__()
        if width % 8:
            raise ConfigError(f"width {width} is no multiple of 8; try {width // 8 * 8}")
        if width < 8:
            raise ConfigError(f"Stem.width must be at least 8, got {width}")
        self.width, self.act = width, act


class Neck(nn.Module):
    def __init__(
        self,
        *,
        in_channels: "list[int]",
        out_channels: int,
        eps: float = 1e-5,
        size: int | tuple[int, int] = 3,
        later: "Decimal | None" = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.eps, self.size = (
            in_channels,
            out_channels,
            eps,
            size,
        )


class Net(nn.Module):
    def __init__(self, *, stem: Stem, neck: Neck | None = None, frozen: bool = False) -> None:
        super().__init__()
        self.stem, self.neck, self.frozen = stem, neck, frozen


class Sgd:
    def __init__(self, params: Sequence[Any], lr: float, momentum: float = 0.9) -> None:
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        self.params, self.lr, self.momentum = params, lr, momentum


class Loose:
    def __init__(self, name: str, **options: int) -> None:
        self.name, self.options = name, options


class Doubler:
    def __call__(self, value: int) -> int:
        return 2 * value


def double(value: int, times: int = 2) -> int:
    return value * times


def make_stem(width: int) -> Stem:
    return Stem(width=width)


@dataclass(frozen=True)
class Tag:
    name: str
    weight: float = 1.0


class Scorer(Protocol):
    def score(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Schema:
    net: Factory[nn.Module] | None = None
    reader: Reader | None = None
    optimizer: Partial[Sgd] | None = None
    tag: Tag | None = None
    tags: list[Tag] = field(default_factory=list)
    by_name: Mapping[str, Partial[nn.Module]] = field(default_factory=dict)
    steps: dict[int, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    size: Annotated[tuple[int, int], "height, width"] = (1, 1)
    mode: Literal["a", "bb", 3] = "a"
    rate: int | float | None = 0.5
    path: str | Path = "x"
    anything: Any = None
    function: Callable[[int], int] | None = None
    block: Callable[..., nn.Module] | None = None
    kind: type[nn.Module] | None = None
    loose: Loose | None = None
    flag: bool = False
    text: str = "t"


@dataclass
class Needy:
    model: Factory[nn.Module]
    seed: int
    tag: Tag


def built(**tree: Any) -> Schema:
    return build(load(tree), Schema)


def faults(schema: type = Schema, **tree: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(load(tree), schema)
    return str(caught.value).split("\n")


class TestValues:
    @pytest.mark.parametrize(
        ("key", "given", "expected"),
        [
            ("names", ["a", "b"], ("a", "b")),
            ("names", [], ()),
            ("size", [3, 4], (3, 4)),
            ("mode", "bb", "bb"),
            ("mode", 3, 3),
            ("rate", 1, 1),
            ("rate", 1.5, 1.5),
            ("rate", None, None),
            ("path", "a/b", "a/b"),
            ("steps", {"8": 1, "11": 0.5}, {8: 1.0, 11: 0.5}),
            ("anything", {"type": "Net", "x": [1]}, {"type": "Net", "x": [1]}),
            ("flag", True, True),
            ("tag", {"name": "x", "weight": 2}, Tag("x", 2.0)),
            ("tags", [{"name": "x"}, {"type": "Tag", "name": "y"}], [Tag("x"), Tag("y")]),
            ("function", "double", double),
            ("kind", "Stem", Stem),
            # null where it is no value stands for the default
            ("text", None, "t"),
            ("tags", None, []),
            ("steps", {"8": None}, {}),
        ],
    )
    def test_right(self, key, given, expected):
        got = getattr(built(**{key: given}), key)
        assert got == expected
        assert type(got) is type(expected)

    @pytest.mark.parametrize(
        ("key", "given", "message"),
        [
            ("names", "a", "names: wants a list, each item text, got 'a'"),
            ("names", ["a", 3], "names.1: wants text, got 3; put it in quotes"),
            ("size", [3], "size: wants a list of 2 (a whole number, a whole number), got [3]"),
            ("size", [3, 4.5], "size.1: wants a whole number, got 4.5"),
            ("size", [True, 2], "size.0: wants a whole number, got true"),
            ("mode", "b", "mode: wants one of 'a', 'bb', 3, got 'b'; did you mean 'bb'?"),
            ("rate", "fast", "rate: wants a whole number or a number or null, got 'fast'"),
            ("rate", {"x": 1}, "rate: wants a whole number or a number or null, got a block"),
            ("steps", {"soon": 1}, "steps.soon: wants a whole number, got 'soon'"),
            ("flag", 1, "flag: wants true or false, got 1"),
            ("flag", "yes", "flag: wants true or false, got 'yes'"),
            ("tag", {"weight": 1}, "tag: needs 'name'"),
            ("tag", {"name": "x", "wieght": 1}, "tag.wieght: unknown key; did you mean 'weight'?"),
            ("tag", {"name": "x", "Weight": 1}, "tag.Weight: unknown key; did you mean 'weight'?"),
            ("tags", [{"name": "x"}, {}], "tags.1: needs 'name'"),
            ("tag", "x", "tag: wants a block or null, got 'x'"),
            (
                "function",
                "duble",
                "function: no type 'duble'; did you mean 'double', 'Doubler'? (all: "
                "razorlite config types)",
            ),
            ("reader", {"root": "x"}, "reader: needs 'type'; known: PlainReader"),
            (
                "reader",
                {"type": "Stem", "width": 8},
                "reader.type: wants a Reader, but 'Stem' is none; known: PlainReader",
            ),
            ("reader", {"type": 3}, "reader.type: wants a registered name, got 3"),
            ("net", {"type": "Zzz"}, "net.type: no type 'Zzz'; known: Neck, Net, Stem"),
            ("optimizer", {"type": "Sgd", "lr": "big"}, "optimizer.lr: wants a number, got 'big'"),
            ("by_name", [1], "by_name: wants a block of names and values, got [1]"),
            (
                "loose",
                {"type": "Loose", "name": "a", "x": "y"},
                "loose.x: wants a whole number, got",
            ),
        ],
    )
    def test_wrong(self, key, given, message):
        (fault,) = faults(**{key: given})
        assert fault.startswith(f"config: {message}")


class TestFaults:
    def test_all_at_once_with_file_line_and_suggestion(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("base.yaml").write_text("net:\n  type: Net\n  stem: {type: Stem, widht: 8}\n")
        Path("x.yaml").write_text(
            "_base_: base.yaml\n"
            "net:\n"
            "  neck:\n"
            "    type: Neck\n"
            "    out_chanels: 8\n"
            "    size: [1]\n"
            "modle: 3\n"
            "optimizer: {type: Sdg}\n"
        )
        with pytest.raises(ConfigError) as caught:
            check(load("x.yaml", ["flag=2", "tag.name=1"]), Schema)
        assert sorted(str(caught.value).split("\n")) == [
            "--set flag: wants true or false, got 2",
            "--set tag.name: wants text, got 1; put it in quotes",
            "base.yaml:3: net.stem.widht: Stem takes no 'widht'; did you mean 'width'?",
            "base.yaml:3: net.stem: Stem needs 'width'",
            "x.yaml:3: net.neck: Neck needs 'in_channels'",
            "x.yaml:3: net.neck: Neck needs 'out_channels'",
            "x.yaml:5: net.neck.out_chanels: Neck takes no 'out_chanels'; "
            "did you mean 'out_channels'?",
            "x.yaml:6: net.neck.size: wants a list of 2 (a whole number, a whole number), got [1]",
            "x.yaml:7: modle: unknown key; did you mean 'mode'?",
            "x.yaml:8: optimizer.type: no type 'Sdg'; did you mean 'Sgd'? "
            "(all: razorlite config types)",
        ]

    def test_missing_keys_of_the_whole(self):
        assert faults(Needy, tag={}) == [
            "config: tag: needs 'name'",
            "config: needs 'model'",
            "config: needs 'seed'",
        ]

    def test_null_for_a_required_key_is_missing(self):
        assert "config: needs 'seed'" in faults(Needy, seed=None, tag={"name": "x"})

    def test_check_builds_nothing(self):
        check(load({"net": {"type": "Stem", "width": 7}}), Schema)

    def test_unknown_key_without_a_near_one_lists_what_there_is(self):
        (fault,) = faults(tag={"name": "x", "zzz": 1})
        assert fault == "config: tag.zzz: unknown key; it takes name, weight"


class TestBuild:
    def test_nested_classes(self):
        tree = {
            "type": "Net",
            "stem": {"type": "Stem", "width": 8},
            "neck": {
                "type": "Neck",
                "in_channels": [8],
                "out_channels": 4,
                "eps": 1,
                "size": [3, 5],
            },
        }
        net = built(net=tree).net()
        assert isinstance(net, Net)
        assert net.stem.width == 8
        assert net.neck.in_channels == [8]
        assert (net.neck.eps, net.neck.size) == (1.0, (3, 5))
        assert type(net.neck.eps) is float

    def test_reader_by_base_class(self):
        reader = built(reader={"type": "PlainReader", "root": "a"}).reader
        assert isinstance(reader, PlainReader)
        assert reader.root == Path("a")

    def test_constructor_error_gets_file_and_line_once(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("x.yaml").write_text("net:\n  type: Net\n  stem:\n    type: Stem\n    width: 12\n")
        schema = build(load("x.yaml"), Schema)
        with pytest.raises(ConfigError) as caught:
            schema.net()
        assert str(caught.value) == ("x.yaml:3: net.stem: Stem width 12 is no multiple of 8; try 8")

    def test_a_constructor_that_names_itself_is_not_named_twice(self):
        net = built(net={"type": "Net", "stem": {"type": "Stem", "width": 0}}).net
        with pytest.raises(ConfigError) as caught:
            net()
        assert str(caught.value) == "config: net.stem: Stem.width must be at least 8, got 0"

    def test_value_error_of_a_foreign_constructor(self):
        optimizer = built(optimizer={"type": "Sgd", "lr": -1}).optimizer
        with pytest.raises(ConfigError, match="config: optimizer: Sgd Invalid learning rate: -1"):
            optimizer([])

    def test_built_objects_stand_in_for_blocks(self):
        stem, reader = Stem(width=8), PlainReader(root=Path())
        schema = built(net=lambda: stem, reader=reader, tags=[Tag("x")], function=double)
        assert schema.net() is stem
        assert schema.reader is reader
        assert schema.function is double

    def test_foreign_object_is_refused(self):
        assert faults(reader=Stem(width=8))[0].startswith("config: reader: wants a block")

    def test_tree_is_not_shared_with_what_is_built(self):
        config = load({"anything": {"a": [1]}})
        build(config, Schema).anything["a"].append(2)
        assert config.tree == {"anything": {"a": [1]}}

    def test_torch_optimizer(self):
        registry.register("TestAdamW")(torch.optim.AdamW)

        @dataclass
        class Optimizing:
            optimizer: Partial[torch.optim.Optimizer]

        tree = {"optimizer": {"type": "TestAdamW", "lr": 1, "betas": [0.9, 0.99]}}
        optimizer = build(load(tree), Optimizing).optimizer([nn.Parameter(torch.zeros(1))])
        assert optimizer.param_groups[0]["lr"] == 1.0
        assert tuple(optimizer.param_groups[0]["betas"]) == (0.9, 0.99)


class TestFactory:
    def test_each_call_builds_anew_with_nested_blocks(self):
        factory = built(net={"type": "Net", "stem": {"type": "Stem", "width": 8}}).net
        one, two = factory(), factory()
        assert one is not two
        assert one.stem is not two.stem
        assert (factory.type, factory.kwargs) == ("Net", {"stem": {"type": "Stem", "width": 8}})

    def test_complete_block_is_wanted(self):
        assert faults(net={"type": "Stem"}) == ["config: net: Stem needs 'width'"]

    def test_partial_takes_the_rest_in_the_call(self):
        optimizer = built(optimizer={"type": "Sgd", "lr": 1}).optimizer
        made = optimizer([1, 2], momentum=0.5)
        assert (made.params, made.lr, made.momentum) == ([1, 2], 1.0, 0.5)

    def test_partials_by_name_and_a_removed_one(self):
        by_name = {"a": {"type": "Stem", "act": "silu"}, "b": None}
        made = built(by_name=by_name).by_name
        assert list(made) == ["a"]
        assert made["a"](width=16).act == "silu"

    def test_call_has_precedence_over_the_configuration(self):
        factory = built(net={"type": "Net", "stem": {"type": "Stem", "width": 8}}).net
        assert factory(stem=Stem(width=16)).stem.width == 16

    def test_type_may_be_left_out_where_one_class_is_meant(self):
        @dataclass
        class Own:
            net: Factory[Stem]
            tag: Partial[Tag]

        own = build(load({"net": {"width": 8}, "tag": {"weight": 3}}), Own)
        assert own.net().width == 8
        assert own.tag(name="x") == Tag("x", 3.0)

    def test_function_as_target(self):
        factory = built(net={"type": "make_stem", "width": 8}).net
        assert isinstance(factory(), Stem)
        assert faults(reader={"type": "make_stem", "width": 8})[0].startswith(
            "config: reader.type: wants a Reader, but 'make_stem' is none"
        )

    def test_in_plain_python(self):
        factory: Factory[Stem] = Factory("Stem", {"width": 8})
        assert factory().width == 8
        assert Factory(Stem, {"width": 8})().width == 8
        with pytest.raises(ConfigError, match="Stem takes no 'widht'; did you mean 'width'"):
            Factory("Stem", {"widht": 8})()

    def test_what_the_program_gives_is_no_key(self):
        class Wired:
            def __init__(
                self, *, width: int, act: str = "relu", made: Given[list[int]], more: Given[int] = 2
            ) -> None:
                self.all = (width, act, made, more)

        @dataclass
        class Own:
            wired: Factory[Wired]

        registry.register("TestWired")(Wired)
        own = build(load({"wired": {"type": "TestWired", "width": 3, "act": None}}), Own)
        assert own.wired.left() == {"act": False, "made": True, "more": False}
        assert own.wired(made=[4]).all == (3, "relu", [4], 2)
        with pytest.raises(ConfigError, match="Wired takes no 'made'; it takes width"):
            build(load({"wired": {"type": "TestWired", "width": 3, "made": [4]}}), Own)
        with pytest.raises(ConfigError, match="needs 'width'"):
            build(load({"wired": {"type": "TestWired"}}), Own)

    def test_copies_and_pickles(self):
        factory = built(optimizer={"type": "Sgd", "lr": 1}).optimizer
        for other in (copy.deepcopy(factory), pickle.loads(pickle.dumps(factory))):
            assert other([]).lr == 1.0


class TestCallables:
    def test_block_of_a_function_is_a_partial_call(self):
        assert built(function={"type": "double", "times": 5}).function(3) == 15

    def test_block_of_a_callable_class_is_its_object(self):
        function = built(function={"type": "Doubler"}).function
        assert isinstance(function, Doubler)
        assert function(3) == 6

    def test_class_that_is_the_wanted_result_stays_a_partial(self):
        assert built(block={"type": "Stem", "act": "silu"}).block(width=8).act == "silu"

    def test_extra_keywords_go_to_kwargs(self):
        assert built(loose={"name": "a", "x": 1}).loose.options == {"x": 1}


def test_protocols_take_any_block_or_object():
    @dataclass
    class Scoring:
        scorer: Scorer

    stem = Stem(width=8)
    assert build(load({"scorer": stem}), Scoring).scorer is stem
    assert build(load({"scorer": {"type": "Stem", "width": 8}}), Scoring).scorer.width == 8
