"""Recipes of distillation inside supernet training and inside pruning's fine-tuning."""

import pytest

from razorlite import recipes
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.recipes import building
from razorlite.recipes.checking import check_config
from razorlite.recipes.expanding import expanded
from razorlite.recipes.experiment import read
from tests.recipes.runs import lines, write
from tests.recipes.test_classes import plain, shapes
from tests.recipes.test_terms import STEPS, TRAIN, _ends, one_step, teacher  # noqa: F401

pytestmark = pytest.mark.slow


def student(**more):
    return plain(**{"data": {"train": shapes(4)}, "train": TRAIN, **more})


@pytest.mark.parametrize("recipe", ["pkd", "mgd"])
def test_what_pruning_left_learns_by_a_recipe(teacher, tmp_path, recipe):  # noqa: F811
    """The recipe's connectors are those of the slim model."""
    block = {"teacher": teacher, "recipe": recipe}
    prune = {"budget": {"macs": "60%"}, "round_to": 2}
    config = write(student(distiller=block, prune=prune, train={**TRAIN, "max_steps": 2}), tmp_path)
    recipes.prune(config, teacher["checkpoint"], tmp_path / "run")
    found = [line for line in lines(tmp_path / "run") if line["kind"] == "train"]
    losses = [v for line in found for k, v in line.items() if k.startswith("distill_")]
    assert len(found) == 2
    assert losses
    assert all(loss > 0 for loss in losses)
    written = (tmp_path / "run/config.yaml").read_text()
    assert "recipe" not in written
    slim, whole = (
        read_checkpoint(path)["model"]["bbox_head.conv_cls.weight"]
        for path in (tmp_path / "run/checkpoints/last.pt", teacher["checkpoint"])
    )
    assert slim.shape[1] < whole.shape[1]
    again = recipes.train(tmp_path / "run/config.yaml", tmp_path / "again")
    assert again == {}


@pytest.mark.parametrize(("recipe", "step"), [("pkd", None), ("cwd", STEPS)])
def test_a_supernet_learns_by_a_recipe(teacher, recipe, step, monkeypatch):  # noqa: F811
    monkeypatch.setattr(building, "tabulate", _ends)  # counting takes seconds
    widths = {"type": "ChannelWidths", "shares": [0.5], "round_to": 4, "ignore": ["neck.*"]}
    block = {"teacher": teacher, "recipe": recipe}
    tree = student(distiller=block, mutator=widths, step=step)
    assert all("batch_size" in remark for remark in check_config(tree))
    _, model, metrics = one_step(expanded(read(tree)[0]).tree)
    assert metrics["distill_neck"] > 0
    assert any(p.grad is not None for p in model.backbone.parameters())
