"""Wrong command lines: exit code 2, one line, no traceback, nothing left in the way."""

import os
import random
from pathlib import Path

import pytest

from razorlite import cli
from razorlite.engine.run_folder import results

FILES = {
    "missing": None,
    "empty": b"",
    "blank": b"\n \n",
    "binary": bytes(random.Random(0).randbytes(400)),
    "nulls": b"\0" * 64,
    "list": b"- 1\n- 2\n",
    "text": b"just some words",
    "number": b"5\n",
    "broken": b"a: [1, 2\nb: }",
    "utf16": "seed: 1\n".encode("utf-16"),
    "json": b'{"images": [',
    "zip": b"PK\x03\x04" + bytes(40),
}
PATHS = ["folder", "under a file", "nul", "long", "loop", "nothing", "pipe"]
CONFIG_COMMANDS = ["train", "test", "search", "prune", "cost", "config show", "config check"]


@pytest.fixture(scope="module")
def places(pipeline, module_path):
    """Paths by what they lead to."""
    for name, data in FILES.items():
        if data is not None:
            (module_path / name).write_bytes(data)
    (module_path / "loop").symlink_to(module_path / "loop")
    (module_path / "folder").mkdir()
    os.mkfifo(module_path / "pipe")
    strangers = {
        "config": pipeline.subnet,
        "checkpoint": pipeline.trained,
        "subnet": pipeline.root / "search/subnet.yaml",
        "journal": pipeline.root / "search/journal.jsonl",
        "metrics": pipeline.root / "supernet/metrics.jsonl",
    }
    odd = {
        "under a file": module_path / "text" / "x",
        "nul": "a\0b",
        "long": module_path / ("x" * 300),
        "nothing": "",
    }
    return {**{n: module_path / n for n in [*FILES, *PATHS]}, **odd, **strangers}


def refused(capsys, words, folder: Path) -> str:
    """Return the one line that a command ends with; nothing of a run is left in the folder."""
    capsys.readouterr()
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as ended:  # argparse's
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert len(captured.err) < 1200
    assert "Traceback" not in captured.err
    assert not folder.is_dir() or results(folder) == []
    return captured.err


def command(name, pipeline, place, config=None, checkpoint=None):
    """Return the words of a right command, but for what is given."""
    configs = {"search": pipeline.supernet, "prune": pipeline.prune, "train": pipeline.supernet}
    words = [*name.split(), config if config is not None else configs.get(name, pipeline.subnet)]
    if name in ("test", "search", "prune"):
        right = pipeline.weights if name == "search" else pipeline.trained
        words.append(checkpoint if checkpoint is not None else right)
    return [*words, "--work-dir", place] if name in ("train", "search", "prune") else words


@pytest.mark.parametrize("kind", [*FILES, *PATHS, "checkpoint", "journal", "metrics"])
@pytest.mark.parametrize("name", CONFIG_COMMANDS)
def test_no_configuration(pipeline, places, tmp_path, capsys, name, kind):
    if name == "config show" and kind in ("empty", "blank", "subnet"):
        pytest.skip("merges to something that can be shown")
    refused(
        capsys, command(name, pipeline, tmp_path / "run", config=places[kind]), tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [*FILES, *PATHS, "config", "subnet", "journal", "metrics"])
@pytest.mark.parametrize("name", ["test"])
def test_no_checkpoint(pipeline, places, tmp_path, capsys, name, kind):
    words = command(name, pipeline, tmp_path / "run", checkpoint=places[kind])
    refused(capsys, words, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [*FILES, *PATHS, "config", "checkpoint", "journal", "metrics"])
@pytest.mark.parametrize("name", ["cost"])
def test_no_subnet(pipeline, places, tmp_path, capsys, name, kind):
    words = command(name, pipeline, tmp_path / "run", config=pipeline.supernet)
    refused(capsys, [*words, "--subnet", places[kind]], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["text", "under a file", "nul", "long", "loop", "pipe", "nothing"])
@pytest.mark.parametrize("name", ["train"])
def test_no_run_folder(pipeline, places, tmp_path, capsys, name, kind):
    refused(capsys, command(name, pipeline, places[kind]), tmp_path / "run")


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("theirs", ["supernet", "search", "prune"])
@pytest.mark.parametrize("name", ["train", "search"])
def test_another_commands_folder(pipeline, tmp_path, capsys, name, theirs, resume):
    own = {"train": "supernet"}.get(name, name) == theirs
    if own and resume:
        pytest.skip("goes on with its own run")
    folder = pipeline.root / theirs
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    refused(capsys, [*command(name, pipeline, folder), *resume], tmp_path)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {p for p in before if after[p] != before[p]} <= {folder / ".lock"}


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--work-dir x",
        "tarin c",
        "train",
        "train a b",
        "train c --resume=yes",
        "train c --subnet",
        "train c --work-dir",
        "train c --set",
        "train c --processes two",
        "train c --processes -1",
        "test c",
        "test c k --work-dir x",
        "search c",
        "search c k --shape 1 1",
        "prune c",
        "prune c k --checkpoint",
        "cost",
        "cost c --shape",
        "cost c --shape 0 0",
        "cost c --shape -1 5",
        "cost c --shape 64 64 64",
        "cost c --shape 1e3 64",
        "demo c",
        "config",
        "config c",
        "config show",
        "config check",
        "config cat",
        "config cat none",
        "config list x",
    ],
)
def test_no_command(tmp_path, capsys, words):
    refused(capsys, words.split(), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "seed",
        "=1",
        "seed=[",
        "seed.x=1",
        "data.train.0=1",
        "model=5",
        "model=null",
        "train=[]",
        "train.optimizer=SGD",
        "subnet=none.yaml",
        "load_from=none.pt",
        "work_dir=[a]",
        "shape=[0, 64]",
        "shape=64",
        "data.train.batch_size=0",
        "data.train=null",
        "\0=1",
    ],
)
def test_no_override(pipeline, tmp_path, capsys, text):
    words = ["train", pipeline.supernet, "--work-dir", tmp_path / "run", "--set", text]
    refused(capsys, words, tmp_path / "run")
    assert not (tmp_path / "run").exists()
