"""Scoring on a real Ray cluster of this machine, with workers and nodes that die."""

import os
import time

import pytest

from razorlite.core.errors import ConfigError
from razorlite.search import CandidateError, RayWorkers, SearchError, ray_cluster
from tests.search import test_elastic
from tests.search.test_failures import make_study, records

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """A node of two CPUs, and room for others."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    with ray_cluster(found.address):
        yield found
    found.shutdown()


@pytest.fixture
def workers(cluster):
    """Makes workers that are closed after the test."""
    made = []

    def make(**settings):
        made.append(RayWorkers(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def whole(module_path):
    """Records of a search in this process."""
    path = module_path / "journal.jsonl"
    make_study(path).run()
    return records(path)


def once(folder, number, act):
    """Do something the first time that trial is scored, in whatever process."""
    flag = folder / f"flag{number}"
    if not flag.exists():
        flag.touch()
        act()


def faulty(study, folder, act, share, most=9):
    """Let an act befall about one of five candidates, the first time that it is scored."""
    plain = study._evaluator.attempt.score

    def score(subnet):
        key = sum(map(ord, "".join(map(str, subnet.choices.values()))))
        if key % 5 == share and len(list(folder.glob("flag*"))) < most:
            once(folder, key, act)
        return plain(subnet)

    replace_score(study, score)


def replace_score(study, score):
    object.__setattr__(study._evaluator.attempt, "score", score)


def test_more_workers_than_one_are_the_clusters_cpus(workers):
    assert workers().size == 2


def test_elastic_scoring_keeps_its_workers(workers, tmp_path):
    path, pool = tmp_path / "journal.jsonl", workers(size=2)
    test_elastic.make_study(path, workers=pool)[0].run()
    assert len(pool._ready) == 2
    test_elastic.make_study(tmp_path / "here.jsonl")[0].run()
    assert test_elastic.records(path) == test_elastic.records(tmp_path / "here.jsonl")


def test_workers_that_die_cost_a_try(workers, whole, tmp_path):
    path = tmp_path / "journal.jsonl"
    study = make_study(path, workers=workers(size=2))
    faulty(study, tmp_path, lambda: os._exit(1), 0)
    study.run()
    assert list(tmp_path.glob("flag*"))
    assert records(path) == whole


def test_workers_that_hang_cost_a_try(workers, whole, tmp_path):
    path = tmp_path / "journal.jsonl"
    study = make_study(path, workers=workers(size=2, timeout=20))
    faulty(study, tmp_path, lambda: time.sleep(600), 1, most=1)
    study.run()
    assert list(tmp_path.glob("flag*"))
    assert records(path) == whole


def test_a_candidate_that_kills_every_worker_stops_the_search(workers, whole, tmp_path):
    path = tmp_path / "journal.jsonl"
    study = make_study(path, workers=workers(size=1, retries=1))
    plain = study._evaluator.attempt.score
    replace_score(study, lambda subnet: os._exit(1))
    with pytest.raises(SearchError, match="no Ray worker has scored it: "):
        study.run()
    study = make_study(path, workers=workers(size=1))
    replace_score(study, plain)
    study.run(resume=True)
    assert records(path) == whole


def test_a_node_that_dies_costs_its_trials_a_try(cluster, workers, whole, tmp_path):
    path = tmp_path / "journal.jsonl"
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def progress(study, trial):
        if trial.number == 5:
            cluster.remove_node(node, allow_graceful=False)

    make_study(path, workers=workers(size=3, timeout=20), progress=progress).run()
    assert records(path) == whole


def test_a_candidates_own_fault_is_recorded(workers, tmp_path):
    study = make_study(tmp_path / "journal.jsonl", workers=workers(size=1))

    def fail(subnet):
        raise CandidateError("no boxes")

    replace_score(study, fail)
    with pytest.raises(SearchError, match="the first: no boxes"):
        study.run()


def test_a_cluster_that_is_not_there_is_named(cluster):
    ray.shutdown()
    expected = r"no Ray cluster at 127.0.0.1:1: .* ray start --head"
    with pytest.raises(ConfigError, match=expected), ray_cluster("127.0.0.1:1"):
        pass
