"""Locks between processes: one holder, lifted by its death, forks without a share in it."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from razorlite.core import locks
from razorlite.core.locks import Lock

HOLD = """\
import os, sys, time
from razorlite.core.locks import Lock
lock = Lock(sys.argv[1])
print(lock.acquire(), flush=True)
if len(sys.argv) > 2:  # a worker that outlives the holder
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
time.sleep(30)
"""


def holder(path, *words):
    words = [sys.executable, "-c", HOLD, str(path), *words]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX systems")
@pytest.mark.parametrize("words", [[], ["fork"]])
def test_it_dies_with_its_holder(tmp_path, words):
    process = holder(tmp_path / "lock", *words)
    try:
        assert Lock(tmp_path / "lock").acquire() == "busy"
        process.kill()
        process.wait()
        deadline, lock = time.monotonic() + 5, Lock(tmp_path / "lock")
        while lock.acquire() != "held":
            assert time.monotonic() < deadline
        lock.release()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_does_not_share_it_with_itself(tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "." / "lock")
    assert first.acquire() == "held"
    assert second.acquire() == "busy"
    second.release()  # holds nothing
    assert Lock(tmp_path / "lock").acquire() == "busy"
    first.release()
    assert second.acquire() == "held"
    second.release()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(_handle):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "_lock", refuse)
    assert Lock(tmp_path / "lock").acquire() == "unknown"
