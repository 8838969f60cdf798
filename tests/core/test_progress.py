"""Progress of long loops."""

import itertools
import logging

from razorlite.core import progress as module
from razorlite.core.progress import progress, progress_text
from razorlite.core.streams import quiet


def test_texts_by_hand():
    assert progress_text(20, "images", 100, 2.0) == "20 of 100 images, 0:00:08 left"
    assert progress_text(10, "frames", None, 4.0) == "10 frames, 2.5 a second"


def test_nothing_before_two_seconds_and_a_line_every_ten(monkeypatch, capsys):
    seconds = itertools.count(0.0, 1.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(module._log, "isEnabledFor", lambda level: True)
    assert list(progress(range(20), "images", 20)) == list(range(20))
    captured = capsys.readouterr()
    assert captured.out == ""
    # at 3 s the third of 20 is done: 17 s are left; at 14 s the fourteenth
    assert captured.err.splitlines() == [
        "3 of 20 images, 0:00:17 left", "14 of 20 images, 0:00:06 left",
    ]  # fmt: skip


def test_quiet_says_nothing(monkeypatch, capsys, caplog):
    seconds = itertools.count(0.0, 1.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with caplog.at_level(logging.INFO), quiet():
        assert list(progress(range(20), "images", 20)) == list(range(20))
        logging.getLogger("razorlite").info("not told")
        logging.getLogger("razorlite").warning("told")
    assert capsys.readouterr().err == ""
    assert caplog.messages == ["told"]
