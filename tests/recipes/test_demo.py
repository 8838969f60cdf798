"""The demo as a newcomer runs it."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from razorlite import recipes
from razorlite.core.errors import RunFolderError
from razorlite.recipes import demonstration
from razorlite.recipes.demo_rows import Measured, conclusions
from razorlite.space import Subnet
from tests.recipes.runs import Command

NAMES = ["largest", "by hand", "random", "searched", "distilled", "pruned"]


@pytest.mark.release
def test_killed_demo_goes_on_and_compares_models_trained_alike_in_one_report(tmp_path: Path):
    folder = tmp_path / "demo"
    command = Command("demo", "--work-dir", folder, "--processes", 1, folder=folder)
    command.send_when(lambda: (folder / "supernet/checkpoints/last.pt").exists(), signal.SIGKILL)
    rows = {row["name"]: row for row in recipes.demo(folder, resume=True)}
    assert [name for name in NAMES if name in rows or name != "distilled"] == list(rows)
    assert len({row["steps"] for row in rows.values()}) == 1
    budget = 0.45 * rows["largest"]["macs"]
    assert all(row["macs"] <= budget for name, row in rows.items() if name != "largest")
    assert rows["pruned"]["macs"] <= rows["searched"]["macs"]
    assert min(row["AP50"] for row in rows.values()) > 0.5
    assert all(row["AP_interval"][0] < row["AP"] < row["AP_interval"][1] for row in rows.values())
    times = {name: row["latency_ms"] for name, row in rows.items()}
    assert min(times.values()) < 0.8 * times["largest"]  # 0.7 on a quiet machine
    page = (folder / "report.html").read_text()
    assert "src='http" not in page
    assert 'src="http' not in page
    kept = json.loads((folder / "report.json").read_text())
    assert {"name", "macs", "params", "latency_ms", "AP", "AP50", "steps"} <= set(kept["rows"][0])
    assert [row["macs"] for row in kept["rows"]] == [row["macs"] for row in rows.values()]
    assert any("the random subnet" in line for line in kept["findings"])


def test_rows_of_the_demo_have_equal_steps_behind_them():
    supernet, own = demonstration._steps("demo/widths"), demonstration._steps("demo/retrain")
    assert demonstration._steps("demo/scratch") == supernet + own
    assert demonstration._steps("demo/distill") == demonstration._steps("demo/prune") == own


def measured(name: str, ap: float, draws: list[float], latency: float = 10.0) -> Measured:
    return Measured({"name": name, "AP": ap, "latency_ms": latency}, np.array(draws))


def test_conclusions_say_what_is_noise():
    found = {
        "largest": measured("largest", 0.6, [0.6, 0.61]),
        "by hand": measured("by hand", 0.5, [0.49, 0.51], latency=6.0),
        "random": measured("random", 0.5, [0.5, 0.52]),
        "searched": measured("searched", 0.51, [0.51, 0.515]),
        "pruned": measured("pruned", 0.4, [0.4, 0.4]),
    }
    pays, nothing, supernet, first, second, third, last = conclusions(found)
    assert pays == "Better than every control of equal cost and steps: the supernet's weights."
    assert nothing == "Not shown to be better than every control: search, pruning."
    assert "random is better than the same detector scaled by hand" in supernet
    assert "searched is not better than the random subnet" in first
    assert "searched is better than the same detector scaled by hand and trained from" in second
    assert "+0.010 AP" in second
    assert "pruned is worse than the same detector scaled by hand and" in third
    assert "-0.100 AP" in third
    assert "by hand is the fastest, at 60% of the largest's time, with -0.100 AP" in last


def test_conclusions_begin_with_what_pays():
    found = {
        "largest": measured("largest", 0.6, [0.6, 0.61]),
        "by hand": measured("by hand", 0.4, [0.39, 0.41]),
        "random": measured("random", 0.5, [0.38, 0.52]),
        "searched": measured("searched", 0.51, [0.39, 0.515]),
        "distilled": measured("distilled", 0.55, [0.54, 0.56]),
        "pruned": measured("pruned", 0.45, [0.44, 0.46]),
    }
    first, second, *_ = conclusions(found)
    assert first == "Better than every control of equal cost and steps: distillation, pruning."
    assert second.endswith("better than every control: the supernet's weights, search.")


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
            words = [a.name for a in arguments if isinstance(a, Path) and a.suffix != ".pt"]
            name = words[0]
            assert arguments[-1]["seed"] in (0, 3)
            calls.append((command, name, resume))
            if name in fail:
                raise KeyboardInterrupt

        return run

    for command in ("train", "search", "prune"):
        monkeypatch.setattr(demonstration, command, stub(command))
    monkeypatch.setattr(demonstration, "_controls", lambda *_: None)
    monkeypatch.setattr(demonstration, "_validated", lambda path: len(path.parents[1].name))
    monkeypatch.setattr(
        demonstration.Subnet, "load", lambda _: Subnet(choices={}, cost={"macs": 1})
    )
    monkeypatch.setattr(demonstration, "_report", _write_report)
    return calls, fail


def _write_report(folder, *_):
    rows = [{"name": "row"}]
    (folder / "report.json").write_text(json.dumps({"rows": rows}))
    (folder / "report.html").write_text("report")
    return rows


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
    assert [call[1] for call in before] == [*("supernet", "search", "largest", "searched")]
    assert calls[len(before) :] == [  # the teacher is no better: nothing is distilled
        ("train", "searched", True),
        ("train", "by_hand", True),
        ("train", "random", True),
        ("prune", "pruned", True),
    ]
    with caplog.at_level("INFO", "razorlite"):
        assert recipes.demo(tmp_path / "demo", resume=True) == rows
    assert "is finished" in caplog.text
    assert len(calls) == len(before) + 4


def test_a_demo_goes_on_with_its_own_seed(pipeline_stub, tmp_path):
    _, fail = pipeline_stub
    fail.add("supernet")
    with pytest.raises(KeyboardInterrupt):
        recipes.demo(tmp_path / "demo", seed=3)
    message = "holds a demo of seed 3, not 0; go on with it by --seed 3, or choose another folder"
    with pytest.raises(RunFolderError, match=message):
        recipes.demo(tmp_path / "demo", resume=True)
    fail.clear()
    assert recipes.demo(tmp_path / "demo", resume=True, seed=3) == [{"name": "row"}]


@pytest.mark.parametrize(
    ("kept", "fault"),
    [
        ({"seconds": 3}, "supernet.json lacks 'seed'; it is damaged"),
        ({"seed": 0}, "supernet.json lacks 'seconds'; it is damaged"),
        ({"seed": 0, "seconds": []}, "supernet.json makes no sense"),
    ],
)
def test_damaged_steps_are_refused(kept, fault, pipeline_stub, tmp_path):
    pipeline_stub[1].add("search")
    with pytest.raises(KeyboardInterrupt):
        recipes.demo(tmp_path / "demo")
    (tmp_path / "demo" / "steps" / "supernet.json").write_text(json.dumps(kept))
    with pytest.raises(RunFolderError, match=fault):
        recipes.demo(tmp_path / "demo", resume=True)


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


def test_a_better_teacher_distils(pipeline_stub, tmp_path, monkeypatch):
    calls, _ = pipeline_stub
    monkeypatch.setattr(demonstration, "_validated", lambda p: float("largest" in str(p)))
    found, why, _ = demonstration._Demo(tmp_path, False).run()
    assert [one.name for one in found] == NAMES
    assert len({one.steps for one in found}) == 1
    assert "better than its pupil" in why[0]
    assert [call[1] for call in calls] == [
        *("supernet", "search", "largest", "searched", "distilled"),
        *("by_hand", "random", "pruned"),
    ]
