"""Printing never ends a run: odd encodings, readers that go away, full disks."""

import io
import logging
import os
import sys

import pytest

from razorlite import cli
from razorlite.core.streams import SafeStream, logged_to_streams, safe_console, safe_streams

pytestmark = pytest.mark.skipif(os.name == "nt", reason="descriptors of POSIX systems")


def opened(path, encoding="utf-8"):
    return open(path, "w", encoding=encoding)


@pytest.fixture
def closed_pipe():
    """A text stream whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.fixture
def full_disk():
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    return opened("/dev/full")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_any_text_can_be_printed(encoding):
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding=encoding))
    print("红细胞 naïve \ud800", file=stream)  # also what no encoding has: half a surrogate pair
    stream.flush()
    expected = "红细胞 naïve".encode(encoding, "backslashreplace") + b" \\ud800\n"
    assert raw.getvalue() == expected


def test_streams_that_cannot_change_how_they_encode_get_escapes():
    class Strict(io.StringIO):
        def write(self, text):
            return super().write(text.encode("ascii").decode())

    text = Strict()
    SafeStream(text).write("naïve")
    assert text.getvalue() == "na\\xefve"


@pytest.mark.parametrize("times", [1, 3])
def test_a_reader_that_has_gone(closed_pipe, times):
    stream = SafeStream(closed_pipe)
    for _ in range(times):
        print("x" * 100_000, file=stream, flush=True)
    stream.finish()
    closed_pipe.close()  # as Python does at its end
    assert stream.failure is None


def test_a_full_disk_is_told_once(full_disk, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", full_disk)
    with safe_streams():
        for _ in range(3):
            print("x" * 100_000, flush=True)
    full_disk.close()
    message = capsys.readouterr().err
    assert message == "warning: standard output was not written: No space left on device\n"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_output_at_all(stream, monkeypatch):
    out = None
    if stream:
        out = io.StringIO()
        out.close()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    with safe_streams(), logged_to_streams(logging.INFO):
        print("x", flush=True)
        safe_console().print("[bold]x")
        assert not sys.stdout.isatty()
        assert cli.main(["config", "cat", "demo/supernet"]) == 0
    assert sys.stdout is out


@pytest.mark.parametrize("words", [["config", "list"], ["config", "show", "demo/supernet"]])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_commands_end_well(words, name, closed_pipe, monkeypatch):
    monkeypatch.setattr(sys, name, closed_pipe)
    assert cli.main(words) == 0
    closed_pipe.close()


def test_results_in_a_pipe_are_whole_lines(capsys):
    safe_console().print("129.4-148.3 " * 50)
    assert capsys.readouterr().out.count("\n") == 1


def test_consoles_and_logs_print_safely(closed_pipe, full_disk, monkeypatch):
    logger = logging.getLogger("razorlite")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    monkeypatch.setattr(sys, "stderr", full_disk)
    safe_console().print("x " * 5_000)
    with safe_streams(), logged_to_streams(logging.INFO):
        logger.warning("红" * 4_000)
        safe_console(force_terminal=True, width=40).rule("1/5")
    assert not logging.getLogger().handlers
    for stream in (closed_pipe, full_disk):
        stream.close()
