"""The command `train`: a model, a supernet, a chosen subnet or a distilled student."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from razorlite.core import config as core_config
from razorlite.core.compute import Compute
from razorlite.core.config import Config, Overrides
from razorlite.core.errors import ConfigError
from razorlite.cost import FactoredCost
from razorlite.engine.interrupt import StoppedAtEnd
from razorlite.engine.launch import session
from razorlite.engine.run_folder import ConfigFile, check_run_folder, claimed, on_main
from razorlite.engine.runner import Runner
from razorlite.engine.steps import Step, plain_step
from razorlite.evaluation import evaluate
from razorlite.recipes.batch_size import settled
from razorlite.recipes.building import Built, build
from razorlite.recipes.card import ModelCard, preprocess_of
from razorlite.recipes.checking import check_before_work
from razorlite.recipes.digests import data_digests
from razorlite.recipes.expanding import read_expanded
from razorlite.recipes.experiment import ConfigLike, Experiment, load_config
from razorlite.recipes.folders import run_folder
from razorlite.recipes.paths import portable
from razorlite.recipes.pictures import or_warn, sample_detections, training_pictures
from razorlite.recipes.short_runs import shortened, taught_at_once
from razorlite.recipes.splits import Splits
from razorlite.recipes.starting import begin
from razorlite.recipes.steps import Known
from razorlite.recipes.targets import target_of, write_target
from razorlite.recipes.taught import Lesson
from razorlite.recipes.training_parts import training_parts
from razorlite.space import SearchSpace, Subnet, recalibrate
from razorlite.structures import Inputs

_log = logging.getLogger("razorlite")
_CALIBRATION_BATCHES = 10
_FEW = 2  # steps of a fast_dev_run, and batches of each split


def train(
    config: ConfigLike,
    work_dir: str | Path | None = None,
    overrides: Overrides = (),
    resume: bool = False,
    subnet: str | Path | None = None,
    fast_dev_run: bool = False,
) -> dict[str, float]:
    """Train what a configuration describes.

    A `mutator` block without `subnet` trains a supernet, one random path a step; `subnet` trains
    the exported model; `distiller` adds a teacher. The run folder gets config.yaml, metrics.jsonl,
    checkpoints/last.pt and best.pt, pictures, and subnet.yaml where a step knows the path that it
    ends at.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        work_dir: run folder; the configuration's or work_dirs/<its name> by default.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        resume: go on with the run in the run folder, exactly where it stopped.
        subnet: a subnet file in the place of the configuration's.
        fast_dev_run: try all of it out on two batches, in a folder that is removed again.

    Returns:
        The metrics of the last evaluation.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: images or annotations cannot be used.
        CheckpointError: a checkpoint cannot be read or is of another model.
        RunFolderError: the run folder holds another run, or cannot be written.
        TrainingError: a loss is not finite.
        Interrupted: a signal asked the run to end (see `StopSignals`); the state is saved.
        StoppedAtEnd: likewise, after the last step: all is written.
    """
    if not fast_dev_run:
        return _train(config, work_dir, overrides, resume, subnet)
    if resume or work_dir is not None:
        raise ConfigError("fast_dev_run keeps nothing; leave out the run folder and resume")
    whole = load_config(config, overrides)
    changed = {**shortened(whole, _FEW), **taught_at_once(whole), "train.log_every": 1}
    short = core_config.load(whole, changed)
    with TemporaryDirectory() as folder:
        return _train(short, Path(folder) / "run", (), False, subnet, _FEW)


def _train(
    config: ConfigLike,
    work_dir: str | Path | None,
    overrides: Overrides,
    resume: bool,
    subnet: str | Path | None,
    few: int | None = None,
) -> dict[str, float]:
    """Train; `few` is how many batches of each split are taken."""
    merged, experiment = read_expanded(config, overrides, subnet)
    counted = check_before_work(merged, experiment)
    with session(experiment.device, experiment.seed) as device:
        folder = run_folder(merged, experiment, work_dir)
        check_run_folder(folder, "train", resume=resume)
        merged, experiment = settled(merged, experiment, device, folder if resume else None)
        built = replace(build(experiment), counted=counted)
        last = folder / "checkpoints" / "last.pt"
        start = begin(built, experiment, device, last if resume and last.exists() else None)
        splits = start.splits
        splits.few = few
        card = describe(merged, experiment, built, splits.classes or None, start.unfrozen)
        card = replace(card, trained_on=splits.trained_on(start.known))
        with claimed(folder, "train", resume=resume):
            runner = build_runner(experiment, built, splits, folder, card)
            runner.hooks.insert(0, ConfigFile(folder, portable(merged, folder).dump()))
            asked: StoppedAtEnd | None = None
            try:
                metrics = run_taught(runner, built, splits, resume=resume)
            except StoppedAtEnd as stop:
                asked, metrics = stop, stop.metrics
            on_main(
                lambda: write_target(built, runner.state.step, experiment.shape, folder, metrics)
            )
            with runner.state.averaged():
                draw(built, splits, folder)
    if asked is not None:
        raise asked
    return metrics


def run_taught(runner: Runner, built: Built, splits: Splits, *, resume: bool) -> dict[str, float]:
    """Run a training, and tell of its teachers, who are scored on val where that is asked for.

    Args:
        runner: of the training, which may have no teacher.
        built: what is trained.
        splits: its images.
        resume: go on with what is in the runner's folder.

    Returns:
        The metrics of the last evaluation.

    Raises:
        Interrupted: as `Runner.run`.
    """
    settings = splits.experiment.distiller
    asked = settings is not None and settings.score_teacher and not built.is_supernet
    lesson = Lesson(runner.state.step, _evaluate(built, splits) if asked else None)
    lesson.begin()
    try:
        metrics = runner.run(resume=resume)
    except StoppedAtEnd as stop:
        lesson.end(runner.state.folder, stop.metrics)
        raise
    lesson.end(runner.state.folder, metrics)
    return metrics


def describe(
    config: Config,
    experiment: Experiment,
    built: Built,
    classes: Sequence[str] | None,
    unfrozen: Sequence[str] = (),
) -> ModelCard:
    """Return what the checkpoints of a training say of their model."""
    return ModelCard(
        model=experiment.model.type,
        classes=None if classes is None else tuple(classes),
        preprocess=preprocess_of(config, experiment),
        subnet=built.subnet,
        config=config.dump(),
        unfrozen=tuple(unfrozen),
    )


def build_runner(
    experiment: Experiment,
    built: Built,
    splits: Splits,
    folder: Path,
    card: ModelCard,
    more: Known | None = None,
) -> Runner:
    """Return the runner that trains a model as an experiment says.

    Args:
        experiment: the configuration.
        built: the model.
        splits: images, and the device to train on.
        folder: run folder.
        card: what checkpoints say of the model.
        more: what else the training step may ask for, see `build_step`.

    Raises:
        ConfigError: there is no `train` block, or the steps do not go together.
        CheckpointError: the teacher's checkpoint cannot be read.
    """
    if experiment.train is None:
        raise ConfigError("the configuration has no `train` block; add one, or use it as _base_")
    model, step, loader = training_parts(experiment, built, splits, more)
    return Runner(
        model=model,
        step=step,
        loader=loader,
        config=experiment.train,
        folder=folder,
        evaluate=_evaluate(built, splits, step),
        meta=replace(card, data=data_digests(splits)).to_meta(),
    )


def draw(built: Built, splits: Splits, folder: Path) -> None:
    """Leave the run's curves, and detections on some of its validation images."""
    on_main(lambda: or_warn(lambda: training_pictures(folder, folder.name)))
    if splits.val is not None and not built.is_supernet:
        path = folder / "pictures" / "detections.png"
        val = splits.val
        on_main(lambda: or_warn(lambda: sample_detections(built.model, splits, val, "val", path)))


def _evaluate(built: Built, splits: Splits, step: Step = plain_step) -> Any:
    """Return how training is watched; None where there is nothing to watch it on."""
    dataset = splits.val
    if dataset is None:
        return None
    assert splits.experiment.train is not None
    best = splits.experiment.train.best_metric
    metric = splits.metric(dataset, "val", best, "train.best_metric")
    loader = splits.eval_loader(dataset, "val")
    score = partial(evaluate, loader=loader, metric=metric, autocast=splits.compute.autocast)
    if not built.is_supernet:
        return score
    assert built.space is not None
    return _PathScore(
        space=built.space,
        step=step,
        costs=partial(built.costs, splits.experiment.shape),
        batches=splits.calibration(_CALIBRATION_BATCHES),
        score=score,
        compute=splits.compute,
    )


class _PathScore:
    """Evaluates the path that a supernet's training ends at, or the largest where none is known.

    Batch-norm statistics are refreshed for the time.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        step: Step,
        costs: Callable[[], FactoredCost],
        batches: Sequence[Inputs],
        score: Callable[[nn.Module], dict[str, float]],
        compute: Compute,
    ) -> None:
        self.space, self.step, self.costs, self.batches = space, step, costs, batches
        self.score, self.compute = score, compute

    @cached_property
    def largest(self) -> Subnet:
        """The path with the most MACs."""
        subnet: Subnet = self.costs().largest()
        return subnet

    @property
    def path(self) -> Subnet:
        """The path that is evaluated now."""
        return target_of(self.step) or self.largest

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics; the supernet is as before."""
        with self.space.kept_path():
            self.space.select(self.path)
            with self.compute.autocast():
                recalibrate(model, self.batches)
            return self.score(model)
