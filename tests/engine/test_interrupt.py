"""Signals that ask a run to end: which, and what a second one does."""

import os
import signal
import sys
import time

import pytest

from razorlite.engine.interrupt import Interrupted, StoppedAtEnd, StopSignals, stopped_at_once
from tests.engine.toys import make_runner

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
NAMES = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"]


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", NAMES)
def test_noted_and_then_as_before(name):
    before = signal.getsignal(getattr(signal, name))
    with StopSignals() as signals:
        assert signals.received == ""
        send(name)
        assert signals.received == name
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize("name", NAMES[1:])
def test_repeated_ones_wait_for_the_step(name):
    with StopSignals() as signals:
        send(name)
        send(name)  # a shell hands SIGHUP on once more
        send("SIGINT")
        assert signals.received == name


def test_a_second_ctrl_c_acts_at_once():
    with StopSignals():
        send("SIGINT")
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_under_torchrun_none_does(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with StopSignals() as signals:
        send("SIGINT")
        send("SIGINT")
        assert signals.received == "SIGINT"


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send("SIGHUP")
            assert signals.received == ""
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_saves_and_stops(tmp_path, name):
    def step(model, batch, backward):
        send(name)
        loss = model.loss(batch.images, batch.targets)["loss_fit"]
        backward(loss)
        return {"loss": loss.item()}

    with pytest.raises(Interrupted, match=r"stopped after step 1 of 10, saved in .*last\.pt"):
        make_runner(tmp_path, step=step).run()
    assert make_runner(tmp_path).run(resume=True) == {}


def test_a_stop_in_the_last_evaluation_is_told_to_the_caller(tmp_path):
    def evaluate(model):
        send("SIGTERM")
        return {"score": 1.0}

    with pytest.raises(
        StoppedAtEnd, match="step 10 was the last; to go on with what comes"
    ) as stop:
        make_runner(tmp_path, evaluate=evaluate).run()
    assert stop.value.metrics == {"score": 1.0}
    assert make_runner(tmp_path, evaluate=lambda model: {}).run(resume=True) == {"score": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_stopped_at_once_and_only_once(name):
    before = signal.getsignal(getattr(signal, name))
    done = []

    def work():
        with stopped_at_once(lambda: f"stopped after {len(done)}"):
            done.append(1)
            try:
                send(name)
                done.append(2)
            finally:
                send(name)  # while the work ends: no harm
                done.append(3)

    with pytest.raises(Interrupted, match="stopped after 2"):
        work()
    assert done == [1, 3]
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_signal_within_a_finaliser_is_not_lost():
    class Slow:
        def __del__(self):
            send("SIGTERM")  # what its handler raises here Python drops

    def work():
        with stopped_at_once(lambda: "stopped"):
            Slow()
            for _ in range(1000):
                time.sleep(0.01)

    hook = sys.unraisablehook
    with pytest.raises(Interrupted, match="stopped"):
        work()
    assert sys.unraisablehook is hook


def test_ignored_signals_stay_ignored_also_where_work_would_stop():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_at_once(lambda: "stopped"):
            send("SIGHUP")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
