"""What commands print: results on standard output, one JSON object where a script asks for it."""

import json
import logging
from types import SimpleNamespace

import pytest

from razorlite import cli
from razorlite.cli.command import SCHEMA_VERSION
from razorlite.core.streams import logged_to_streams, printed_to_stderr, results
from tests.test_cli import commands

PLAIN = {"config show", "config cat", "config types"}  # print YAML, and text for people
RESULT = SimpleNamespace(to_dict=lambda *_: {"found": 1}, severity="note", fault="")
NEEDED = {  # words of each command that prints JSON: its recipe, its arguments, what it finds
    "train": ("train", "c.yaml", {"AP": 0.5}),
    "test": ("test", "c.yaml k.pt", {"AP": 0.5}),
    "search": ("search", "c.yaml k.pt", RESULT),
    "prune": ("prune", "c.yaml k.pt", RESULT),
    "cost": ("cost", "c.yaml", {"macs": 1}),
    "demo": ("demo", "", [{"model": "largest"}]),
    "export": ("export", "k.pt", RESULT),
    "predict": ("predict", "photos --model k.pt", [RESULT]),
    "infer": ("predict", "photos --model k.pt", [RESULT]),  # the same by another name
    "benchmark": ("benchmarking.benchmark", "k.pt", RESULT),
    "lr-find": ("find_lr", "c.yaml", RESULT),
    "browse": ("browse", "c.yaml", "browse/index.html"),
    "analyze": ("analyze", "runs/one", {"runs/one": {"AP": 0.5}}),
    "init": ("init", "photos", ["2 classes: a, b"]),
    "data check": ("datasets.check_data", "photos", [RESULT]),
    "data stats": ("datasets.data_stats", "photos", {"train": RESULT}),
    "data convert": ("datasets.convert_data", "photos --to coco --out new", RESULT),
    "data split": ("datasets.split_data", "photos --out new", RESULT),
    "data anchors": ("anchoring.fit_config_anchors", "c.yaml", RESULT),
    "config check": ("check_config", "c.yaml", ["left alone: fc"]),
    "config convert": ("convert_config", "c.py", ["c.py:1: model_wrapper"]),
}


def test_every_command_that_a_script_would_read_has_json():
    without = {words for words, parser in commands() if "--json" not in parser.format_help()}
    assert without == PLAIN
    every = {words for words, _ in commands()}
    assert every - PLAIN - set(NEEDED) == {"config list"}  # which runs no recipe


@pytest.mark.parametrize("words", NEEDED)
def test_json_is_alone_on_standard_output(words, tmp_path, monkeypatch, capsys):
    recipe, more, found = NEEDED[words]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").touch()
    (tmp_path / "photos").mkdir()

    def command(*args, **kwargs):
        print("a table")
        results.info("a result in words")
        return found

    monkeypatch.setattr(f"razorlite.recipes.{recipe}", command)
    assert cli.main([*words.split(), *more.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out)["schema_version"] == SCHEMA_VERSION
    assert "a table" in err
    assert "a result in words" in err


def test_results_go_to_standard_output_alone_and_once(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with logged_to_streams(logging.INFO):
        results.info("best of 3 trials")
        logging.getLogger("razorlite").info("trial 1")
        with printed_to_stderr():
            results.info("of a step")
            print("table of a step")
    assert capsys.readouterr() == ("best of 3 trials\n", "trial 1\nof a step\ntable of a step\n")
    assert not results.handlers


def test_other_processes_print_no_results(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with logged_to_streams(logging.ERROR):
        results.info("best of 3 trials")
    assert capsys.readouterr() == ("", "")
