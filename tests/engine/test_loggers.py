"""What trackers are given: the numbers of metrics.jsonl, in one run, resumed or not."""

import logging
import sys
from types import SimpleNamespace

import pytest

from razorlite.core import config as core_config
from razorlite.core.errors import ConfigError
from razorlite.core.journal import Journal
from razorlite.engine.config import TrainConfig
from razorlite.engine.loggers import Logger, MLflowLogger, WandbLogger
from tests.engine.toys import make_runner

OPTIMIZER = {"type": "AdamW", "lr": 1e-3}


class Memory(Logger):
    """Keeps what it is given; fails at a step."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def open(self, folder, step):
        self.calls.append(("open", folder.name, step))

    def write(self, values, step):
        if step == self.fails_at:
            raise ConnectionError("no route to host\nmore")
        self.calls.append((step, sorted(values)))

    def close(self):
        self.calls.append("close")


def train(folder, logger, **settings):
    settings = {"log_every": 5, "evaluate": lambda model: {"AP": 0.25}, **settings}
    make_runner(folder, loggers=[logger], **settings).run(resume=settings["log_every"] == 2)


def test_all_numbers_of_each_line(tmp_path):
    memory = Memory()
    train(tmp_path / "run", memory)
    assert memory.calls[0] == ("open", "run", 0)
    assert memory.calls[-1] == "close"
    lines = Journal(tmp_path / "run" / "metrics.jsonl").read()
    assert len(lines) == len(memory.calls) - 2
    for line, (step, names) in zip(lines, memory.calls[1:-1], strict=True):
        assert step == line["step"]
        assert names == sorted(f"{line['kind']}/{n}" for n in line if n not in ("kind", "step"))


def test_a_tracker_that_fails_does_not_stop_training(tmp_path, caplog):
    memory = Memory(fails_at=5)
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run", memory)
    assert memory.calls == [("open", "run", 0)]
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "Memory gets nothing more (ConnectionError: no route to host); metrics.jsonl has all"
    ]
    assert len(Journal(tmp_path / "run" / "metrics.jsonl").read()) >= 3


class Client:
    """MLflow's, which keeps runs in memory."""

    runs: dict = {}  # noqa: RUF012

    def __init__(self, tracking_uri):
        assert tracking_uri.startswith("sqlite:///")

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name) if self.runs else None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment, run_name):
        self.runs[run_name] = []
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_batch(self, run, metrics):
        self.runs[run] += [(name, step) for name, _, _, step in metrics]

    def set_terminated(self, run):
        self.runs[run].append("end")


def test_mlflow_goes_on_with_the_run_of_a_resumed_training(tmp_path, monkeypatch):
    entities = SimpleNamespace(Metric=lambda *values: values)
    monkeypatch.setitem(
        sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client, entities=entities)
    )
    monkeypatch.setattr(Client, "runs", {})
    evaluate = lambda model: {"AP/red (cell)": 0.5}  # noqa: E731
    train(tmp_path / "cells", MLflowLogger(experiment="a"), evaluate=evaluate)
    assert list(Client.runs) == ["cells"]
    first = Client.runs["cells"]
    assert ("eval/AP/red _cell_", 10) in first
    assert first[-1] == "end"
    length = len(first)
    train(tmp_path / "cells", MLflowLogger(), log_every=2, max_steps=14)
    assert list(Client.runs) == ["cells"]
    assert {step for _, step in first[length:-1]} == {12, 14}


def test_wandb_writes_offline_and_resumes(tmp_path, monkeypatch):
    begun, logged = [], []
    run = SimpleNamespace(log=lambda values, step: logged.append(step), finish=lambda: None)

    def init(**words):
        begun.append(words)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    train(tmp_path / "cells", WandbLogger())
    train(tmp_path / "cells", WandbLogger(project="b"), log_every=2, max_steps=14)
    one, two = begun
    assert (one["mode"], one["resume"], one["name"], one["dir"]) == (
        "offline", None, "cells", str(tmp_path / "cells"),
    )  # fmt: skip
    assert (two["id"], two["resume"], two["project"]) == (one["id"], "allow", "b")
    assert logged == [5, 10, 10, 12, 14, 14]


@pytest.mark.parametrize(
    ("name", "package"), [("MLflowLogger", "mlflow"), ("WandbLogger", "wandb")]
)
def test_what_is_not_installed_is_told_by_the_configuration(name, package, monkeypatch):
    tree = {"optimizer": OPTIMIZER, "max_steps": 1, "loggers": [{"type": name}]}
    monkeypatch.setitem(sys.modules, package, SimpleNamespace())
    (logger,) = core_config.build(core_config.load(tree), TrainConfig).loggers
    assert type(logger).__name__ == name
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'razorlite\[{package}\]'"):
        core_config.build(core_config.load(tree), TrainConfig)
