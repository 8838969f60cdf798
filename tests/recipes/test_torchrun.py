"""Two processes do what one does: started by torchrun itself, and by what its environment says."""

import os
import subprocess
import sys

import pytest
import torch

from razorlite.core.journal import Journal
from razorlite.space import Subnet
from tests.recipes.runs import ROOT, detector, last, lines, ranks, run, split, torchrun, write

pytestmark = pytest.mark.slow

# A step of two processes with 4 images each is one of 8, but for batch norm, whose statistics are
# those of a process's own images: they are frozen.
FROZEN = {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [1, 2], "norm_eval": True}
TRAIN = {
    "max_steps": 3,
    "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
    "clip_grad_norm": 5.0,
    "ema": {"decay": 0.5, "warmup_steps": 0},
    "log_every": 1,
}


@pytest.fixture(scope="module")
def trained(module_path):
    """Folders of the same training by one process and by two."""
    for processes in (1, 2):
        config = detector({"train": TRAIN, "mutator": None})
        config["model"]["backbone"] = FROZEN
        config["model"]["neck"]["in_channels"] = [96, 192]
        config["model"]["bbox_head"]["norm"] = None
        config["model"]["bbox_head"]["strides"] = [16, 32]
        batch_size = 8 // processes
        config["data"] = {"train": split(19, 0, batch_size), "val": split(7, 1, 2)}
        path = write(config, module_path, f"{processes}.yaml")
        words = ("train", path)
        if processes == 1:
            run(*words, folder=module_path / "1")
        else:
            torchrun(*words, "--work-dir", module_path / "2")
    return module_path / "1", module_path / "2"


def test_training_agrees_with_one_process_on_the_joined_batch(trained):
    one, two = (last(folder) for folder in trained)
    for part in ("model", ("ema", "average")):
        first, second = (state(content, part) for content in (one, two))
        assert first.keys() == second.keys()
        worst = max(float((first[k].double() - second[k].double()).abs().max()) for k in first)
        assert worst < 1e-5
    assert len(two["rng"]) == 2


def state(content, part):
    return content[part] if isinstance(part, str) else content[part[0]][part[1]]


def test_the_weights_have_moved(trained):
    content = last(trained[0])
    shipped, trained_weights = content["model"], content["ema"]["average"]
    assert not torch.equal(
        shipped["bbox_head.conv_cls.weight"], trained_weights["bbox_head.conv_cls.weight"]
    )


def test_lines_are_those_of_the_joined_batch(trained):
    one, two = (lines(folder) for folder in trained)
    assert len(one) == len(two) == 4
    for first, second in zip(one, two, strict=True):
        assert first.pop("kind") == second.pop("kind")
        assert second == pytest.approx(first, rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def search(module_path):
    """The words of a search: configuration and trained supernet."""
    searcher = {"type": "EvolutionSearcher", "population_size": 4, "top_k": 2, "max_rounds": 2}
    search = {
        "searcher": {**searcher, "num_mutation": 2, "num_crossover": 2},
        "constraints": {"macs": "90%"},
        "recalibrate_batches": 1,
        "retraining": {"steps": 1, "seeds": 2, "random": 1, "across": 1, "by_hand": 0},
    }
    short = {"max_steps": 2, "optimizer": {"type": "AdamW", "lr": 1e-3}}
    config = write(detector({"train": short, "search": search}), module_path)
    run("train", config, folder=module_path / "supernet")
    return "search", config, module_path / "supernet/checkpoints/last.pt"


def test_search_finds_the_same_trials_and_winner(search, tmp_path):
    run(*search, folder=tmp_path / "1")
    ranks(*search, folder=tmp_path / "2")
    journals = [Journal(tmp_path / name / "journal.jsonl").read() for name in "12"]
    trials = [[{**line, "seconds": 0} for line in journal] for journal in journals]
    assert trials[0] == trials[1]
    assert len(trials[0]) == 1 + 2 * (1 + 4)  # the first line, two rounds, their trials
    subnets = [(tmp_path / name / "subnet.yaml").read_text() for name in "12"]
    assert subnets[0] == subnets[1]
    one, two = (
        {p.name: p.read_text() for p in tmp_path.glob(f"{n}/retraining/*.json")} for n in "12"
    )
    assert len(one) >= 3
    assert one == two


def test_a_budget_of_milliseconds_is_timed_by_one_process(search, tmp_path):
    latency = "{runtime: pytorch, rounds: 2}"
    block = f"{{type: LatencyTable, file: {tmp_path / 'l.json'}, rounds: 1, latency: {latency}}}"
    changes = [
        f"search.costs=[{block}]",
        "search.constraints={latency_ms: 10s}",
        "search.latency_rounds=1",
        "search.retraining=null",
    ]
    ranks(*search, "--set", *changes, folder=tmp_path / "run")
    timed = Subnet.load(tmp_path / "run/subnet.yaml").origin["latency"]
    assert 1 <= len(Journal(tmp_path / "run/latency.jsonl").read()) <= timed["searches"]


def test_a_fault_of_all_processes_is_one_line(tmp_path):
    words = ["train", tmp_path / "none.yaml", "--processes", "2"]
    command = [sys.executable, "-m", "razorlite", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no config ")
    assert done.stderr.count("\n") == 1


def test_pruning_finds_the_same_channels(trained, tmp_path):
    config = detector({"train": {**TRAIN, "ema": None}, "mutator": None})
    config["model"]["backbone"] = FROZEN
    config["model"]["neck"]["in_channels"] = [96, 192]
    config["model"]["bbox_head"]["norm"] = None
    config["model"]["bbox_head"]["strides"] = [16, 32]
    config["prune"] = {"budget": {"macs": "70%"}, "round_to": 2, "rounds": 2}
    config["data"] = {"train": split(19, 0, 4), "val": split(7, 1, 2)}
    path = write(config, tmp_path)
    words = ("prune", path, trained[0] / "checkpoints/last.pt")
    run(*words, folder=tmp_path / "1")
    ranks(*words, folder=tmp_path / "2")
    # the second round starts from weights that two processes have trained on twice the images
    early = [Subnet.load(tmp_path / name / "round_1/subnet.yaml") for name in "12"]
    assert early[0].channels == early[1].channels
    late = Subnet.load(tmp_path / "2/subnet.yaml")
    assert late.cost["macs"] < early[1].cost["macs"]
    ranks(*words, "--resume", folder=tmp_path / "2")
