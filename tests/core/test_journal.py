"""Journals and files under kills, full disks and closed folders."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from razorlite.core.errors import RunFolderError
from razorlite.core.files import (
    atomic_write,
    explain_damage,
    make_folder,
    write_bytes_atomic,
    write_text_atomic,
)
from razorlite.core.journal import Journal


class TestJournal:
    def test_a_record_too_long_to_be_read_again_is_not_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr("razorlite.core.journal._LONGEST", 100)
        journal = Journal(tmp_path / "journal.jsonl")
        journal.append({"a": "x" * 80})
        with pytest.raises(RunFolderError, match=r"a record of 109 bytes, and lines may have 100;"):
            journal.append({"a": "x" * 99})
        assert journal.read() == [{"a": "x" * 80}]

    def test_reads_what_was_appended(self, tmp_path):
        journal = Journal(tmp_path / "new" / "journal.jsonl")
        assert journal.read() == []
        journal.append({"a": 1, "b": "é\n"})
        Journal(journal.path).append({"a": 0.1})
        assert journal.read() == [{"a": 1, "b": "é\n"}, {"a": 0.1}]
        assert list(journal) == journal.read()

    @pytest.mark.parametrize("cut", range(1, 10))
    def test_torn_last_line_is_dropped_and_written_over(self, tmp_path, cut):
        journal = Journal(tmp_path / "journal.jsonl")
        journal.append({"a": 1})
        journal.append({"b": 2})
        os.truncate(journal.path, journal.path.stat().st_size - cut)
        assert journal.read() == ([{"a": 1}] if cut < 10 else [])
        resumed = Journal(journal.path)
        resumed.append({"c": 3})
        assert resumed.read() == [{"a": 1}, {"c": 3}]

    def test_damage_before_the_end_names_the_line(self, tmp_path):
        path = tmp_path / "journal.jsonl"
        path.write_text('{"a": 1}\n{"b": \n{"c": 3}\n')
        with pytest.raises(RunFolderError, match=r"journal\.jsonl:2: not a JSON object"):
            Journal(path).read()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk_says_what_to_do(self):
        with pytest.raises(RunFolderError, match="cannot write /dev/full: the disk is full; free"):
            Journal("/dev/full").append({"a": 1})

    def test_append_that_failed_half_way_is_repaired(self, tmp_path, monkeypatch):
        journal = Journal(tmp_path / "journal.jsonl")
        journal.append({"a": 1})

        def torn(handle):
            os.truncate(journal.path, journal.path.stat().st_size - 3)
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", torn)
            with pytest.raises(RunFolderError, match="disk is full"):
                journal.append({"b": 2})
        journal.append({"c": 3})
        assert journal.read() == [{"a": 1}, {"c": 3}]


class TestAtomicWrite:
    def test_writes_text_and_bytes(self, tmp_path):
        write_text_atomic(tmp_path / "deep" / "a.txt", "é\n")
        write_bytes_atomic(tmp_path / "b.bin", b"\x00")
        assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "é\n"
        assert (tmp_path / "b.bin").read_bytes() == b"\x00"

    def test_exception_in_the_block_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")

        def fail_half_way():
            with atomic_write(path, "w") as file:
                file.write("new")
                raise KeyError

        with pytest.raises(KeyError):
            fail_half_way()
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]

    @pytest.mark.parametrize(
        "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]
    )
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_failing_disk_leaves_the_old_file(self, tmp_path, monkeypatch, call, code):
        path = tmp_path / "last.pt"
        path.write_text("old")

        def fail(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(RunFolderError) as caught:
            write_text_atomic(path, "new")
        assert str(caught.value).startswith(f"cannot write {path}: ")
        assert "choose another folder" in str(caught.value) or "choose a folder" in str(
            caught.value
        )
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]

    def test_file_size_limit_in_a_real_process(self, tmp_path):
        path = tmp_path / "last.pt"
        path.write_text("old")
        script = (
            "import resource, signal\n"
            "from razorlite.core.files import write_bytes_atomic\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            f"write_bytes_atomic({str(path)!r}, bytes(100_000))\n"
        )
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "RunFolderError: cannot write" in run.stderr
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]

    def test_file_in_the_way_of_a_folder(self, tmp_path):
        (tmp_path / "run").write_text("")
        with pytest.raises(RunFolderError, match=r"file, not a folder|in the way"):
            make_folder(tmp_path / "run" / "checkpoints")
        with pytest.raises(RunFolderError, match="in the way"):
            make_folder(tmp_path / "run")

    def test_folder_in_the_way_of_a_file(self, tmp_path):
        with pytest.raises(RunFolderError, match="a folder of that name is in the way"):
            write_text_atomic(make_folder(tmp_path / "a.txt"), "new")


@pytest.mark.parametrize(
    ("take", "fault"),
    [
        (lambda kept: kept["seed"], "run.json lacks 'seed'; it is damaged"),
        (lambda kept: float(kept["AP"]), "run.json makes no sense"),
        (lambda kept: kept["AP"].items(), "run.json makes no sense"),
    ],
)
def test_damage_names_the_file(take, fault):
    with pytest.raises(RunFolderError, match=fault), explain_damage("run.json"):
        take({"AP": "x"})
