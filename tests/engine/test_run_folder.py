"""Run folders: one run at a time, each command its own, refused runs change nothing."""

import json
import subprocess
import sys

import pytest

from razorlite.core.errors import CheckpointError, RunFolderError
from razorlite.engine import run_folder
from razorlite.engine.run_folder import ConfigFile, changes, claimed, results, write_config
from tests.engine.toys import make_runner


def files(folder):
    """Return everything in a folder with its content."""
    found = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {path: data for path, data in found.items() if path.name != ".lock"}


class TestClaimed:
    def test_makes_the_folder_and_says_who_uses_it(self, tmp_path):
        with claimed(tmp_path / "a" / "run", "train", resume=False) as folder:
            record = json.loads((folder / ".run.json").read_text())
        assert record.keys() == {"command", "process", "host", "since"}
        assert record["command"] == "train"

    @pytest.mark.parametrize("resume", [False, True])
    def test_one_run_at_a_time(self, tmp_path, resume):
        with (
            claimed(tmp_path, "train", resume=False),
            pytest.raises(RunFolderError, match=r"is in use by `razorlite train` \(process"),
            claimed(tmp_path, "train", resume=resume),
        ):
            pass
        with claimed(tmp_path, "train", resume=resume):
            pass

    def test_other_processes_see_it(self, tmp_path):
        (tmp_path / "subnet.yaml").write_text("")
        script = "import sys, razorlite.core.locks as l; print(l.Lock(sys.argv[1]).acquire())"
        command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
        with claimed(tmp_path, "prune", resume=True):
            with pytest.raises(RunFolderError), claimed(tmp_path, "prune", resume=True):
                pass
            assert subprocess.run(command, capture_output=True, text=True).stdout == "busy\n"

    def test_released_when_the_run_fails(self, tmp_path):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path, "train", resume=False):
            1 / 0  # noqa: B018
        with claimed(tmp_path, "train", resume=False):
            pass

    @pytest.mark.parametrize(
        ("result", "command"),
        [
            ("checkpoints/last.pt", "train"),
            ("subnet.yaml", "prune"),
            ("journal.jsonl", "search"),
            ("report.html", "demo"),
        ],
    )
    @pytest.mark.parametrize("recorded", [False, True])
    @pytest.mark.parametrize("resume", [False, True])
    def test_a_folder_of_another_command_is_left_alone(
        self, tmp_path, result, command, recorded, resume
    ):
        if recorded:
            with claimed(tmp_path, command, resume=False):
                pass
        path = tmp_path / result
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}\n{}\n")
        before = files(tmp_path)
        for other in {"train", "search", "prune", "demo"} - {command}:
            with (
                pytest.raises(RunFolderError, match=f"holds a run of `razorlite {command}` "),
                claimed(tmp_path, other, resume=resume),
            ):
                pass
        assert files(tmp_path) == before
        with claimed(tmp_path, command, resume=True):
            pass

    def test_results_are_not_written_over(self, tmp_path):
        make_runner(tmp_path).run()
        before = files(tmp_path)
        with (
            pytest.raises(RunFolderError, match=r"already holds a run \(checkpoints/last.pt\)"),
            claimed(tmp_path, "train", resume=False),
        ):
            pass
        assert files(tmp_path) == before

    def test_a_journal_without_a_trial_is_no_result(self, tmp_path):
        (tmp_path / "journal.jsonl").write_text('{"format": 1}\n')
        assert results(tmp_path) == []
        (tmp_path / "journal.jsonl").write_text('{"format": 3}\n{"batch": 0}\n{"trial": 0')
        assert results(tmp_path) == []
        (tmp_path / "journal.jsonl").write_text('{"format": 3}\n{"batch": 0}\n{"trial": 0}\n')
        assert results(tmp_path) == ["journal.jsonl"]

    def test_drafts_of_killed_runs_go(self, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        drafts = [tmp_path / "checkpoints/.last.pt.12.tmp", tmp_path / ".config.yaml.7.tmp"]
        others = [tmp_path / ".mine.tmp", tmp_path / "notes.12.tmp"]
        for path in (*drafts, *others):
            path.write_text("")
        with claimed(tmp_path, "train", resume=True):
            pass
        assert [p.exists() for p in (*drafts, *others)] == [False, False, True, True]

    def test_drafts_stay_where_nobody_can_tell_whose_they_are(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(run_folder.Lock, "acquire", lambda self: "unknown")
        (tmp_path / ".last.pt.12.tmp").write_text("")
        with claimed(tmp_path, "train", resume=False):
            pass
        assert (tmp_path / ".last.pt.12.tmp").exists()
        assert "take care that one run uses it" in caplog.text

    def test_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(RunFolderError, match="cannot write"),
            claimed(tmp_path / "file" / "run", "train", resume=False),
        ):
            pass


class TestConfigFile:
    def test_written_when_the_run_starts(self, tmp_path):
        make_runner(tmp_path, hooks=[ConfigFile(tmp_path, "seed: 1\n")]).run()
        assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"

    def test_a_refused_run_leaves_it(self, tmp_path):
        make_runner(tmp_path, hooks=[ConfigFile(tmp_path, "seed: 1\n")]).run()
        before = files(tmp_path)
        with pytest.raises(CheckpointError):
            make_runner(tmp_path, norm=True, hooks=[ConfigFile(tmp_path, "seed: 2\n")]).run(
                resume=True
            )
        assert files(tmp_path) == before

    def test_lines_of_a_run_without_checkpoints_are_dropped(self, tmp_path):
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n torn')
        make_runner(tmp_path, max_steps=1).run(resume=True)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1

    def test_changes_of_a_resumed_run_are_told(self, tmp_path, caplog):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/last.pt").write_text("")
        write_config(tmp_path, "a: {b: 1, c: 2}\n")
        write_config(tmp_path, "a: {b: 3}\nd: [1]\n")
        messages = [record.getMessage() for record in caplog.records]
        assert messages[0] == "resuming with a changed configuration: a.b: 1 -> 3"
        assert len(messages) == 3

    def test_changes_by_hand(self):
        assert changes("a: {b: 1, c: 2}\n", "a: {b: 3}\nd: [1]\n") == [
            "a.b: 1 -> 3",
            "a.c: 2 -> absent",
            "d: absent -> [1]",
        ]
