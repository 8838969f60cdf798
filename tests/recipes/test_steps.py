"""The `step` block: what it means, what it takes, what makes no sense."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from razorlite.core.errors import ConfigError
from razorlite.cost import FactoredCost
from razorlite.distill import DistilledStep
from razorlite.distill.spans import Weighting
from razorlite.engine.steps import PlainStep
from razorlite.recipes import building
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_before_work, check_config
from razorlite.recipes.dry_step import dry_step
from razorlite.recipes.experiment import read
from razorlite.recipes.steps import chain
from razorlite.space import FairStep, ProgressiveStep, SandwichStep, SinglePathStep, WindowStep
from tests.recipes.own_steps import Innermost, LearntFactor, stop_and_resume
from tests.recipes.runs import lines, write
from tests.recipes.test_checking import TRAIN, faults, plain, supernet
from tests.recipes.test_classes import plain as small
from tests.recipes.test_classes import shapes

OWN = "tests.recipes.own_steps"
OPTIMIZER = {"type": "AdamW", "lr": 1e-3}


@pytest.fixture(scope="module")
def distiller(module_path):
    """A block whose teacher is the plain model, which check and dry steps build on shapes."""
    (module_path / "teacher.pt").touch()
    config = write(plain(), module_path)
    pairs = [{"student": "neck", "loss": {"type": "AttentionTransfer"}}]
    teacher = {"config": str(config), "checkpoint": str(module_path / "teacher.pt")}
    return {"teacher": teacher, "pairs": pairs, "start_step": 1, "warmup_steps": 3}


def steps_of(tree):
    experiment = read(tree)[1]
    return list(chain(dry_step(experiment, build(experiment))))


def types_of(tree):
    return [type(step) for step in steps_of(tree)]


def test_without_the_block_other_blocks_say_what_it_is(distiller):
    assert types_of(plain()) == [PlainStep]
    assert types_of(supernet(seed=4)) == [SinglePathStep, PlainStep]
    found = steps_of(supernet(seed=4, distiller=distiller))
    assert [type(s) for s in found] == [DistilledStep, SinglePathStep, PlainStep]
    assert found[1].seed == 4
    assert found[0].weighting == Weighting(start=1, warmup=3, total=found[0].total_steps)


def test_the_block_says_the_same_in_other_words(distiller):
    assert types_of(plain(step={"type": "PlainStep"})) == [PlainStep]
    assert types_of(supernet(step={"type": "SinglePathStep"})) == [SinglePathStep, PlainStep]
    blocks = [
        {"type": "DistilledStep"},
        {"type": "SinglePathStep"},
        {"type": "PlainStep"},
    ]
    found = steps_of(supernet(seed=9, distiller=distiller, step=blocks))
    assert [type(s) for s in found] == [DistilledStep, SinglePathStep, PlainStep]
    assert found[1].seed == 9
    assert (found[0].weighting.start, found[0].weighting.warmup) == (1, 3)


def test_a_sandwich_gets_the_largest_and_the_smallest_path(monkeypatch):
    def table(space, shape):
        assert shape == (64, 64)
        ends = [space.random(np.random.default_rng(seed)) for seed in (0, 1)]
        return SimpleNamespace(largest=lambda: ends[0], smallest=lambda: ends[1])

    monkeypatch.setattr(building, "tabulate", table)
    [step, _] = steps_of(supernet(step={"type": "SandwichStep", "random_paths": 1}))
    assert isinstance(step, SandwichStep)
    ends = table(step.space, (64, 64))
    assert step.paths[:2] == [ends.largest(), ends.smallest()]
    assert len(step.paths) == 3


def test_paths_are_counted_once_for_the_check_and_the_training(monkeypatch):
    counted = []

    def table(space, shape):
        counted.append(shape)
        return FactoredCost(space, fixed={"macs": 1, "params": 1})

    monkeypatch.setattr(building, "tabulate", table)
    tree = supernet(step={"type": "SandwichStep"}, search={})
    check_config(tree)
    assert len(counted) == 1
    merged, experiment = read(tree)
    built = replace(build(experiment), counted=check_before_work(merged, experiment))
    assert built.costs((64, 64)) is built.costs((64, 64))
    assert len(counted) == 2


def test_steps_of_ones_own_are_named_by_their_path_and_take_what_they_ask_for():
    block = {"type": f"{OWN}.LearntFactor", "start": 2.0}
    [outer, path, inner] = steps_of(supernet(seed=3, step=[block, {"type": "SinglePathStep"}]))
    assert isinstance(outer, LearntFactor)
    assert (outer.seed, outer.total_steps) == (3, TRAIN["max_steps"])
    assert outer.base_step is path
    inside = [{"type": "SinglePathStep"}, {"type": f"{OWN}.Innermost"}]
    [path, inner] = steps_of(supernet(step=inside))
    assert isinstance(inner, Innermost)
    assert inner.space is path.space
    assert steps_of(plain(step={"type": f"{OWN}.Innermost"}))[0].space is None


def test_sound_ones_pass_the_check():
    block = {"type": f"{OWN}.LearntFactor", "start": 2.0}
    assert check_config(plain(step=[block, {"type": "PlainStep"}]), imports=True) == []


@pytest.mark.parametrize(
    ("tree", "block", "message"),
    [
        (plain, "{type: SinglePathStep}", "step: SinglePathStep needs a supernet: a `mutator`"),
        (plain, "{type: SandwichStep}", "step: SandwichStep needs a supernet"),
        (plain, "{type: DistilledStep}", "step: DistilledStep needs a `distiller` block"),
        (supernet, "{type: PlainStep}", "but no step chooses a path; add {type: SinglePathStep}"),
        (
            supernet,
            "[{type: SinglePathStep}, {type: SinglePathStep}]",
            "both choose paths; keep one",
        ),
        (supernet, "[{type: PlainStep}, {type: SinglePathStep}]", "step.0: PlainStep has no step"),
        (plain, "[]", "step: wants"),
        (plain, "{type: PlainSteps}", "did you mean 'PlainStep'"),
        (plain, "{type: FPN}", "wants a Step, but 'FPN' is none; known: "),
        (supernet, "{type: SandwichStep, random_paths: -1}", "at least 0"),
        (supernet, "{type: SandwichStep, random: 1}", "SandwichStep takes no 'random'"),
        (supernet, "{type: SinglePathStep, base_step: {type: PlainStep}}", "takes no 'base_step'"),
        (supernet, "{type: SinglePathStep, space: 1}", "SinglePathStep takes no 'space'"),
    ],
)
def test_the_check_refuses(tree, block, message):
    [line] = faults(tree(), f"step={block}")
    assert message in line


def test_what_a_step_of_ones_own_lacks_is_named():
    with pytest.raises(ConfigError, match="Demanding needs 'moon'"):
        check_config(plain(step={"type": f"{OWN}.Demanding"}), imports=True)


def test_a_distiller_that_no_step_or_two_use_is_refused(distiller):
    tree = plain(distiller=distiller)
    [line] = faults(tree, "step={type: PlainStep}")
    assert "no step uses the `distiller` block; add {type: DistilledStep}" in line
    [line] = faults(tree, "step=[{type: DistilledStep}, {type: DistilledStep}]")
    assert "DistilledStep and DistilledStep both use the distiller" in line


def test_a_teacher_alone_leaves_no_losses_of_a_step_out(distiller):
    blocks = [{"type": "DistilledStep"}, {"type": f"{OWN}.Penalised"}]
    for order, refused in ((blocks, True), (blocks[::-1], False)):
        tree = plain(distiller={**distiller, "task_weight": 0}, step=order)
        with pytest.raises(ConfigError, match="what Penalised adds") if refused else nullcontext():
            check_config(tree, imports=True)


def test_a_step_of_ones_own_is_trained_and_resumed_exactly(tmp_path):
    block = {"type": f"{OWN}.LearntFactor", "start": 2.0}
    train = {"max_steps": 4, "log_every": 1, "save_every": 1, "optimizer": OPTIMIZER}
    config = write(small(step=block, train=train, data={"train": shapes(4)}), tmp_path)
    stop_and_resume(config, tmp_path)
    found = [line for line in lines(tmp_path / "run") if line["kind"] == "train"]
    assert [line["calls"] for line in found] == [1, 2, 3, 4]
    assert found[0]["factor"] == 2.0
    assert found[3]["factor"] < 2.0  # a smaller factor is a smaller loss


@pytest.mark.parametrize("kind", [FairStep, WindowStep, ProgressiveStep])
def test_steps_of_a_supernet_are_named_in_the_configuration(kind):
    step, _ = steps_of(supernet(step={"type": kind.__name__}))
    assert isinstance(step, kind)
    with pytest.raises(ConfigError, match=f"{kind.__name__} needs a supernet"):
        steps_of(plain(step={"type": kind.__name__}))


@pytest.mark.parametrize("kind", ["FairStep", "WindowStep", "ProgressiveStep"])
def test_only_a_step_that_begins_with_the_largest_path_lets_it_teach(kind):
    distiller = {"teacher": "largest_path", "pairs": [{"student": "neck", "loss": {"type": "PKD"}}]}
    tree = supernet(step=[{"type": "DistilledStep"}, {"type": kind}], distiller=distiller)
    with pytest.raises(ConfigError, match="the largest path teaches the others"):
        steps_of(tree)
