"""What channels are worth, measured by the command."""

from razorlite import recipes
from razorlite.engine.checkpoint_io import save_checkpoint
from tests.recipes.runs import split
from tests.recipes.test_classes import plain


def test_losses_on_other_images_are_not_those_of_a_resumed_run(tmp_path):
    block = {"budget": "60%", "round_to": 8, "batches": 1, "ignore": ["backbone.*"]}
    config = plain(train=None, data={"train": split(8, 0)}, prune=block)
    path = tmp_path / "whole.pt"
    save_checkpoint(path, {"model": recipes.build_model(config).state_dict(), "meta": {}})
    first = recipes.sensitivity(config, path, tmp_path / "run")
    assert recipes.sensitivity(config, path, tmp_path / "run", resume=True) == first
    other = {"data.train.dataset.seed": 7}
    again = recipes.sensitivity(config, path, tmp_path / "run", other, resume=True)
    assert again == recipes.sensitivity(config, path, tmp_path / "other", other)
    assert again != first
