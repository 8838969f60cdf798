"""metrics.jsonl, plain progress lines, event files, random states and the run folder."""

import io
import json
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.text import Text

from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.core.journal import Journal
from razorlite.core.streams import quiet
from razorlite.engine.metrics_log import MetricsLog, cut_after, memory_mb
from razorlite.engine.progress import ProgressDisplay, eta
from razorlite.engine.random_state import (
    kept_random_state,
    random_state,
    seed_everything,
    set_random_state,
)
from razorlite.engine.window import Window
from tests.engine.toys import make_runner

LINE = {
    "kind": "train",
    "step": 20,
    "epoch": 1,
    "loss": 0.123456,
    "lr": 0.001,
    "images_per_second": 31.4159,
    "seconds": 12.0,
    "memory_mb": 100.0,
}


class TestWindow:
    def test_means_are_over_the_steps_that_had_the_metric(self):
        window = Window()
        window.add({"loss": 1.0, "distill": 4.0}, images=8, seconds=0.5)
        window.add({"loss": torch.tensor(2.0, dtype=torch.float64)}, images=4, seconds=1.5)
        assert window.means() == {"loss": 1.5, "distill": 4.0}
        assert window.images_per_second() == 6.0

    def test_state(self):
        window, other = Window(), Window()
        window.add({"loss": 1.0}, images=8, seconds=0.5)
        other.load_state_dict(json.loads(json.dumps(window.state_dict())))
        other.add({"loss": 4.0}, images=8, seconds=0.5)
        assert other.means() == {"loss": 2.5}
        assert window.means() == {"loss": 1.0}


class TestMetricsLog:
    def test_resumed_run_drops_what_came_after_its_checkpoint(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        steps = [10, 20, 20, 30]
        path.write_text("".join(json.dumps({"step": s}) + "\n" for s in steps) + '{"step": 40, "lo')
        log = MetricsLog(path)
        log.start(SimpleNamespace(step_number=20, settled=True))
        log.line(None, {"step": 30, "loss": 0.1 + 0.2, "AP": float("nan"), "kind": "eval"})
        assert [line["step"] for line in Journal(path).read()] == [10, 20, 20, 30]
        assert path.read_text().splitlines()[-1] == (
            '{"step": 30, "loss": 0.3, "AP": null, "kind": "eval"}'
        )

    def test_damaged_file_is_named_and_left(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
        with pytest.raises(RunFolderError, match=r"metrics.jsonl:2: not a JSON object"):
            cut_after(path, 1)
        assert "nonsense" in path.read_text()

    def test_memory_is_positive(self):
        assert memory_mb(torch.device("cpu")) > 10


class TestProgress:
    def shown(self, lines, run, width=200, **console):
        text = io.StringIO()
        display = ProgressDisplay(Console(file=text, width=width, **console))
        display.start(run)
        for line in lines:
            display.after_step(run, {})
            display.line(run, line)
        display.end(run)
        return text.getvalue()

    @pytest.fixture
    def run(self):
        return SimpleNamespace(
            step_number=20,
            first_step=0,
            total_steps=320,
            seconds=12.0,
            first_seconds=0.0,
            max_seconds=None,
            evaluations=0,
            evaluation_seconds=0.0,
            batches=16,
            config=SimpleNamespace(evaluations_left=lambda step, batches: 3),
        )

    def test_plain_lines_where_there_is_no_terminal(self, run, capsys):
        evaluation = {"kind": "eval", "step": 20, "epoch": 1, "AP": 0.5, "eval_seconds": 3.0}
        progress = self.shown([LINE, evaluation], run)
        line = "step 20/320 epoch 1  loss 0.1235  images/s 31.42  lr 0.001  eta 0:03:00\n"
        assert progress == line
        assert capsys.readouterr().out == "step 20/320 epoch 1  evaluation: AP 0.5\n"

    def test_quiet_runs_show_evaluations_alone(self, run, capsys):
        evaluation = {"kind": "eval", "step": 20, "epoch": 1, "AP": 0.5, "eval_seconds": 3.0}
        with quiet():
            assert not self.shown([LINE, evaluation], run, force_terminal=True)
        assert capsys.readouterr().out == "step 20/320 epoch 1  evaluation: AP 0.5\n"

    def test_live_bar_in_a_terminal(self, run):
        text = self.shown([LINE], run, force_terminal=True)
        assert "20/320" in text
        assert "loss 0.1235" in text
        assert "\x1b[" in text

    @pytest.mark.parametrize("width", [200, 80, 60, 40])
    def test_every_width_shows_bar_steps_and_time_in_one_line(self, run, width):
        long = {**LINE, **{f"loss_{name}": 0.123456 for name in ("cls", "bbox", "centerness")}}
        text = self.shown([long, long], run, width=width, force_terminal=True)
        frames = [Text.from_ansi(part).plain for part in re.split(r"[\r\n]", text)]
        bars = [line for line in frames if "20/320" in line]
        assert bars
        for line in bars:
            assert len(line) <= width
            assert re.search(r"━.* 20/320 [-0-9:]{7}", line)
        assert ("…" in bars[-1]) == (width < 100)
        assert re.search(r" (loss|…)", bars[-1])

    def test_long_evaluations_are_not_broken(self, run, capsys):
        metrics = {f"AP/class {i}": 0.5 for i in range(30)}
        evaluation = {"kind": "eval", "step": 20, "epoch": 1, **metrics}
        self.shown([evaluation], run)
        assert capsys.readouterr().out.count("\n") == 1

    def test_eta_by_hand(self, run):
        assert eta(run) == "0:03:00"  # 300 steps of 0.6 s
        run.evaluations, run.evaluation_seconds = 2, 20.0
        assert eta(run) == "0:03:30"  # and three evaluations of 10 s
        run.evaluations = 0
        run.first_step, run.first_seconds = 10, 11.0
        assert eta(run) == "0:00:30"  # 300 steps of 0.1 s
        run.max_seconds = 15.0
        assert eta(run) == "0:00:03"
        run.first_step = 20
        assert eta(run) == "?"


def test_tensorboard_gets_every_metric(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluate = lambda model: {"AP": 0.25}  # noqa: E731
    make_runner(tmp_path, tensorboard=True, log_every=5, evaluate=evaluate).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "eval/AP"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [5, 10]
    assert [event.value for event in events.Scalars("eval/AP")] == [0.25]


def test_absent_tensorboard_is_told(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'razorlite\[tensorboard\]'"):
        make_runner(tmp_path, tensorboard=True)


class TestRandomState:
    def draw(self):
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def test_restored_through_a_file(self, tmp_path):
        seed_everything(3)
        np.random.randn()  # leaves a second normal number in the generator's state
        torch.save(random_state(), tmp_path / "a.pt")
        expected = (*self.draw(), np.random.randn())
        set_random_state(torch.load(tmp_path / "a.pt", weights_only=True))
        assert (*self.draw(), np.random.randn()) == expected

    def test_kept_over_a_block_that_fails(self):
        seed_everything(4)
        expected = self.draw()
        seed_everything(4)
        with pytest.raises(ZeroDivisionError), kept_random_state():
            self.draw()[0] / 0
        assert self.draw() == expected

    def test_ranks_draw_differently(self):
        seed_everything(5, rank=0)
        first = self.draw()
        seed_everything(5, rank=1)
        assert all(a != b for a, b in zip(first, self.draw(), strict=True))
