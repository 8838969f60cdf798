"""Paths in configurations: run folders that are moved, and names of all kinds."""

import shutil
from pathlib import Path

import pytest

from razorlite import recipes
from razorlite.core.config import load
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.recipes.paths import located, portable
from tests.recipes.runs import write

ODD = ["try #1", "a: b", "[x]", "~", "50%", "{y}", "spaces  here", "überall", "*", "'q'", "- d"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Run in a folder of its own, which has a file x.yaml, a folder a and a/x.yaml."""
    (tmp_path / "a").mkdir()
    for name in ("x.yaml", "a/x.yaml", "a/y.yaml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)


class TestLocated:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("x.yaml", "x.yaml"),  # as ever: from the current folder
            ("./x.yaml", "a/x.yaml"),  # from the file
            ("../x.yaml", "a/../x.yaml"),
            ("y.yaml", "a/y.yaml"),  # not in the current folder
            ("./a/x.yaml", "./a/x.yaml"),  # not beside the file
            ("none.yaml", "none.yaml"),
            ("https://x.org/y.pt", "https://x.org/y.pt"),
        ],
    )
    @pytest.mark.parametrize("key", ["subnet", "load_from", "distiller.teacher.config"])
    def test_in_a_file(self, key, written, expected):
        *parents, last = key.split(".")
        tree = {last: written}
        for name in reversed(parents):
            tree = {name: tree}
        config = located(load(write(tree, Path("a"), "c.yaml")))
        assert Path(config.get(key)) == Path(expected)

    def test_a_base_speaks_for_itself(self):
        Path("c.yaml").write_text("_base_: a/base.yaml\n")
        Path("a/base.yaml").write_text("subnet: ./y.yaml\n")
        assert located(load("c.yaml")).get("subnet") == "a/y.yaml"

    def test_command_lines_and_mappings_start_here(self):
        path = write({"seed": 1}, Path("a"), "c.yaml")
        assert located(load(path, ["subnet=./y.yaml"])).get("subnet") == "./y.yaml"
        assert located(load({"subnet": "y.yaml"})).get("subnet") == "y.yaml"


class TestPortable:
    @pytest.mark.parametrize("name", ["run", *ODD])
    @pytest.mark.parametrize("absolute", [False, True])
    def test_a_moved_folder_finds_its_files(self, name, absolute, monkeypatch):
        folder = Path("runs").absolute() / name if absolute else Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "subnet.yaml").write_text("")
        config = load({"load_from": "x.yaml"}, {"subnet": str(folder / "subnet.yaml")})
        (folder / "config.yaml").write_text(portable(config, folder).dump(), encoding="utf-8")
        again = located(load(folder / "config.yaml"))
        assert Path(again.get("load_from")).samefile("x.yaml")
        Path("other").mkdir()
        moved = Path(shutil.move(folder, Path("other") / name)).absolute()
        for place in ("other", "/"):  # "other" may have a subnet.yaml too
            (Path("other") if place == "other" else Path("a")).joinpath("subnet.yaml").touch()
            monkeypatch.chdir(place)
            again = located(load(moved / "config.yaml"))
            assert Path(again.get("subnet")).samefile(moved / "subnet.yaml")
            monkeypatch.chdir(moved.parents[1])

    def test_other_texts_stay(self, tmp_path):
        for text in ("demo/supernet", "none.pt", str(tmp_path / "x.yaml"), "https://x.org/y.pt"):
            config = load({"load_from": text})
            assert portable(config, Path("run")).get("load_from") == text

    def test_through_a_link(self, tmp_path):
        (tmp_path / "far/away/run").mkdir(parents=True)
        Path("link").symlink_to(tmp_path / "far/away/run")
        text = portable(load({"subnet": "x.yaml"}), Path("link")).dump()
        Path("link/config.yaml").write_text(text)
        assert Path(located(load("link/config.yaml")).get("subnet")).samefile("x.yaml")


@pytest.mark.slow
def test_commands_write_where_they_are_told(pipeline):
    folder = Path("runs") / "a: try #1"
    recipes.prune(pipeline.prune, pipeline.trained, folder, ["train.max_steps=1"])
    assert read_checkpoint(folder / "checkpoints/last.pt")["progress"]["step"] == 1
    moved = Path(shutil.move(folder, "moved"))
    assert recipes.cost(moved / "config.yaml", as_json=True)["macs"] > 0


def test_a_subnet_on_the_command_line(pipeline):
    chosen = Path("a") / "sub: net #1.yaml"
    shutil.copy(pipeline.root / "search/subnet.yaml", chosen)
    recipes.train(pipeline.supernet, "run", ["train.max_steps=1"], subnet=chosen)
    assert located(load("run/config.yaml")).get("subnet") == "run/../a/sub: net #1.yaml"
    assert not any("choices" in key for key in read_checkpoint("run/checkpoints/last.pt")["model"])
