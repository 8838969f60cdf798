"""The demo as a newcomer runs it."""

import json
import signal
from pathlib import Path

import pytest

from razorlite import recipes
from razorlite.core.errors import RunFolderError
from razorlite.recipes import demonstration
from tests.recipes.runs import Command

NOISE = 0.06  # AP between two runs of this length


@pytest.mark.slow
@pytest.mark.usefixtures("all_cores")
def test_killed_demo_goes_on_and_compares_five_models_in_one_report(tmp_path: Path):
    folder = tmp_path / "demo"
    command = Command("demo", "--work-dir", folder, folder=folder)
    command.send_when(lambda: (folder / "supernet/checkpoints/last.pt").exists(), signal.SIGKILL)
    rows = {row["name"]: row for row in recipes.demo(folder, resume=True)}
    assert list(rows) == ["largest", "random", "searched", "distilled", "pruned"]
    assert rows["searched"]["AP"] >= rows["random"]["AP"] - NOISE
    assert rows["searched"]["macs"] < rows["largest"]["macs"]
    assert rows["distilled"]["macs"] == rows["searched"]["macs"]
    assert rows["pruned"]["macs"] <= 0.75 * rows["distilled"]["macs"]
    assert min(row["AP50"] for row in rows.values()) > 0.2
    page = (folder / "report.html").read_text()
    assert "src='http" not in page
    assert 'src="http' not in page
    kept = json.loads((folder / "report.json").read_text())["rows"]
    assert {"name", "macs", "params", "latency_ms", "AP", "AP50"} <= set(kept[0])
    assert [row["macs"] for row in kept] == [row["macs"] for row in rows.values()]


def test_demo_leaves_a_used_folder_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="not empty; choose another folder"):
            recipes.demo(tmp_path, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture
def pipeline_stub(monkeypatch):
    """The demo with steps that only note how they were called; the set `fail` names one to stop."""
    calls, fail = [], set()

    def stub(command):
        def run(*arguments, resume=False):
            words = [str(a.name) if isinstance(a, Path) else a for a in arguments]
            name = next(w for w in words[1:] if w in {"supernet", "search", *demonstration._NOTES})
            calls.append((command, name, resume or arguments[-1] is True))
            if name in fail:
                raise KeyboardInterrupt

        return run

    for command in ("train", "search", "prune"):
        monkeypatch.setattr(demonstration, command, stub(command))
    for name in ("_controls", "print_table"):
        monkeypatch.setattr(demonstration, name, lambda *_, **__: None)
    monkeypatch.setattr(demonstration, "_measure", lambda contestants: [{"name": "row"}])
    monkeypatch.setattr(demonstration, "_report", _write_report)
    return calls, fail


def _write_report(folder, rows, seconds):
    (folder / "report.json").write_text(json.dumps({"rows": rows}))
    (folder / "report.html").write_text("report")
    return folder / "report.html"


def test_interrupted_demo_goes_on_with_its_step(pipeline_stub, tmp_path, caplog):
    calls, fail = pipeline_stub
    fail.add("searched")
    with pytest.raises(KeyboardInterrupt):
        recipes.demo(tmp_path / "demo")
    with pytest.raises(RunFolderError, match="already holds a demo; go on with it by --resume"):
        recipes.demo(tmp_path / "demo")
    fail.clear()
    before = list(calls)
    rows = recipes.demo(tmp_path / "demo", resume=True)
    assert [call[1] for call in before] == ["supernet", "search", "largest", "random", "searched"]
    assert calls[len(before) :] == [
        ("train", "searched", True),
        ("train", "distilled", True),
        ("prune", "pruned", True),
    ]
    with caplog.at_level("INFO", "razorlite"):
        assert recipes.demo(tmp_path / "demo", resume=True) == rows
    assert "is finished" in caplog.text
    assert len(calls) == len(before) + 3


def test_newest_demo_is_gone_on_with(pipeline_stub, tmp_path, monkeypatch):
    _, fail = pipeline_stub
    monkeypatch.chdir(tmp_path)
    recipes.demo()
    fail.add("pruned")
    with pytest.raises(KeyboardInterrupt):
        recipes.demo()
    fail.clear()
    recipes.demo(resume=True)
    names = sorted(path.name for path in (tmp_path / "work_dirs").iterdir())
    assert names == ["demo", "demo_2"]
    assert (tmp_path / "work_dirs/demo_2/report.html").exists()
