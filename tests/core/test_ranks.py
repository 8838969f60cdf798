"""Processes that another one has started."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.recipes.runs import ROOT

_CHILD = """
import os, pathlib, signal, sys, time
from razorlite.core.ranks import end_with_launcher
told = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: (told.touch(), os._exit(0)))
end_with_launcher()
print("ready", flush=True)
time.sleep(60)
"""
_LAUNCHER = """
import os, subprocess, sys
from razorlite.core.ranks import LAUNCHER
os.environ[LAUNCHER] = str(os.getpid())
subprocess.run([sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.mark.skipif(os.name != "posix", reason="processes have no parents to follow")
def test_processes_are_asked_to_stop_when_their_launcher_was_killed(tmp_path):
    command = [sys.executable, "-c", _LAUNCHER, _CHILD, str(tmp_path / "told")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "ready\n"
    time.sleep(1.5)
    assert not (tmp_path / "told").exists()
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    deadline = time.monotonic() + 30
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.stdout.close()
