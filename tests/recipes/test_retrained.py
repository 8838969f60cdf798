"""What trainings say: the chosen subnet against random ones and what is scaled by hand."""

import math
from dataclasses import replace

import pytest
import torch.distributed as dist

from razorlite.core.errors import DataError, TrainingError
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.prune import Paired
from razorlite.recipes.experiment import read
from razorlite.recipes.retrained import Retrained
from razorlite.recipes.retraining import Retraining, Trained, _time_left, retraining_of
from razorlite.recipes.retraining_plan import Contender, across, budgets, contenders
from razorlite.recipes.short_runs import shortened, taught_at_once
from razorlite.search import Candidates, RandomSearcher, RetrainingConfig, Study
from razorlite.space import Subnet
from tests.recipes.runs import detector
from tests.search.contract import score, small_space, small_table


def trained(kind, values, supernet=None, macs=2e6, name="", time=None):
    cost = {"macs": macs, "params": 1e5, "latency_ms": 9.0}
    one = Contender(name or kind, kind, Subnet(), cost, supernet, time=time)
    return Trained(one, tuple(values))


def whole(*more, sign=1):
    chosen = trained("chosen", [0.50, 0.52, 0.54], 0.3)
    random = [trained("random", [v], s) for v, s in ((0.40, 0.1), (0.44, 0.2), (0.48, 0.25))]
    return Retrained([chosen, *random, *more], "AP", "trained for 9 steps", 20, sign)


def test_the_chosen_subnet_beats_random_ones_by_standard_errors():
    difference = whole().over_random
    assert difference.value == pytest.approx(0.52 - 0.44)
    # deviations 0.02 between three seeds and 0.04 between three random subnets
    assert difference.error == pytest.approx(math.sqrt(0.02**2 / 3 + 0.04**2 / 3))
    assert difference.verdict == "beats"
    assert whole().noise == pytest.approx(0.02)
    assert whole().tau.tau == 1
    text = " ".join(whole().findings)
    assert "The chosen subnet beats the mean of 3 random subnets" in text
    assert "is 1.00 (95 % of draws" in text


def test_what_does_not_beat_them_is_told():
    found = whole(trained("random", [0.9], 0.2)).over_random
    assert found.verdict == "does not beat"
    single = Retrained([trained("chosen", [0.5], 0.3), trained("random", [0.4], 0.2)], "AP", "", 1)
    assert single.over_random.error is None
    assert "may or may not beat the mean" in single.findings[1]
    assert single.findings[1].endswith("AP, the noise between seeds is not known.")
    assert whole(trained("random", [], 0.2)).over_random.value == pytest.approx(0.08)


def test_less_may_be_better():
    assert whole(sign=-1).over_random.verdict == "is beaten by"


def test_the_best_by_hand_that_costs_no_more_is_compared():
    narrow = trained("by hand", [0.45], name="narrow")
    wide = trained("by hand", [0.9], macs=3e6)
    even = trained("even", [0.47], 0.2, name="even: 60.0% of the largest's macs")
    name, difference = whole(narrow, wide, even).over_hand
    assert name == "even: 60.0% of the largest's macs"
    assert difference.value == pytest.approx(0.05)
    assert difference.error == pytest.approx(0.02 * math.sqrt(1 / 3 + 1))
    assert difference.verdict == "beats"
    assert whole().over_hand is None


def test_each_of_the_front_is_compared_with_what_is_as_cheap():
    narrow = trained("by hand", [0.45], name="narrow")
    narrower = trained("by hand", [0.40], macs=1e6, name="narrower")
    found = whole(trained("front", [0.39], 0.2, 1e6, "front 3"), narrow, narrower).findings
    assert any(
        line.startswith("The chosen subnet beats the best of") and "(narrow)" in line
        for line in found
    )
    assert any(
        line.startswith("Front 3 does not beat the best of") and "(narrower)" in line
        for line in found
    )


def test_where_times_were_measured_what_takes_no_more_is_compared():
    slow, quick = Paired(6.0, 10.0, 0.6), Paired(4.9, 10.0, 0.49)
    wide = trained("by hand", [0.45], macs=3e6, name="wide", time=quick)
    narrow = trained("by hand", [0.9], macs=1e6, name="narrow", time=slow)
    chosen = trained("chosen", [0.50, 0.52, 0.54], 0.3, time=Paired(5.0, 10.0, 0.5))
    others = [wide, narrow, trained("random", [0.4], 0.1)]
    found = Retrained([chosen, *others], "AP", "trained for 9 steps", 20)
    assert found.over_hand[0] == "wide"
    assert "what is scaled by hand in no more time (wide)" in " ".join(found.findings)
    _, heads, lines = found.table()
    shown = [line[heads.index("share of the largest's time")] for line in lines]
    assert shown == ["50.0%", "49.0%", "60.0%", "–"]
    assert found.to_dict()["trained"][0]["time"]["share"] == 0.5


def test_table_pictures_and_values_have_every_contender(tmp_path):
    found = whole(trained("by hand", [0.45]), trained("across", [], 0.1))
    _, heads, lines = found.table()
    assert [len(line) for line in lines] == [len(heads)] * 6
    assert lines[0] == ["chosen", "2.00", "0.10", "0.3000", "0.5200 ±0.0200", "3", "20"]
    assert lines[-1][4] == "not trained"
    assert all(path.exists() for _, path in found.draw(tmp_path))
    assert len(found.to_dict()["trained"]) == 6


@pytest.fixture
def study():
    space = small_space()
    candidates = Candidates(space=space, table=small_table(space), seed=3)
    searcher = RandomSearcher(candidates=candidates, max_trials=20)
    study = Study(searcher=searcher, score=lambda subnet: score(space, subnet))
    study.run()
    return study


def test_contenders_are_the_chosen_random_ones_of_its_cost_and_others_across(study):
    settings = RetrainingConfig(random=4, across=3, seeds=2, by_hand=1)
    counted = lambda subnet: score(study.space, subnet)  # noqa: E731
    found = contenders(study, counted, None, settings, study.scored[:3])
    kinds = [one.kind for one in found]
    assert kinds[:5] == ["chosen"] + ["random"] * 4
    assert kinds.count("across") <= 3
    chosen = found[0]
    assert (chosen.seeds, chosen.score) == (2, study.best.score)
    best = chosen.cost["macs"]
    for one in found[1:5]:
        assert 0.8 * best <= one.cost["macs"] <= best
        assert one.subnet.choices != chosen.subnet.choices
        assert one.score == counted(one.subnet)
    assert [one.subnet for one in contenders(study, counted, None, settings, [])][:5] == [
        one.subnet for one in found[:5]
    ]


def test_contenders_of_the_front_are_trained_once_also_if_they_are_even(study):
    settings = RetrainingConfig(random=0, across=0, by_hand=2)
    cheaper = budgets(study, 2)[1]
    found = contenders(study, lambda _: 0.0, None, settings, [cheaper])
    assert [one.kind for one in found][:2] == ["chosen", "front"]
    assert [one.even for one in found][:2] == [False, True]
    assert found[1].subnet == cheaper.subnet
    choices = [tuple(one.subnet.choices.items()) for one in found]
    assert len(set(choices)) == len(choices)


def test_points_across_the_space_are_spread_over_its_costs(study):
    costs = study.feasible.costs(across(study, "macs", 4))["macs"]
    steps = [31 + (94 - 31) * i / 5 for i in (1, 2, 3, 4)]  # from all a, 31, to all c, 94
    assert sorted(costs.tolist()) == pytest.approx(steps, abs=4)
    assert budgets(study, 1) == [study.best]
    assert budgets(study, 0) == []


def test_a_shorter_training_ends_its_warmup_early():
    config = {"train.schedule.warmup_steps": 50, "data.train.last_epochs": None}
    changed = shortened(config, 20)
    assert (changed["train.max_steps"], changed["train.max_epochs"]) == (20, None)
    assert changed["train.schedule.warmup_steps"] == 5
    assert changed["train.save_every"] == 4
    assert "train.schedule.milestones" not in changed
    steps = {"train.schedule.unit": "step", "train.schedule.milestones": [10, 30]}
    assert shortened(steps, 20)["train.schedule.milestones"] == [10]


def test_what_is_tried_out_is_taught_from_the_first_step():
    assert taught_at_once({}) == {}
    spans = taught_at_once({"distiller": {"start_step": "50%", "warmup_steps": 9}})
    assert spans["distiller.start_step"] == spans["distiller.warmup_steps"] == 0


def test_what_failed_is_told_again_and_what_can_be_mended_is_tried_again(
    tmp_path, monkeypatch, caplog
):
    save_checkpoint(tmp_path / "a.pt", {"model": {}, "meta": {}})
    config, _ = read(detector({"train": {"max_steps": 9, "optimizer": {"type": "SGD", "lr": 1}}}))
    where = {"checkpoint": tmp_path / "a.pt", "folder": tmp_path, "weights": ""}
    job = retraining_of(config, RetrainingConfig(), metric="AP", describe=dict, **where)
    found = {"one": DataError("cannot be read"), "two": TrainingError("is not finite")}
    seen = []

    def train(self, one, seed):
        seen.append(one.name)
        if one.name in found:
            raise found[one.name]
        return 0.5

    monkeypatch.setattr(Retraining, "_train", train)
    some = [
        Contender(name, "random", Subnet(choices={"a": name}), {}, None) for name in ("one", "two")
    ]
    changed = replace(job, data={**job.data, "data.val": "other"})
    assert changed._key(some[0], 0) != job._key(some[0], 0)  # no result of other images
    assert set(job.data) == {"data.train", "data.val"}
    told = ["one, seed 0: cannot be read", "two, seed 0: is not finite"]
    for expected in (["one", "two"], ["one"]):
        assert [one.values for one in job.run(some)] == [(), ()]
        assert (seen, caplog.messages) == (expected, told)
        seen.clear()
        caplog.clear()
    del found["one"]
    assert [one.values for one in job.run(some)] == [(0.5,), ()]
    assert (seen, caplog.messages) == (["one"], told[1:])


def test_the_time_left_is_told_once_a_training_is_done():
    assert _time_left(0.0, 0, 16) == ""
    assert _time_left(240.0, 2, 16) == "; about 28 min are left"  # two minutes each


def test_a_training_is_one_processs_own_whatever_their_number(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.pt", {"model": {}, "meta": {}})
    train = {"max_epochs": 40, "optimizer": {"type": "SGD", "lr": 0.01}, "lr_batch_size": 16}

    def found():
        config, _ = read(detector({"train": train}))
        where = {"checkpoint": tmp_path / "a.pt", "folder": tmp_path, "weights": ""}
        one = retraining_of(config, RetrainingConfig(), metric="AP", describe=dict, **where)
        return one.steps, one._key(Contender("", "chosen", Subnet(), {}, None), 0)

    alone = found()
    assert alone[0] == 40 * 5 // 10  # 22 images, 4 in a batch
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    assert found() == alone
