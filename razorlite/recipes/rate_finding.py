"""The command `lr-find`: which learning rate a training takes, by a range test on a copy."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from razorlite.core.config import Overrides
from razorlite.core.errors import ConfigError
from razorlite.core.files import make_folder, write_text_atomic
from razorlite.engine.launch import session
from razorlite.engine.rate_test import RangeTest, growing, range_test
from razorlite.engine.run_folder import on_main
from razorlite.recipes.batch_size import settled
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.expanding import read_expanded
from razorlite.recipes.experiment import ConfigLike, Experiment
from razorlite.recipes.pictures import or_warn
from razorlite.recipes.starting import begin
from razorlite.recipes.training_parts import training_parts
from razorlite.visual.rates import plot_rates


@dataclass(frozen=True)
class Range:
    """The rates that are tried.

    Attributes:
        lowest: learning rate of the first step.
        highest: of the last step.
        steps: how many at most.
    """

    lowest: float = 1e-6
    highest: float = 10.0
    steps: int = 100


def find_lr(
    config: ConfigLike,
    out: str | Path | None = None,
    *,
    overrides: Overrides = (),
    subnet: str | Path | None = None,
    tried: Range | None = None,
) -> RangeTest:
    """Train a copy of what a configuration describes with a growing learning rate.

    It is built as for training: a supernet, a subnet, a student with its teacher, with the
    precision, accumulation and multipliers of the `train` block. Nothing of it is kept, and no run
    folder is looked at.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        out: folder for lr_find.png and lr_find.json; None writes nothing.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        subnet: a subnet file in the place of the configuration's.
        tried: rates; 1e-6 to 10 in 100 steps by default.

    Raises:
        ConfigError: the configuration is wrong, or the rates do not rise.
        DataError: images or annotations cannot be used.
        CheckpointError: a checkpoint cannot be read or is of another model.
        RunFolderError: a file cannot be written.
    """
    rates = growing(**asdict(tried or Range()))  # refused before any work
    merged, experiment = read_expanded(config, overrides, subnet)
    if experiment.train is None:
        raise ConfigError("has no `train` block, whose learning rate is looked for", key="train")
    counted = check_before_work(merged, experiment)
    with session(experiment.device, experiment.seed) as device:
        _, experiment = settled(merged, experiment, device)
        built = replace(build(experiment), counted=counted)
        splits = begin(built, experiment, device, None).splits
        model, step, loader = training_parts(experiment, built, splits)
        assert experiment.train is not None
        settings = experiment.train
        found = range_test(model=model, step=step, loader=loader, config=settings, rates=rates)
        if out is not None:
            on_main(lambda: _write(found, Path(out), configured_lr(experiment)))
    return found


def configured_lr(experiment: Experiment) -> float | None:
    """Return the learning rate that a configuration's optimiser names; None if it names none."""
    if experiment.train is None:
        return None
    rate = getattr(experiment.train.optimizer, "kwargs", {}).get("lr")
    return float(rate) if isinstance(rate, int | float) else None


def lines(found: RangeTest) -> list[str]:
    """Return in words what was found."""
    if not found.losses:
        return ["the loss is not finite at the lowest rate; start lower by --lowest"]
    ended = f"the loss ran away at {found.rates[-1]:.2g}" if found.diverged else "it never ran away"
    if found.suggestion is None or found.lowest is None:
        return [f"the loss fell nowhere, and {ended}: try lower rates by --lowest, or more --steps"]
    return [
        f"suggestion {found.suggestion:.2g}, where the loss falls fastest",
        f"lowest loss at {found.lowest:.2g}, and {ended}; rates near it are too high to train with",
        f"to take it: --set train.optimizer.lr={found.suggestion:.2g}",
    ]


def _write(found: RangeTest, folder: Path, configured: float | None) -> None:
    make_folder(folder)
    values: dict[str, Any] = {"format": 1, "configured": configured, **found.to_dict()}
    write_text_atomic(folder / "lr_find.json", json.dumps(values) + "\n")
    or_warn(
        lambda: plot_rates(
            found.rates,
            found.losses,
            found.smoothed,
            folder / "lr_find.png",
            suggestion=found.suggestion,
            configured=configured,
        )
    )
