"""The command line: speed of --help, one-line errors, exit codes."""

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

import razorlite
from razorlite import cli
from razorlite.cli.command import SCHEMA_VERSION
from razorlite.cli.parser import build_parser
from razorlite.core import shipped
from razorlite.core.errors import BudgetError, ConfigError, DataError, RazorliteError
from razorlite.core.streams import is_quiet
from razorlite.engine import starting
from razorlite.engine.interrupt import StoppedAtEnd

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ["train", "test", "search", "prune", "cost", "demo", "config"]
ACTIONS = ["list", "show", "cat", "check"]


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def recipes(monkeypatch):
    """Stand-ins for the recipes; they note how they were called."""
    calls = []

    def recipe(name, result=None):
        return lambda *args, **kwargs: calls.append((name, args, kwargs)) or result

    cost = {"params": 3, "macs": 9}
    results = {"test": {"AP": 0.5}, "cost": cost, "check_config": []}
    fake = SimpleNamespace(calls=calls)
    for name in ["train", "test", "search", "prune", "cost", "demo", "check_config"]:
        setattr(fake, name, recipe(name, results.get(name)))
    monkeypatch.setattr(shipped, "find", Path)  # c.yaml is not there
    monkeypatch.setitem(sys.modules, "razorlite.recipes", fake)
    monkeypatch.setitem(vars(razorlite), "recipes", fake)
    return fake


def commands():
    """Return the words and the parser of every command and action, whatever it is called."""
    waiting = [("", build_parser())]
    found = []
    while waiting:
        words, parser = waiting.pop()
        inner = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        waiting += [(f"{words} {n}".strip(), p) for choices in inner for n, p in choices.items()]
        found += [] if inner else [(words, parser)]
    return found


def work_of_commands():
    """Return the processor's seconds for all commands so far: waiting for a core does not count."""
    return os.times().children_user + os.times().children_system


class TestHelp:
    @pytest.mark.parametrize("words", [[], *([c] for c in COMMANDS), ["config", "check"]])
    def test_answers_within_half_a_second(self, words):
        seconds = []
        for _ in range(3):
            start = work_of_commands()
            result = run("-m", "razorlite", *words, "--help")
            seconds.append(work_of_commands() - start)
        assert result.returncode == 0
        assert min(seconds) < 0.5
        assert "example:" in result.stdout or not words

    @pytest.mark.parametrize("name", COMMANDS)
    def test_tools_work_from_anywhere(self, name, tmp_path):
        result = run(str(ROOT / "tools" / f"{name}.py"), "--help", cwd=tmp_path)
        assert result.stdout.startswith(f"usage: razorlite {name}")

    def test_heavy_packages_stay_out(self):
        script = "import razorlite.cli, sys; print({'torch', 'numpy', 'rich'} & set(sys.modules))"
        assert run("-c", script).stdout.strip() == "set()"

    @pytest.mark.parametrize(
        "words",
        ["train no.yaml --processes 2", "test no.yaml no.pt", "data check no", "init no"],
    )
    def test_a_path_to_nowhere_is_told_before_they_are_loaded(self, words):
        script = f"""import sys; from razorlite.cli import main
assert main({words.split()}) == 2
print({{'torch', 'numpy', 'rich'}} & set(sys.modules))"""
        done = run("-c", script)
        assert done.stdout.strip() == "set()", done.stderr
        assert done.stderr.startswith("error: no ")

    def test_version(self):
        assert run("-m", "razorlite", "--version").stdout == f"razorlite {razorlite.__version__}\n"


class TestArguments:
    @pytest.mark.parametrize(
        ("words", "name", "args", "kwargs"),
        [
            (
                "train c.yaml --work-dir d --set a=1 --set b.c=[2] --resume",
                "train",
                ("c.yaml",),
                {
                    "work_dir": "d",
                    "overrides": ["a=1", "b.c=[2]"],
                    "resume": True,
                    "fast_dev_run": False,
                    "subnet": None,
                },
            ),
            (
                "train --set a=1 b.c=[2] --work-dir d=e c.yaml --subnet s.yaml",
                "train",
                ("c.yaml",),
                {
                    "work_dir": "d=e",
                    "overrides": ["a=1", "b.c=[2]"],
                    "resume": False,
                    "subnet": "s.yaml",
                    "fast_dev_run": False,
                },
            ),
            (
                "test c.yaml k.pt --subnet s.yaml",
                "test",
                ("c.yaml", "k.pt"),
                {"subnet": "s.yaml", "overrides": [], "as_json": False, "out": None},
            ),
            (
                "search c.yaml k.pt",
                "search",
                ("c.yaml", "k.pt"),
                {"work_dir": None, "overrides": [], "resume": False, "workers": None},
            ),
            (
                "prune c.yaml k.pt --work-dir d",
                "prune",
                ("c.yaml", "k.pt"),
                {"work_dir": "d", "overrides": [], "resume": False},
            ),
            (
                "cost c.yaml --shape 240 320",
                "cost",
                ("c.yaml",),
                {"subnet": None, "shape": (240, 320), "overrides": [], "as_json": False},
            ),
            (
                "demo --resume --processes 1",
                "demo",
                (),
                {"work_dir": None, "resume": True, "seed": 0},
            ),
            (
                "config check c.yaml --set a=1",
                "check_config",
                ("c.yaml", ["a=1"]),
                {"imports": False},
            ),
        ],
    )
    def test_reach_the_recipe(self, recipes, words, name, args, kwargs):
        assert cli.main(words.split()) == 0
        assert recipes.calls == [(name, args, kwargs)]

    @pytest.mark.parametrize("name", ["train", "search c.pt"])
    def test_several_processes(self, recipes, monkeypatch, name):
        started = []
        monkeypatch.setattr(starting, "start", lambda *args: started.append(args) or 7)
        words = [*name.split(), "c.yaml", "--processes", "3"]
        assert cli.main(words) == 7
        assert started == [(words, 3)]
        monkeypatch.setenv("WORLD_SIZE", "3")  # one of them
        assert cli.main(words) == 0
        assert len(recipes.calls) == 1

    @pytest.mark.parametrize(("threads", "gpus", "expected"), [(1, 0, 1), (2, 0, 2), (2, 1, 1)])
    def test_two_processes_where_both_have_something(
        self, recipes, monkeypatch, threads, gpus, expected
    ):
        started = []
        monkeypatch.setattr(starting, "start", lambda *args: started.append(args) or 7)
        monkeypatch.setattr(starting.torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(starting.torch.cuda, "device_count", lambda: gpus)
        assert cli.main(["demo"]) == (7 if expected == 2 else 0)
        assert started == ([(["demo"], 2)] if expected == 2 else [])
        assert cli.main(["demo", "--processes", "1"]) == 0

    def test_json(self, recipes, capsys):
        cli.main(["cost", "c.yaml", "--json"])
        assert json.loads(capsys.readouterr().out) == {
            "schema_version": SCHEMA_VERSION,
            "params": 3,
            "macs": 9,
        }
        cli.main(["test", "c.yaml", "k.pt", "--json"])
        assert json.loads(capsys.readouterr().out) == {"schema_version": SCHEMA_VERSION, "AP": 0.5}

    @pytest.mark.parametrize("words", [["-q", "c.yaml"], ["c.yaml", "--quiet"]])
    def test_quiet(self, recipes, monkeypatch, words):
        seen = []
        monkeypatch.setattr(recipes, "train", lambda *_, **__: seen.append(is_quiet()))
        cli.main(["train", *words])
        cli.main(["train", "c.yaml"])
        assert seen == [True, False]
        assert not is_quiet()

    @pytest.mark.parametrize(("words", "parser"), commands(), ids=str)
    def test_every_command_can_be_quiet(self, words, parser):
        assert "--quiet" in parser.format_usage() + parser.format_help(), words

    def test_json_is_printed_by_one_process(self, recipes, capsys, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        cli.main(["cost", "c.yaml", "--json"])
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("", "required: COMMAND"),
            ("trian c.yaml", "invalid choice: 'trian'"),
            ("train", "required: CONFIG"),
            ("test c.yaml", "required: CHECKPOINT"),
            (
                "train c.yaml --wrok-dir d",
                "unrecognized arguments: --wrok-dir d; did you mean '--work-dir'?; "
                "see: razorlite train --help",
            ),
            ("config list --jsn", "did you mean '--json'?; see: razorlite config list --help"),
            ("cost c.yaml --shape 240", "expected 2 arguments"),
            ("cost c.yaml --shape 240 wide", "wants a size in pixels, got 'wide'"),
            ("cost c.yaml --shape 0 1", "wants a size in pixels, got '0'"),
            ("train c.yaml --processes 0", "wants a number of processes, got '0'"),
            ("predict x.jpg --model m.onnx --score 2", "wants a number from 0 to 1, got '2'"),
            ("init photos --size 0 5", "wants a size in pixels, got '0'"),
            ("benchmark runs/fcos --rounds 0", "wants a number of rounds, got '0'"),
            ("browse c.yaml --images -1", "wants a number of images, got '-1'"),
            ("data split d --out o --seed -1", "wants a whole number of at least 0, got '-1'"),
            ("config", "required: ACTION"),
        ],
    )
    def test_wrong_ones_give_one_line_and_exit_2(self, recipes, capsys, words, message):
        with pytest.raises(SystemExit) as caught:
            cli.main(words.split())
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error


class TestErrors:
    def failing(self, recipes, error):
        def fail(*args, **kwargs):
            raise error

        recipes.train = fail
        return cli.main(["train", "c.yaml"])

    def test_user_error(self, recipes, capsys):
        assert self.failing(recipes, ConfigError("x.yaml:1: a: wants b")) == 2
        assert capsys.readouterr().err == "error: x.yaml:1: a: wants b\n"

    def test_a_page_that_has_more_to_say(self, recipes, capsys):
        assert self.failing(recipes, BudgetError("macs: cannot be met")) == 2
        end = "; see docs/troubleshooting.md#budgets\n"
        assert capsys.readouterr().err == f"error: macs: cannot be met{end}"

    def test_user_error_from_a_loader_worker(self, recipes, capsys):
        text = (
            "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            'call last):\n  File "x.py", line 1, in f\n'
            "razorlite.core.errors.DataError: a.jpg: gone\n"
        )
        assert self.failing(recipes, DataError(text)) == 2
        assert capsys.readouterr().err == "error: a.jpg: gone\n"

    def test_one_process_speaks_for_all(self, recipes, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv("WORLD_SIZE", "2")
        for rank in ("1", "0"):
            place = tmp_path / "attempt_0" / rank
            place.mkdir(parents=True)
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(place / "error.json"))
            assert self.failing(recipes, ConfigError("x.yaml:1: wrong")) == 2
        assert self.failing(recipes, DataError("its own")) == 2
        assert capsys.readouterr().err == "error: x.yaml:1: wrong\nerror: its own\n"

    @pytest.mark.parametrize(("rank", "message"), [("0", "error: x\n"), ("1", "")])
    def test_of_another_launcher_the_first_process_speaks(
        self, recipes, capsys, monkeypatch, rank, message
    ):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
        assert self.failing(recipes, ConfigError("x")) == 2
        assert capsys.readouterr().err == message

    def test_interrupt(self, recipes, capsys):
        assert self.failing(recipes, KeyboardInterrupt()) == 130
        message = "interrupted; to go on, run the same command again with --resume\n"
        assert capsys.readouterr().err == message

    def test_interrupt_while_flags_are_read(self, capsys, monkeypatch):
        def interrupted():
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "build_parser", interrupted)
        assert cli.main(["config", "list"]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_asked_to_stop_when_all_is_done(self, recipes, caplog):
        caplog.set_level("INFO")
        assert self.failing(recipes, StoppedAtEnd("step 5 was the last", {"AP": 0.5})) == 0
        assert caplog.messages[-1].endswith("the training is done")

    def test_bug_is_not_hidden(self, recipes):
        with pytest.raises(ZeroDivisionError):
            self.failing(recipes, ZeroDivisionError())

    def test_traceback_on_request(self, recipes, monkeypatch):
        monkeypatch.setenv("RAZORLITE_TRACEBACK", "1")
        with pytest.raises(ConfigError):
            self.failing(recipes, ConfigError("x"))


class TestConfigCommand:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        """Two shipped configurations and a base."""
        monkeypatch.setattr(shipped, "folder", lambda: tmp_path / "configs")
        monkeypatch.chdir(tmp_path)
        for name, text in {
            "_base_/data.yaml": "# not listed\nseed: 1\nlr: 1e-4\n",
            "fcos/fcos_small.yaml": "# A small FCOS.\n#\n_base_: ../_base_/data.yaml\nlr: 1\n",
            "spos/supernet.yaml": "seed: 2\n",
        }.items():
            path = tmp_path / "configs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def test_list(self, capsys):
        assert cli.main(["config", "list"]) == 0
        assert capsys.readouterr().out == "fcos/fcos_small  A small FCOS.\nspos/supernet\n"

    @pytest.mark.parametrize(
        "name",
        ["fcos_small", "fcos_small.yaml", "fcos/fcos_small", "configs/fcos/fcos_small.yaml"],
    )
    def test_show_merges(self, capsys, name):
        assert cli.main(["config", "show", name, "--set", "x.y=[1]"]) == 0
        assert capsys.readouterr().out == "seed: 1\nlr: 1\nx:\n  y: [1]\n"

    def test_cat_is_the_file(self, capsys):
        assert cli.main(["config", "cat", "supernet"]) == 0
        assert capsys.readouterr().out == "seed: 2\n"

    def test_cat_with_settings_keeps_what_is_written(self, capsys, tmp_path):
        text = "# Mine.\na: {b: 1, c: 2}  # one\n\n# of d\nd:\n  e: 1\n  # of f\n  f: 2\n# end\n"
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        words = ["--set", "a.b=3", "g=true", "h=[1]"]
        assert cli.main(["config", "cat", str(path), *words]) == 0
        written = capsys.readouterr().out
        expected = text.replace("a: {b: 1, c: 2}  # one", "a: {b: 3, c: 2}")
        assert written == expected + "g: true\nh: [1]\n"
        path.write_text(written)
        assert cli.main(["config", "cat", str(path), "--set", "d.f=5", "g=false"]) == 0
        assert capsys.readouterr().out == written.replace(
            "d:\n  e: 1\n  # of f\n  f: 2", "d: {e: 1, f: 5}"
        ).replace("true", "false")

    def test_check(self, recipes, capsys):
        assert cli.main(["config", "check", "supernet"]) == 0
        assert capsys.readouterr().out == "OK\n"

    def test_unknown_name_is_suggested(self, capsys):
        assert cli.main(["config", "show", "supernt"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: no config 'supernt'; did you mean 'supernet'? ")
        assert error.count("\n") == 1

    def test_name_in_two_folders(self, capsys, tmp_path):
        (tmp_path / "configs" / "fcos" / "supernet.yaml").write_text("")
        assert cli.main(["config", "show", "supernet"]) == 2
        assert "name its folder too" in capsys.readouterr().err


def test_output_to_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "razorlite", "config", "list"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


def test_the_package_shows_its_functions():
    script = (
        "import razorlite, sys; found = dir(razorlite); assert 'torch' not in sys.modules; "
        "print([name for name in razorlite.__all__ if name not in found])"
    )
    assert run("-c", script).stdout == "[]\n"


@pytest.mark.parametrize("name", ["run_search", "run_prune", "run_cost", "train", "test", "demo"])
def test_commands_are_the_recipes_functions(name):
    from razorlite import recipes

    assert inspect.isfunction(getattr(razorlite, name))
    assert getattr(razorlite, name) is getattr(recipes, name.removeprefix("run_"))


def test_packages_stay_packages():
    import razorlite.search as package

    assert type(razorlite) is types.ModuleType
    assert razorlite.search is package is importlib.import_module("razorlite.search")
    assert package.Study.__module__ == "razorlite.search.study"


@pytest.mark.parametrize("name", ["search", "prune", "cost"])
def test_packages_are_called_as_the_commands_of_their_names(name):
    package = importlib.import_module(f"razorlite.{name}")
    assert inspect.signature(package) == inspect.signature(getattr(razorlite, f"run_{name}"))
    with pytest.raises(RazorliteError, match="nothing"):
        package("nothing.yaml", *(["nothing.pt"] if name != "cost" else []))


def test_commands_have_names_that_packages_do_not(recipes):
    razorlite.run_cost("c.yaml", shape=(1, 2))
    assert recipes.calls == [("cost", ("c.yaml",), {"shape": (1, 2)})]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        razorlite.trian  # noqa: B018
