"""The command `search` on a Ray cluster."""

import pytest
import torch

from razorlite import cli, recipes
from razorlite.core.errors import ConfigError
from razorlite.core.journal import Journal
from razorlite.recipes import worker_pools
from razorlite.search import SearchConfig


def trials(folder):
    """Return candidates and scores, to digits that other numbers of threads do not change."""
    lines = [line for line in Journal(folder / "journal.jsonl").read() if "trial" in line]
    return [(line["choices"], round(line["score"], 4)) for line in lines]


@pytest.mark.slow
def test_a_cluster_finds_what_this_process_finds(pipeline, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    words = ["search", str(pipeline.supernet), str(pipeline.weights), "--workers", "ray"]
    assert cli.main([*words, "--work-dir", str(tmp_path)]) in (0, None)
    assert trials(tmp_path) == trials(pipeline.root / "search")


def test_other_workers_are_refused_before_any_work():
    with pytest.raises(ConfigError, match="--workers takes ray or ray:ADDRESS, got 'dask'"):
        recipes.search("no such file", "none", workers="dask")


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(worker_pools, "world_size", lambda: 2)
    pool = worker_pools.worker_pool("ray", SearchConfig(), torch.device("cpu"))
    with pytest.raises(ConfigError, match="--workers ray is for one process"), pool:
        pass
