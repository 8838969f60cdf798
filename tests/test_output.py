"""What commands print: results on standard output, one JSON object where a script asks for it."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest

from razorlite import cli
from razorlite.core.streams import logged_to_streams, printed_to_stderr, results
from tests.test_cli import commands

PLAIN = {"config show", "config cat", "config types"}  # print YAML, and text for people
NEEDED = {  # words of each command that prints JSON, and what it finds
    "train": ("c.yaml", {"AP": 0.5}),
    "test": ("c.yaml k.pt", {"AP": 0.5}),
    "search": ("c.yaml k.pt", SimpleNamespace(to_dict=lambda: {"choices": {"a": "b"}})),
    "prune": ("c.yaml k.pt", SimpleNamespace(to_dict=lambda: {"channels": {"a": [0]}})),
    "cost": ("c.yaml", {"macs": 1}),
    "demo": ("", [{"model": "largest"}]),
    "export": ("k.pt", SimpleNamespace(to_dict=lambda: {"format": "onnx"})),
    "browse": ("c.yaml", "browse/index.html"),
    "init": ("photos", ["2 classes: a, b"]),
    "config check": ("c.yaml", ["left alone: fc"]),
    "config convert": ("c.py", ["c.py:1: model_wrapper"]),
}
NAMES = {"init": "init", "config check": "check_config", "config convert": "convert_config"}


def test_every_command_that_a_script_would_read_has_json():
    without = {words for words, parser in commands() if "--json" not in parser.format_help()}
    assert without == PLAIN


@pytest.mark.parametrize("words", NEEDED)
def test_json_is_alone_on_standard_output(words, monkeypatch, capsys):
    more, found = NEEDED[words]

    def command(*args, **kwargs):
        print("a table")
        results.info("a result in words")
        return found

    recipes = SimpleNamespace(**{NAMES.get(words, words): command})
    monkeypatch.setitem(sys.modules, "razorlite.recipes", recipes)
    monkeypatch.setattr("razorlite.recipes", recipes, raising=False)
    assert cli.main([*words.split(), *more.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out)["schema_version"] == 1
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
