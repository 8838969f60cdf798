"""The command `search` stopped at any moment goes on to the same end."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from razorlite import cli
from razorlite.core.journal import Journal
from razorlite.engine.hooks import Hook
from razorlite.recipes import searching, training
from razorlite.recipes.building import build, load_trained
from razorlite.recipes.experiment import read
from razorlite.recipes.splits import Splits
from razorlite.recipes.trust import Scored, best_within, even_finding, finding
from razorlite.search import Objectives, SupernetScore
from razorlite.space import Subnet
from tests.recipes.runs import last
from tests.recipes.test_wrong_inputs import complaint


def trials(folder):
    return [{**line, "seconds": 0} for line in Journal(folder / "journal.jsonl").read()]


def words(pipeline, folder, *more):
    return [
        "search",
        str(pipeline.supernet),
        str(pipeline.weights),
        "--work-dir",
        str(folder),
        *more,
    ]


def stop_inside(monkeypatch, number, call):
    """Send this process a signal in the middle of scoring."""
    calls, score = iter(range(1000)), SupernetScore.__call__

    def scored(self, subnet):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return score(self, subnet)

    monkeypatch.setattr(SupernetScore, "__call__", scored)


def stop_between(monkeypatch, number):
    """Send a signal right after a trial is written."""
    monkeypatch.setattr(searching, "TrialLog", lambda: lambda *_: os.kill(os.getpid(), number))


def test_signals_inside_and_between_trials(pipeline, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    stops = [
        (stop_inside, (signal.SIGINT, 0), "no trial yet", 0),
        (stop_between, (signal.SIGHUP,), "1 trials, kept in", 1),
        (stop_inside, (signal.SIGTERM, 1), "2 trials, kept in", 2),
    ]
    for stop, arguments, message, count in stops:
        with monkeypatch.context() as patch:
            stop(patch, *arguments)
            assert cli.main(words(pipeline, folder, "--resume")) == 130
        text = capsys.readouterr().err.strip().splitlines()[-1]
        assert text.startswith(f"stopped: {message}")
        assert text.endswith("to go on, run the same command again with --resume")
        assert len(trials(folder)) == 2 + count  # the first line, and a batch
        assert not (folder / "subnet.yaml").exists()
    assert cli.main(words(pipeline, folder, "--resume")) == 0
    assert trials(folder) == trials(pipeline.root / "search")
    whole = (pipeline.root / "search" / "subnet.yaml").read_text()
    assert (folder / "subnet.yaml").read_text() == whole


def test_a_broken_disk_ends_the_command_and_other_scores_are_refused(
    pipeline, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    calls = iter(range(1000))

    def broken(self, subnet):
        if next(calls) == 1:
            raise OSError(5, "Input/output error")
        return {"AP": 0.5}

    with monkeypatch.context() as patch:
        patch.setattr(SupernetScore, "__call__", broken)
        text = complaint(capsys, *words(pipeline, folder))
    assert "scoring trial 1 stopped the search: OSError: [Errno 5] Input/output error" in text
    before = (folder / "journal.jsonl").read_bytes()
    text = complaint(capsys, *words(pipeline, folder, "--resume", "--set", "data.holdout=0.1"))
    assert "is of another search: settings.data.search." in text
    assert (folder / "journal.jsonl").read_bytes() == before
    header = json.loads(before.splitlines()[0])
    assert header["settings"]["data"]["mean"] == [123.675, 116.28, 103.53]


def test_several_objectives_leave_their_front(pipeline, tmp_path, monkeypatch, caplog):
    calls = iter(range(100))
    monkeypatch.setattr(SupernetScore, "__call__", lambda self, subnet: {"AP": next(calls) / 9})
    more = ["search.metric={AP: max, macs: min}", "search.searcher={type: RandomSearcher}"]
    more += ["search.max_trials=6", "search.trust=0"]
    folder = tmp_path / "run"
    with caplog.at_level("INFO", logger="razorlite"):
        subnet = searching.search(pipeline.supernet, pipeline.weights, folder, more)
    lines = [line for line in trials(folder) if "trial" in line]
    best = {
        line["trial"]
        for line in lines
        if not any(
            other["score"] >= line["score"] and other["cost"]["macs"] < line["cost"]["macs"]
            for other in lines
        )
        and not any(
            other["score"] > line["score"] and other["cost"]["macs"] <= line["cost"]["macs"]
            for other in lines
        )
    }
    files = sorted((folder / "front").glob("*.yaml"))
    assert {path.name.partition("-")[2] for path in files} == {f"trial_{n}.yaml" for n in best}
    costs = [Subnet.load(path).cost["macs"] for path in files]
    assert costs == sorted(costs)  # the cheapest is 01
    assert [path.name[:2] for path in files] == [f"{i + 1:02}" for i in range(len(files))]
    assert subnet.origin["trial"] == 5  # the highest AP
    assert Subnet.load(next((folder / "front").glob("*-trial_5.yaml"))) == subnet
    assert any("by no other in AP (max), macs (min)" in text for text in caplog.messages)


def test_the_cost_that_is_limited_is_told_and_drawn(pipeline, tmp_path, monkeypatch, caplog):
    drawn = []
    monkeypatch.setattr(
        "razorlite.recipes.pictures.plot_pareto", lambda points, *_, **more: drawn.append(more)
    )
    monkeypatch.setattr(SupernetScore, "__call__", lambda self, subnet: {"AP": 0.5})
    limits = ["search.constraints={params: 99%}", "search.trust=0"]
    with caplog.at_level("INFO", logger="razorlite"):
        subnet = searching.search(pipeline.supernet, pipeline.weights, tmp_path / "run", limits)
    assert drawn[0]["cost"] == "params"
    assert drawn[0]["chosen"][0] == subnet.cost["params"]
    told = [text for text in caplog.messages if text.startswith("trial ")]
    assert told[0].index("M parameters") < told[0].index("M MACs")
    total = len(told)
    assert all(f"; {i} of {total} trials, 0:00:" in text for i, text in enumerate(told, start=1))


def test_latency_is_measured_once_and_searched_by(pipeline, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(SupernetScore, "__call__", lambda self, subnet: {"AP": 0.5})
    table, folder = tmp_path / "latency.json", tmp_path / "run"
    block = f"{{type: LatencyTable, file: {table}, rounds: 1}}"
    settings = [f"search.costs=[{block}]", "search.constraints={latency_ms: 10s}", "search.trust=0"]
    with caplog.at_level("INFO", logger="razorlite"):
        subnet = searching.search(pipeline.supernet, pipeline.weights, folder, settings)
    assert list(subnet.cost) == ["macs", "params", "latency_ms"]
    first = next(text for text in caplog.messages if text.startswith("trial 0"))
    assert first.index("latency_ms") < first.index("M MACs")
    before, measured = trials(folder), table.read_bytes()
    again = searching.search(pipeline.supernet, pipeline.weights, folder, settings, resume=True)
    assert again.cost == subnet.cost
    assert (trials(folder), table.read_bytes()) == (before, measured)


@pytest.mark.slow
def test_the_found_subnet_is_timed_beside_the_largest(pipeline, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(SupernetScore, "__call__", lambda self, subnet: {"AP": 0.5})
    latency = "{runtime: pytorch, rounds: 2}"
    block = f"{{type: LatencyTable, file: {tmp_path / 'l.json'}, rounds: 1, latency: {latency}}}"
    settings = [f"search.costs=[{block}]", "search.constraints={latency_ms: 10s}"]
    with caplog.at_level("INFO", logger="razorlite"):
        searching.search(pipeline.supernet, pipeline.weights, tmp_path / "run", settings)
    found = Subnet.load(tmp_path / "run" / "subnet.yaml").origin["latency"]
    assert {"ms", "whole_ms", "share", "predicted_ms", "predicted_share"} <= set(found)
    assert (found["runtime"], found["threads"], found["device"]) == ("pytorch", 1, "cpu")
    assert {"dtype", "batch", "date", "shape"} <= set(found)
    assert "rank correlation (tau) with the table" in caplog.text
    assert "were predicted" in caplog.text


def test_weights_of_the_front_are_usable_and_evaluate_as_they_were_scored(pipeline):
    folder = pipeline.root / "search"
    for path in sorted((folder / "front").glob("*.yaml")):
        subnet = Subnet.load(path)
        built = build(read(pipeline.supernet)[1], path)
        card = load_trained(built, path.with_suffix(".pt"), read(pipeline.supernet)[1])
        assert dict(card.subnet.choices) == dict(subnet.choices)
        splits = Splits(read(pipeline.supernet)[1], torch.device("cpu"), card.classes)
        found = splits.evaluate(built.model, splits.search, "search")
        assert found["AP"] == pytest.approx(subnet.scores["AP"], abs=1e-6)


@pytest.mark.slow
def test_elastic_scoring_is_reported_with_its_rank_correlation(pipeline, tmp_path, caplog):
    more = ["search.elastic={share: 0.5, keep: 0.5}", "search.trust=3"]
    folder = tmp_path / "run"
    with caplog.at_level("INFO", logger="razorlite"):
        subnet = searching.search(pipeline.supernet, pipeline.weights, folder, more)
    lines = [line for line in trials(folder) if "trial" in line]
    promoted = [line for line in lines if line["promoted"]]
    assert (len(lines), len(promoted)) == (4, 2)
    assert subnet.origin["trial"] in [line["trial"] for line in promoted]
    report = json.loads((folder / "report.json").read_text())
    assert sum(row["name"].startswith("trial ") for row in report["rows"]) == 2
    said = "Elastic scoring: 2 of 4 candidates were scored on all images, 50% of the full"
    assert report["findings"][-1].startswith(said)
    assert any(text.startswith(said) for text in caplog.messages)
    again = searching.search(pipeline.supernet, pipeline.weights, folder, more, resume=True)
    assert again == subnet


def test_the_report_of_a_search_has_intervals_and_says_what_they_mean(pipeline):
    folder = pipeline.root / "search"
    report = json.loads((folder / "report.json").read_text())
    assert "noise" in report["findings"][0]
    assert any("the same everywhere and costs no more" in text for text in report["findings"])
    drawn = [row for row in report["rows"] if not row["name"].startswith("even")]
    assert [row["name"] for row in drawn][-1] == "random control"
    assert len(drawn) < len(report["rows"])
    assert all("% of the largest's macs" in row["name"] for row in report["rows"][len(drawn) :])
    for row in drawn:
        low, high = row["AP_interval"]
        assert low <= row["AP"] <= high
    assert (folder / "pictures" / "choices.png").exists()
    control = report["random_control"]
    assert control["evaluations"] == len([1 for line in trials(folder) if "trial" in line])
    assert control["gain_interval"][0] <= control["gain"] <= control["gain_interval"][1]
    front = [Subnet.load(path) for path in sorted((folder / "front").glob("*.yaml"))]
    parts = report["part_costs"]
    assert [sum(one["macs"].values()) for one in parts] == [s.cost["macs"] for s in front]
    assert [sum(one["params"].values()) for one in parts] == [s.cost["params"] for s in front]
    assert set(parts[0]["macs"]) == {"backbone", "neck", "bbox_head"}


class Stop(Hook):
    """Asks the run to end with the step that begins."""

    def before_step(self, run):
        os.kill(os.getpid(), signal.SIGTERM)


def retrained(folder):
    """Return what came of each training for the report."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("retraining/*.json")}


@pytest.mark.slow
def test_trainings_for_the_report_are_resumed_in_the_middle(pipeline, tmp_path, monkeypatch):
    brief = "search.retraining={steps: 2, seeds: 2, random: 1, across: 0, by_hand: 0}"
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert cli.main(words(pipeline, whole, "--set", brief)) == 0
    build_runner = training.build_runner

    def stopped(*arguments):
        runner = build_runner(*arguments)
        runner.hooks.append(Stop())
        return runner

    with monkeypatch.context() as patch:
        patch.setattr(training, "build_runner", stopped)
        assert cli.main(words(pipeline, folder, "--set", brief)) == 130
    assert not [*(folder / "retraining").glob("*.json")]
    assert json.loads((folder / "report.json").read_text())["retrained"] is None
    assert cli.main(words(pipeline, folder, "--resume", "--set", brief)) == 0
    results = [retrained(one) for one in (whole, folder)]
    assert results[0] == results[1]
    assert sorted(one["name"] for one in results[0].values()) == ["chosen", "chosen", "random 1"]
    for key in results[0]:
        ours, theirs = (last(one / "retraining" / key) for one in (folder, whole))
        assert all(torch.equal(ours["model"][n], t) for n, t in theirs["model"].items())
    report = json.loads((folder / "report.json").read_text())
    assert report["retrained"] == json.loads((whole / "report.json").read_text())["retrained"]
    assert report["retrained"]["steps"] == 3 + 2
    assert any("Kendall's tau between the supernet's scores" in f for f in report["findings"])


def scored(number, value, draws, macs):
    trial = SimpleNamespace(number=number, values=(value,), cost={"macs": macs})
    return Scored(trial, np.array(draws))


def test_the_finding_takes_the_cheapest_that_noise_does_not_tell_from_the_best():
    study = SimpleNamespace(
        objectives=Objectives.parse("AP"),
        constraint=SimpleNamespace(limits=[]),
        feasible=SimpleNamespace(names=("params", "macs")),
    )
    best = scored(3, 0.5, [0.4, 0.6], 30_000_000)
    near = scored(8, 0.49, [0.41, 0.57], 20_000_000)
    far = scored(5, 0.2, [0.1, 0.3], 10_000_000)
    text = finding(study, [best, near, far])
    assert text.startswith("The best 2 differ by less than the noise over images (AP 0.5000")
    assert "take the cheapest, trial 8 (20.0 M MACs)" in text
    assert "Trial 3 is better than the next by more than the noise" in finding(study, [best, far])
    assert best_within(study, [far.trial, near.trial, scored(1, 0.9, [], 40_000_000).trial],
                       best.trial) == near.trial  # fmt: skip
    assert best_within(study, [best.trial], far.trial) is None
    text = even_finding(study, near, best, "even: 9.0% of the largest's macs")
    assert text.startswith("Trial 8 is no better than the best of what ")
    assert "Trial 5 is worse than" in even_finding(study, far, best, "even")
    text = even_finding(study, best, far, "even: 9.0% of the largest's macs")
    assert "(even: 9.0% of the largest's macs), as far as the images tell: +0.3000 AP" in text
