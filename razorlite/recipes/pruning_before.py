"""The training of a whole model before its channels go."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from razorlite.core.distributed import rank
from razorlite.core.errors import RunFolderError
from razorlite.core.files import make_folder
from razorlite.engine.checkpoint import load_weights
from razorlite.engine.random_state import seed_everything
from razorlite.engine.run_folder import on_main
from razorlite.prune import Channels, Goal, PruneConfig
from razorlite.recipes.building import Built
from razorlite.recipes.card import ModelCard
from razorlite.recipes.pruning_steps import before_experiment, gradual_of, known_to_steps
from razorlite.recipes.splits import Splits
from razorlite.recipes.training import build_runner
from razorlite.space import Subnet


def train_before(
    settings: PruneConfig,
    built: Built,
    channels: Channels,
    goal: Callable[[], Goal],
    *,
    splits: Splits,
    folder: Path,
    card: ModelCard,
    resume: bool,
) -> Subnet | None:
    """Train the whole model, and leave its last weights in it.

    Args:
        settings: the `prune` block, with `before`.
        built: the model.
        channels: of the model.
        goal: gives that of the whole pruning.
        splits: training images, and the device.
        folder: run folder of this training.
        card: what its checkpoints say of the model.
        resume: go on with what is there.

    Returns:
        What is kept, where the training step has decided that.
    """
    experiment = before_experiment(splits.experiment, settings)
    splits = splits.trained_by(experiment)
    splits.match(built.model)
    seed_everything(experiment.seed, rank())
    known = known_to_steps(settings, channels, goal)
    runner = build_runner(experiment, built, splits, folder, card, known)
    runner.run(resume=resume)
    built.model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    load_weights(built.model, folder / "checkpoints" / "last.pt")
    gradual = gradual_of(runner.state.step)
    return None if gradual is None else gradual.subnet()


def claim(folder: Path, digest: str, *, resume: bool) -> None:
    """Write into a folder what is pruned and how; a resumed run must have the same.

    Raises:
        RunFolderError: it has not.
    """
    path = folder / "plan.txt"
    if resume and path.exists() and path.read_text().strip() != digest:
        raise RunFolderError(
            f"{folder} holds the training before a pruning of other weights or by another `prune` "
            "block; go on with the same command, or choose another folder by --work-dir"
        )
    on_main(partial(_write, path, digest))


def _write(path: Path, digest: str) -> None:
    make_folder(path.parent)
    path.write_text(f"{digest}\n")
