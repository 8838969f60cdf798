"""Commands killed at a random moment and resumed end as if nothing had happened."""

import random
import signal

import pytest

from razorlite.core.journal import Journal
from tests.engine.toys import assert_same
from tests.recipes.runs import Command, detector, last, lines, run, split, write

TRAIN = {
    "max_epochs": 4,
    "optimizer": {"type": "AdamW", "lr": 1e-3},
    "schedule": {"type": "Cosine", "warmup_steps": 5},
    "clip_grad_norm": 10.0,
    "ema": {"decay": 0.9, "warmup_steps": 4},
    "eval_every": 2,
    "save_every": 1,
    "log_every": 1,
}
MIXED = [
    {"type": "CachedMosaic", "size": [32, 32], "cache_size": 6},
    {"type": "HSVJitter"},
    {"type": "CachedMixUp", "size": [64, 64], "cache_size": 4},
]
LAST = {"epochs": 2, "transforms": [{"type": "RandomCrop", "size": [56, 56]}]}
SUPERNET = {"train": {**TRAIN, "accumulate": 2}}
PLAIN = {
    "train": TRAIN,
    "mutator": None,
    "model": {
        "type": "FCOS",
        "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [1, 2]},
        "neck": {"type": "FPN", "in_channels": [96, 192], "out_channels": 16, "num_outs": 2},
        "bbox_head": {
            "type": "FCOSHead",
            "num_classes": 3,
            "in_channels": 16,
            "feat_channels": 16,
            "stacked_convs": 1,
            "strides": [16, 32],
        },
    },
    "data": {
        "train": {**split(18, 0, num_workers=1), "transforms": MIXED, "last_epochs": LAST},
        "val": split(4, 1),
    },
}


@pytest.fixture(scope="module", params=[pytest.param("supernet", marks=pytest.mark.slow), "plain"])
def whole(request, module_path):
    """A configuration and the folder of its uninterrupted run."""
    folder = module_path / request.param
    folder.mkdir()
    config = write(detector(SUPERNET if request.param == "supernet" else PLAIN), folder)
    run("train", config, folder=folder / "run")
    return config, folder / "run"


def check(folder, whole):
    assert_same(last(folder), last(whole))
    assert lines(folder) == lines(whole)
    best = "checkpoints/best.pt"
    assert (folder / best).exists() == (whole / best).exists()


def stop(config, folder, ready, number, *more):
    """Start training and send it a signal when `ready`; return what it was and what it output."""
    command = Command("train", config, "--work-dir", folder, *more, folder=folder)
    command.send_when(ready, number)
    return command.wait(), command.printed()


def test_killed_training_ends_with_the_same_weights(whole, tmp_path):
    config, whole_folder = whole
    folder = tmp_path / "run"
    saved = folder / "checkpoints" / "last.pt"
    expected = lines(whole_folder)
    # other moments at each run of the suite: any must do
    moments = sorted(random.SystemRandom().sample(range(1, len(expected) - 2), 2))
    for moment, more in zip(moments, ([], ["--resume"]), strict=True):
        ready = lambda moment=moment: saved.exists() and len(lines(folder)) >= moment  # noqa: E731
        code, _ = stop(config, folder, ready, signal.SIGKILL, *more)
        assert code == -signal.SIGKILL, moments
        assert last(folder)["progress"]["step"] < expected[-1]["step"], moments
    run("train", config, "--resume", folder=folder)
    check(folder, whole_folder)


def test_training_stopped_by_signals_says_how_to_go_on(whole, tmp_path):
    config, whole_folder = whole
    folder = tmp_path / "run"
    for number, more in ((signal.SIGINT, []), (signal.SIGTERM, ["--resume"])):
        before = len(lines(folder))
        ready = lambda before=before: len(lines(folder)) > before + 1  # noqa: E731
        code, output = stop(config, folder, ready, number, *more)
        assert code == 130
        message = output.strip().splitlines()[-1]
        assert message.startswith("stopped after step ")
        assert message.endswith("to go on, run the same command again with --resume")
        assert "Traceback" not in output
    run("train", config, "--resume", folder=folder)
    check(folder, whole_folder)


@pytest.mark.slow
def test_killed_search_proposes_the_same_trials(tmp_path):
    searcher = {"type": "EvolutionSearcher", "population_size": 6, "top_k": 3, "max_rounds": 3}
    search = {
        "searcher": {**searcher, "num_mutation": 3, "num_crossover": 3},
        "constraints": {"macs": "90%"},
        "recalibrate_batches": 1,
        "retraining": None,
    }
    short = {"max_steps": 2, "optimizer": {"type": "AdamW", "lr": 1e-3}}
    config = write(detector({"train": short, "search": search}), tmp_path)
    run("train", config, folder=tmp_path / "supernet")
    words = ("search", config, tmp_path / "supernet/checkpoints/last.pt")
    run(*words, folder=tmp_path / "whole")
    expected = trials(tmp_path / "whole")
    moment = random.SystemRandom().randrange(2, len(expected) - 3)
    folder = tmp_path / "killed"
    journal = folder / "journal.jsonl"
    command = Command(*words, "--work-dir", folder, folder=folder)
    command.send_when(lambda: count(journal) >= moment, signal.SIGKILL)
    assert count(journal) < len(expected), moment
    run(*words, "--resume", folder=folder)
    assert trials(folder) == expected
    subnets = [(tmp_path / name / "subnet.yaml").read_text() for name in ("whole", "killed")]
    assert subnets[0] == subnets[1]


def trials(folder):
    """Return the journal without times."""
    return [{**line, "seconds": 0} for line in Journal(folder / "journal.jsonl").read()]


def count(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0
