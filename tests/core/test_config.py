"""Loading, merging, overrides, sources."""

import math
import sys
from pathlib import Path

import pytest

from razorlite.core.config import Config, ConfigError, load


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write YAML files into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    return write


def faults(*args, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value).split("\n")


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("-1E+3", -1000.0),
            (".5", 0.5),
            ("2.", 2.0),
            (".inf", math.inf),
            ("10_000", 10_000),
            ("0x1F", 31),
            ("true", True),
            ("~", None),
            ("", None),
            # plain text, though YAML 1.1 would read booleans, octals, base 60 and dates
            ("no", "no"),
            ("on", "on"),
            ("007", "007"),
            ("12:30:00", "12:30:00"),
            ("2024-01-01", "2024-01-01"),
            ("'1e-4'", "1e-4"),
            ("!!str 5", "5"),
        ],
    )
    def test_value(self, write, text, value):
        got = load(write("a.yaml", f"x: {text}\n")).tree["x"]
        assert got == value
        assert type(got) is type(value)

    def test_dump_loads_back_equal(self, write):
        texts = [
            "1e-4",
            "no",
            "007",
            "1:30",
            "null",
            "",
            "a: b",
            "- x",
            "2024-01-01",
            "1_0",
            "é",
            "<<",
        ]
        tree = {
            "texts": texts,
            "numbers": [1e-4, 1e22, 1e-7, -0.0, math.inf, 3, True, None],
            "nested": {"a.b": {"0": []}, "empty": {}, "lists": [[1, 2], [{"k": "line\nbreak"}]]},
        }
        path = write("a.yaml", load(tree).dump())
        assert load(path).tree == tree

    def test_objects_in_a_tree_are_kept_and_dumped_as_text(self):
        thing = object()
        config = load({"x": thing, "y": (1, 2)})
        assert config.tree == {"x": thing, "y": [1, 2]}
        assert "<object object>" in config.dump()


class TestSources:
    def test_lines_of_keys_and_items(self, write):
        config = load(write("a.yaml", "a:\n  b: 1\n  c:\n    - {d: 1}\n    - {d: 2}\n"))
        assert config.where("a.b") == "a.yaml:2"
        assert config.where("a.c") == "a.yaml:3"
        assert config.where("a.c.1.d") == "a.yaml:5"
        assert config.where("a.b.unknown") == "a.yaml:2"

    def test_get(self, write):
        config = load(write("a.yaml", 'a: {"x.y": [5, {z: 6}]}\n'))
        assert config.get('a."x.y".1.z') == 6
        assert config.get("a.q", "no") == "no"
        assert config.name == "a"

    def test_tree_has_no_file(self):
        config = load({"a": 1})
        assert config.where("a") == "config"
        assert config.path is None


class TestBases:
    def test_one_base_is_relative_to_its_file(self, write):
        write("_base_/base.yaml", "lr: 0.1\nmodel: {type: A, depth: 18, stages: [1, 2, 3]}\n")
        write("deep/er/a.yaml", "_base_: ../../_base_/base.yaml\nmodel: {depth: 50, stages: [4]}\n")
        config = load("deep/er/a.yaml")
        # dicts merge by key, lists are replaced
        assert config.tree == {"lr": 0.1, "model": {"type": "A", "depth": 50, "stages": [4]}}
        assert config.where("lr") == "_base_/base.yaml:1"
        assert config.where("model.depth") == "deep/er/a.yaml:2"
        assert config.where("model.type") == "_base_/base.yaml:2"

    def test_later_of_several_bases_wins(self, write):
        write("one.yaml", "a: 1\nb: 1\n")
        write("two.yaml", "b: 2\nc: 2\n")
        config = load(write("x.yaml", "_base_: [one.yaml, two.yaml]\nc: 3\n"))
        assert config.tree == {"a": 1, "b": 2, "c": 3}

    def test_changed_type_replaces_the_block(self, write):
        write("base.yaml", "opt: {type: SGD, lr: 0.1, momentum: 0.9}\n")
        new = load(write("x.yaml", "_base_: base.yaml\nopt: {type: AdamW, lr: 0.2}\n"))
        same = load(write("y.yaml", "_base_: base.yaml\nopt: {type: SGD, lr: 0.2}\n"))
        assert new.tree == {"opt": {"type": "AdamW", "lr": 0.2}}
        assert same.tree == {"opt": {"type": "SGD", "lr": 0.2, "momentum": 0.9}}

    def test_null_takes_a_block_away(self, write):
        write("base.yaml", "mutator: {groups: {a: 1}}\nx: 1\n")
        config = load(write("x.yaml", "_base_: base.yaml\nmutator: null\n"))
        assert config.tree == {"mutator": None, "x": 1}

    def test_cycle_names_both_files(self, write):
        write("a.yaml", "_base_: b.yaml\n")
        write("b.yaml", "x: 1\n_base_: a.yaml\n")
        assert faults("a.yaml") == [
            "b.yaml:2: _base_: a.yaml is a base of itself; remove one of the two"
        ]

    def test_diamond_is_no_cycle(self, write):
        write("root.yaml", "a: 1\n")
        write("l.yaml", "_base_: root.yaml\nb: 2\n")
        write("r.yaml", "_base_: root.yaml\nc: 3\n")
        config = load(write("x.yaml", "_base_: [l.yaml, r.yaml]\n"))
        assert config.tree == {"a": 1, "b": 2, "c": 3}

    @pytest.mark.parametrize(
        "name", ["demo/supernet", "configs/demo/supernet.yaml", "retinanet_r50_fpn_1x_coco"]
    )
    def test_a_shipped_configuration_by_its_name(self, write, name):
        config = load(write("x.yaml", f"_base_: {name}\nseed: 3\n"))
        assert config.tree["model"]["type"] in ("FCOS", "RetinaNet")
        assert config.tree["seed"] == 3

    def test_a_shipped_base_by_its_path(self, write):
        config = load(write("x.yaml", "_base_: _base_/schedules/1x\n"))
        assert config.tree["train"]["max_epochs"] == 12

    def test_a_file_beside_hides_a_shipped_one(self, write):
        write("demo/supernet.yaml", "a: 1\n")
        assert load(write("x.yaml", "_base_: demo/supernet.yaml\n")).tree == {"a": 1}

    def test_missing_base_is_suggested(self, write):
        write("_base_/bccd.yaml", "a: 1\n")
        write("x.yaml", "_base_:\n  - _base_/bcd.yaml\n  - 3\n")
        assert faults("x.yaml") == [
            "x.yaml:3: _base_: wants a file or a list of files",
            "x.yaml:2: _base_: no file _base_/bcd.yaml; did you mean 'bccd.yaml'?",
        ]


class TestFaultyFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 1\nb: [1, 2\nc: 3\n", "x.yaml:3: not valid YAML: expected ',' or ']'"),
            ("a: 1\n\tb: 2\n", "x.yaml:2: not valid YAML"),
            ("a: b: c\n", "x.yaml:1: not valid YAML: mapping values are not allowed here"),
            (
                "a: 1\nb: 2\na: 3\n",
                "x.yaml:3: key 'a' is written twice, first at x.yaml:1; keep one",
            ),
            ("n:\n  a: 1\n  a: 2\n", "x.yaml:3: key 'a' is written twice, first at x.yaml:2"),
            ("- a\n- b\n", "x.yaml: wants 'key: value' lines, got list"),
            ("just text\n", "x.yaml: wants 'key: value' lines, got str"),
            ("a: !!python/name:os.system\n", "x.yaml:1: the tag 'tag:yaml.org,2002:python/name:os"),
            ("a: 1\n---\nb: 1\n", "x.yaml:2: not valid YAML"),
            ("a: &x\n  b: *x\n", "x.yaml:2: an alias refers to the block it stands in"),
            ("a: *nowhere\n", "x.yaml:1: not valid YAML: found undefined alias"),
            ("? [a, b]\n: 1\n", "x.yaml:1: a key must be plain text"),
            ("a: !!int many\n", "x.yaml:1: 'many' is no int"),
            ("a: \x07\n", "x.yaml:1: not valid YAML: the character 0x0007 is no text; remove it"),
        ],
    )
    def test_names_file_and_line(self, write, text, message):
        assert any(message in fault for fault in faults(write("x.yaml", text)))

    def test_all_faults_of_all_files_at_once(self, write):
        write("base.yaml", "a: 1\na: 2\n")
        write("x.yaml", "_base_: base.yaml\nb: 1\nb: 2\n")
        assert len(faults("x.yaml", ["novalue", "b.c=1"])) == 4

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "x.yaml").write_bytes(b"\x80\x02\xff\xfe")
        assert faults(tmp_path / "x.yaml")[0].endswith(
            "not a UTF-8 text file; is it a configuration?"
        )

    def test_missing_file_is_suggested(self, write):
        write("fcos.yaml", "a: 1\n")
        assert faults("fcso.yaml")[0].startswith("no config 'fcso.yaml'; did you mean 'fcos.yaml'?")

    def test_a_missing_ending_is_suggested(self, write):
        write("my.yaml", "a: 1\n")
        write("x.yaml", "_base_: my\n")
        assert faults("x.yaml") == ["x.yaml:1: _base_: no file my; did you mean 'my.yaml'?"]
        assert faults("my")[0].startswith("no config 'my'; did you mean 'my.yaml'?")

    def test_merge_keys_and_anchors(self, write):
        text = "base: &b {x: 1, y: 1}\nother: {<<: *b, y: 2}\nlist: [*b, *b]\n"
        tree = load(write("x.yaml", text)).tree
        assert tree["other"] == {"x": 1, "y": 2}
        assert tree["list"] == [{"x": 1, "y": 1}] * 2
        assert tree["list"][0] is not tree["list"][1]

    def test_empty_file_is_an_empty_tree(self, write):
        assert load(write("x.yaml", "# nothing\n")).tree == {}


class TestOverrides:
    @pytest.fixture
    def config(self, write) -> str:
        text = (
            "seed: 1\nmodel: {type: A, depth: 18}\nsteps:\n  - {type: R, size: 1}\n  - {type: F}\n"
        )
        return write("x.yaml", text)

    @pytest.mark.parametrize(
        ("override", "path", "value"),
        [
            ("seed=2", "seed", 2),
            ("lr=1e-4", "lr", 1e-4),
            ("model.depth=50", "model", {"type": "A", "depth": 50}),
            ("model={depth: 34}", "model", {"type": "A", "depth": 34}),
            ("model.type=B", "model", {"type": "B"}),
            ("model.type=A", "model", {"type": "A", "depth": 18}),
            ("model=null", "model", None),
            ("steps.0.size=[3, 4]", "steps", [{"type": "R", "size": [3, 4]}, {"type": "F"}]),
            ("steps=[]", "steps", []),
            ("new.deep.key=text with = sign", "new", {"deep": {"key": "text with = sign"}}),
            ('names."a.b"=1', "names", {"a.b": 1}),
            ("empty=", "empty", None),
        ],
    )
    def test_result_and_source(self, config, override, path, value):
        loaded = load(config, [override])
        assert loaded.get(path) == value
        assert loaded.where(override.partition("=")[0]) == f"--set {override.partition('=')[0]}"

    @pytest.mark.parametrize(
        "text", ["runs/try #1", "a: b", "[x]", "~", "50%", "{y}", "*z", "1e3", "é ", "'"]
    )
    def test_values_of_a_mapping_are_taken_as_they_are(self, config, write, text):
        loaded = load(config, {"subnet": text, "a.b": [text]})
        assert (loaded.get("subnet"), loaded.get("a.b")) == (text, [text])
        assert loaded.where("subnet") == "--set subnet"
        assert load(write("again.yaml", loaded.dump())).tree == loaded.tree

    def test_later_override_wins_and_type_comes_first(self, config):
        tree = load(config, ["model.depth=50", "model.type=B", "seed=2", "seed=3"]).tree
        assert tree["model"] == {"type": "B", "depth": 50}
        assert tree["seed"] == 3

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("seed", "--set seed: wants KEY=VALUE, for instance --set seed=1"),
            ("=3", "--set =3: wants KEY=VALUE, for instance --set seed=1"),
            ("seed.a=1", "--set seed.a: seed is 1, not a block with keys"),
            ("steps.2.size=1", "--set steps.2.size: steps has 2 items; there is no item 2"),
            (
                "steps.first=1",
                "--set steps.first: steps is a list; name an item by its index from 0",
            ),
            ("a=[1", "--set a: not valid YAML: expected ',' or ']'"),
        ],
    )
    def test_faults(self, config, override, message):
        assert faults(config, [override])[0].startswith(message)

    def test_loaded_config_takes_more_overrides(self, config):
        again = load(load(config, ["seed=2"]), ["model.depth=50"])
        assert again.tree["seed"] == 2
        assert again.where("seed") == "--set seed"
        assert again.where("model.type") == "x.yaml:2"
        assert again.name == "x"


class TestCustomImports:
    def test_module_beside_the_configuration(self, write, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        write(
            "mine/my_blocks_a.py", "from razorlite.core.registry import register\nLOADED = True\n"
        )
        load(write("mine/x.yaml", "custom_imports: [my_blocks_a]\n"))
        assert sys.modules.pop("my_blocks_a").LOADED

    def test_module_beside_the_base_that_names_it(self, write, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        write("mine/my_blocks_b.py", "")
        write("mine/base.yaml", "custom_imports: [my_blocks_b]\n")
        load(write("other/x.yaml", "_base_: ../mine/base.yaml\n"))
        assert sys.modules.pop("my_blocks_b")

    def test_failures_name_the_cause_all_at_once(self, write, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        write("my_broken.py", "1 / 0\n")
        lines = faults(write("x.yaml", "custom_imports:\n  - no_such_module\n  - my_broken\n"))
        first = "x.yaml:2: custom_imports: cannot import 'no_such_module': ModuleNotFoundError: "
        assert lines[0].startswith(first)
        assert "x.yaml:3: custom_imports: cannot import 'my_broken': ZeroDivisionError" in lines[1]

    def test_wants_a_list_of_names(self, write):
        assert "wants a list of module names" in faults(write("x.yaml", "custom_imports: os\n"))[0]


def test_empty_config_stands_for_nothing():
    assert Config({}, sources={}).where("a.b") == "config"
