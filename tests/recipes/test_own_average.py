"""`teacher: ema` in configurations: training, exact resume, what checkpoints hold, refusals."""

import pytest

from razorlite import recipes
from razorlite.engine.checkpoint import read_state_dict
from razorlite.recipes import training
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_config
from razorlite.recipes.expanding import expanded
from razorlite.recipes.experiment import read
from tests.engine.toys import assert_same
from tests.recipes.own_steps import stop_and_resume
from tests.recipes.runs import last, lines, write
from tests.recipes.test_checking import faults
from tests.recipes.test_classes import plain, shapes
from tests.recipes.test_terms import TRAIN

WIDTHS = {"type": "ChannelWidths", "shares": [0.5], "round_to": 4, "ignore": ["backbone.*"]}
BLOCK = {"teacher": "ema", "ema": {"decay": 0.5, "warmup_steps": 0}, "recipe": "pkd"}


def student(**more):
    return plain(**{"data": {"train": shapes(4)}, "train": {**TRAIN, "accumulate": 2}, **more})


def test_a_recipe_compares_the_student_with_itself():
    block = expanded(read(student(distiller=BLOCK))[0]).get("distiller")
    assert block["teacher"] == "ema"
    assert [pair["student"] for pair in block["pairs"]] == ["neck"]
    assert "connector" not in block["pairs"][0]
    assert check_config(student(distiller={**BLOCK, "ema": None})) == []


FACTORS = {"type": "FactorTransfer", "student_channels": 16, "teacher_channels": 16}
FACTORS |= {"paraphraser_steps": 1}
LEARNT = {"teacher": "ema", "pairs": [{"student": "neck[0]", "loss": FACTORS}]}


@pytest.mark.slow
@pytest.mark.parametrize("block", [BLOCK, LEARNT], ids=["recipe", "factor transfer"])
def test_training_is_resumed_exactly_and_ships_the_student_alone(block, tmp_path):
    stopping = {"type": "tests.recipes.own_steps.LearntFactor", "start": 1.0}
    tree = student(distiller=block, step=[{"type": "DistilledStep"}, stopping])
    config = write(tree, tmp_path)
    stop_and_resume(config, tmp_path)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert last(tmp_path / "run")["step"]["average"]["updates"] == 3
    names = set(build(read(config)[1]).model.state_dict())
    assert set(read_state_dict(tmp_path / "run/checkpoints/last.pt")) == names


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (student(distiller={**BLOCK, "checkpoint": "a.pt"}), "goes with a teacher that is"),
        (
            student(distiller={**BLOCK, "teacher": {"model": {"type": "ResNet", "depth": 18}}}),
            "distiller.ema: goes with teacher: ema only",
        ),
        pytest.param(
            student(distiller=BLOCK, mutator=WIDTHS),
            "name largest_path, or train",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(tree, message):
    [line] = faults(tree)
    assert message in line


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"start_step": "90%", "stop_step": "1 epoch"}, "stop_step 1 epochs must come after"),
        ({"warmup_steps": "60%", "cooldown_steps": "50%"}, "shorten them"),
    ],
)
def test_the_check_refuses_spans_that_contradict_one_another(spans, message):
    train = {**TRAIN, "max_steps": None, "save_every": None, "max_epochs": 3}
    [line] = faults(student(distiller={**BLOCK, **spans}, train=train))
    assert line.startswith("config: distiller: ")
    assert message in line


def test_the_check_tells_of_a_run_that_ends_before_anything_is_taught():
    [remark] = check_config(student(distiller={**BLOCK, "start_step": 3}))
    assert remark.endswith("distiller.start_step: is behind the run's end: nothing is taught")


def test_pictures_are_of_the_average_that_is_shipped(tmp_path, monkeypatch):
    seen = {}

    def look(built, *_):
        seen.update({name: value.clone() for name, value in built.model.state_dict().items()})

    monkeypatch.setattr(training, "draw", look)
    averaged = {**TRAIN, "ema": {"decay": 0.9, "warmup_steps": 0}}
    recipes.train(plain(train=averaged), tmp_path / "run")
    assert_same(seen, dict(read_state_dict(tmp_path / "run/checkpoints/last.pt")))
