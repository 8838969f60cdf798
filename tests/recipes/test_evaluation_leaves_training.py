"""How often a supernet is evaluated changes nothing of its training."""

import torch

from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.launch import session
from razorlite.recipes.building import build
from razorlite.recipes.experiment import read
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import build_runner, describe
from tests.engine.toys import assert_same
from tests.recipes.runs import detector

TRAIN = {
    "max_steps": 2,
    "optimizer": {"type": "AdamW", "lr": 1e-3},
    "ema": {"decay": 0.5, "warmup_steps": 0},
    "eval_every": 1,
}


def trained(folder, *, evaluated: bool):
    """Return what last.pt holds, the runner's path and the metrics."""
    config, experiment = read(detector({"train": TRAIN}))
    with session("cpu", 0) as device:
        built, splits = build(experiment), Splits(experiment, device)
        card = describe(config, experiment, built, splits.classes)
        runner = build_runner(experiment, built, splits, folder, card)
        if not evaluated:
            runner._evaluate = None
        metrics = runner.run()
    content = read_checkpoint(folder / "checkpoints" / "last.pt")
    state = {part: content[part] for part in ("model", "optimizer", "ema", "rng", "step")}
    return state, built.space.selected, metrics


def test_evaluation_leaves_a_supernet_bit_equal(tmp_path):
    torch.manual_seed(0)
    watched, path, metrics = trained(tmp_path / "watched", evaluated=True)
    alone, same_path, nothing = trained(tmp_path / "alone", evaluated=False)
    assert "AP" in metrics
    assert nothing == {}
    assert path == same_path
    assert_same(watched, alone)
