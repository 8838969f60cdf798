"""`razorlite benchmark`: what it measures, on one small model and its file."""

import copy
import csv
import dataclasses
import json

import pytest
import torch

from razorlite.cli import main
from razorlite.cli.command import SCHEMA_VERSION
from razorlite.core import config as core_config
from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.deploy.timing import Timings, measure
from razorlite.engine.checkpoint_io import read_checkpoint
from razorlite.recipes import benchmark, benchmarking, export


class Clock:
    """A model of known speed: a time for each call, by number of threads."""

    def __init__(self, calls, milliseconds):
        self.calls, self.milliseconds = calls, milliseconds

    def __call__(self, threads):
        assert torch.get_num_threads() == threads

        def run(pixels):
            self.calls.append((self.milliseconds, tuple(pixels.shape)))

        return run


def test_models_take_turns_with_each_number_of_threads():
    calls = []
    before = torch.get_num_threads()
    openers = {"a": Clock(calls, 1), "b": Clock(calls, 2)}
    shapes = {"a": (32, 64), "b": (16, 64)}
    timings = measure(openers, shapes, threads=[1, 2], batch=4, rounds=4, warmup=2)
    assert [(row.name, row.threads) for row in timings.rows] == [
        ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    single = [name for name, shape in calls if shape[0] == 1]
    assert single[:12] == [2, 1, 1, 2] * 3  # the order turns around each round
    assert set(calls) == {(n, (b, 3, h, 64)) for n, h in ((1, 32), (2, 16)) for b in (1, 4)}
    assert torch.get_num_threads() == before
    assert all(row.latency.rounds == 4 for row in timings.rows)


def test_drift_is_told():
    assert Timings((), 0.09).steady
    assert not Timings((), -0.11).steady


@pytest.fixture(scope="module")
def files(pipeline, module_path):
    run, script = pipeline.root / "subnet", module_path / "m.torchscript"
    export(run, format="torchscript", out=script)
    return run, script


@pytest.fixture
def light(monkeypatch):
    """Memory is not measured, which starts a process for each model."""
    monkeypatch.setattr(benchmarking, "_memory", lambda model, shape: 100.0)


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(files):
    ballast = torch.ones(300, 2**20)  # 1.2 GB of this process
    assert 50 < benchmarking._memory(str(files[1]), (64, 64)) < 1000
    assert len(ballast) == 300


def test_a_run_and_its_file(files, light, tmp_path, capsys):
    run, script = files
    table = tmp_path / "times.csv"
    words = [str(run), str(script), "--threads", "1", "--rounds", "2", "--batch", "2"]
    words += ["--accuracy", str(run / "config.yaml")]
    for _ in range(2):
        assert main(["benchmark", *words, "--json", "--csv", str(table)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["schema_version"] == SCHEMA_VERSION
    assert [row["shape"] for row in found["rows"]] == [[64, 64]] * 2
    one, other = found["rows"]
    assert (one["runtime"], other["runtime"]) == ("pytorch", "torchscript")
    assert one["AP"] == pytest.approx(other["AP"], abs=1e-3)
    assert all(row["latency_lower_ms"] <= row["latency_ms"] for row in found["rows"])
    rows = list(csv.DictReader(table.open()))
    assert [row["model"] for row in rows] == [str(run), str(script)] * 2
    assert rows[0]["processor"]


def test_the_table(files, light, capsys):
    words = ["benchmark", *map(str, files), "--threads", "1", "--rounds", "1", "--batch", "1"]
    assert main([*words, "--bf16"]) == 0
    shown = capsys.readouterr().out
    assert "images/s" in shown
    assert shown.count("bf16") == 1  # a file computes as it was written


def test_accuracy_is_measured_on_images_as_the_model_takes_them(files, light):
    config = files[0] / "config.yaml"
    tree = core_config.load(str(config), {}).tree
    smaller = copy.deepcopy(dict(tree))
    smaller["data"]["test"]["transforms"] = [{"type": "Resize", "size": [32, 32]}]
    one, other = (
        benchmark([files[0]], threads=[1], rounds=1, batch=1, accuracy=given).rows()[0]["AP"]
        for given in (config, smaller)
    )
    assert one == other


def test_sizes_are_said_once_or_of_each(files, light, capsys):
    found = benchmark([files[0]], threads=[1], rounds=1, batch=1)
    assert "one image of 64 x 64;" in shown(found, capsys)
    both = dataclasses.replace(found, shapes={"runs/a": (32, 64), "runs/b": (16, 64)})
    assert benchmarking._sizes(both, {"runs/a": "a", "runs/b": "b"}) == "32 x 64 (a), 16 x 64 (b)"


def test_names_lose_the_folder_of_all():
    assert benchmarking._short(["runs/a", "runs/b"]) == {"runs/a": "a", "runs/b": "b"}
    mixed = ["runs/a", "/runs/b"]
    assert benchmarking._short(mixed) == {name: name for name in mixed}


def shown(result, capsys):
    benchmarking.show(result)
    return capsys.readouterr().out


def test_a_model_in_bf16_computes_in_it(files, light, monkeypatch):
    seen = []
    monkeypatch.setattr(
        benchmarking, "_accuracy", lambda *_: {"AP": float(torch.is_autocast_enabled("cpu"))}
    )
    monkeypatch.setattr(
        benchmarking.Deployed,
        "forward",
        lambda self, images: seen.append(torch.is_autocast_enabled("cpu")),
    )
    found = benchmark(
        [files[0]], bf16=True, threads=[1], rounds=1, batch=1, accuracy=files[0] / "config.yaml"
    )
    one, other = found.rows()
    assert (one["precision"], other["precision"]) == ("float32", "bf16")
    assert one["model"] == other["model"] == str(files[0])
    assert (one["AP"], other["AP"]) == (0.0, 1.0)
    assert set(seen) == {False, True}


def test_a_file_without_names_of_classes(files, light, tmp_path):
    """As of a checkpoint that others have trained: labels count by their order."""
    run, _ = files
    weights = read_checkpoint(run / "checkpoints" / "best.pt")["model"]
    torch.save(weights, tmp_path / "bare.pt")
    bare = tmp_path / "bare.torchscript"
    export(run / "config.yaml", tmp_path / "bare.pt", out=bare)
    given = {"threads": [1], "rounds": 1, "batch": 1, "accuracy": run / "config.yaml"}
    one, other = benchmark([run, bare], **given).rows()
    assert one["AP"] == pytest.approx(other["AP"], abs=1e-3)


@pytest.mark.parametrize("content", [b"a: 1\nb: 2\n", b"\xff\xfe"])
def test_a_file_that_is_no_table_is_kept(files, tmp_path, content):
    table = tmp_path / "mine.yaml"
    table.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        benchmark([files[0]], csv_file=table)
    assert table.read_bytes() == content


def test_refusals(files, tmp_path):
    with pytest.raises(CheckpointError, match="no run folder or file"):
        benchmark([tmp_path / "none"])
    with pytest.raises(ConfigError, match="whole numbers of at least 1"):
        benchmark([files[0]], threads=[0])
