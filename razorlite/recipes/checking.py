"""What training refuses, found before anything is built for good or written."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.errors import ConfigError, RazorliteError, SubnetError
from razorlite.core.files import resolve
from razorlite.data import Dataset
from razorlite.engine.optim import build_optimizer, check_step, parameters_of_step
from razorlite.engine.steps import Step
from razorlite.evaluation.metric import need_value
from razorlite.models.pretrained import is_name_of_weights
from razorlite.recipes.building import Built, Costs
from razorlite.recipes.classes import compare
from razorlite.recipes.costing import check_constraints, search_costs
from razorlite.recipes.data_config import LoaderConfig
from razorlite.recipes.dry_run import dry_run, needs_larger_batches, run_forms
from razorlite.recipes.dry_step import compare_once, dry_step, keys_of, plain_build, teaches_nothing
from razorlite.recipes.expanding import expanded
from razorlite.recipes.experiment import ConfigLike, Experiment
from razorlite.recipes.paths import located, teacher_keys
from razorlite.recipes.pruning_check import check_budget, check_importance
from razorlite.recipes.retraining_config import check_retraining
from razorlite.recipes.splits import Splits
from razorlite.recipes.tasks import compare_tasks, need_predict
from razorlite.recipes.training_check import check_evaluations, late_in_schedule
from razorlite.search import Candidates
from razorlite.space import Mutator, Subnet
from razorlite.structures import images_of

T = TypeVar("T")
_log = logging.getLogger("razorlite")
_PATHS = ("root", "annotation", "images", "archive")
_LARGE_FILE = 50e6  # bytes; what takes seconds to read


def check_config(config: ConfigLike, overrides: Any = (), *, imports: bool = False) -> list[str]:
    """Check a configuration as far as training would, without training.

    The model is built and run on shapes alone; images and files are looked at where they are.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each, as after --set.
        imports: import the modules that the configuration names, which runs their code; otherwise
            what depends on them is not checked.

    Returns:
        What is odd though it can be trained, and what could not be checked, one remark a line.

    Raises:
        ConfigError: every fault found, one a line, each with file and line.
    """
    merged = core_config.load(config, overrides, imports=imports)
    core_config.check(merged, Experiment)
    if merged.unchecked:
        return [*dict.fromkeys(merged.unchecked), "nothing was built; see --allow-imports"]
    merged = expanded(located(merged))
    check = _Check(merged, core_config.build(merged, Experiment))
    check.files()
    check.model()
    check.forms()
    check.transforms()
    check.training()
    check.costs()
    check.images()
    core_config.raise_faults(check.faults)
    return check.remarks


def check_before_work(
    config: Config, experiment: Experiment, *, trains: bool = True
) -> Costs | None:
    """Refuse, before anything is written, what the check of a configuration refuses.

    Files, images and budgets are left out, as the commands look at these first themselves. What is
    odd is logged.

    Args:
        config: the merged configuration.
        experiment: its typed form.
        trains: the command uses the `train` block.

    Returns:
        What the points of a supernet cost, as the check may have counted it; None for others.

    Raises:
        ConfigError: every fault found, one a line, each with file and line.
    """
    check = _Check(config, experiment)
    check.model()
    check.transforms()
    if any(not isinstance(preparer, Mutator) for preparer in experiment.preparers):
        check.forms()  # choices are built for their positions; what else varies is named by hand
    if trains:
        check.training()
    core_config.raise_faults(check.faults)
    for remark in check.oddities:
        _log.warning("%s", remark)
    return check.built.costs if check.built is not None and check.built.is_supernet else None


class _Check:
    """Collects faults and remarks.

    Attributes:
        faults: what training would refuse.
        oddities: what can be trained and is hardly meant.
        unchecked: what could not be looked at.
    """

    def __init__(self, config: Config, experiment: Experiment) -> None:
        self.config, self.experiment = config, experiment
        self.faults: list[str] = []
        self.oddities: list[str] = []
        self.unchecked: list[str] = []
        self.built: Built | None = None

    @property
    def remarks(self) -> list[str]:
        """All that is no fault."""
        return [*self.oddities, *self.unchecked]

    def model(self) -> None:
        """Check the model's parts against each other, and metrics against the metric's."""
        known = self.config.get("subnet")
        overrides = {} if known is None or _exists(known) else {"subnet": None}
        plain = plain_build(self.config, overrides)
        run = partial(dry_run, plain, self.experiment.shape, values=not overrides and _slim(known))
        self.built = self._try("model", run)
        if self.built is not None and self.experiment.metric is not None:
            metric = self._try("metric", self.experiment.metric)
            self._try("metric", partial(compare_tasks, self.built.model, metric, "metric"))
            self._try("model", partial(need_predict, self.built.model))

    def forms(self) -> None:
        """Check the parts against each other in other forms of a supernet than the first."""
        if self.built is not None and self.built.is_supernet:
            self._try("mutator", partial(run_forms, self.built, self.experiment.shape))

    def transforms(self) -> None:
        """Compare what a search and what training is watched on see."""
        if self.experiment.data is not None and self.experiment.data.search_is_bare:
            self._odd("data.search", "no transforms, which data.val has: list them here, too")

    def training(self) -> None:
        """Check schedule, evaluations, training step and optimiser."""
        train = self.experiment.train
        if train is not None:
            if train.schedule is not None:
                self._try("train.schedule", train.schedule)
            for key, what in late_in_schedule(self.config, train):
                self._odd(key, what)
            self._try("", partial(self._metric, "train.best_metric", train.best_metric))
        self._try("", partial(check_evaluations, self.experiment))
        if self.built is not None:
            step = self._step(self.built)
            self._try("train", partial(self._optimizer, self.built.model, step))

    def costs(self) -> None:
        """Check what the model may cost, and what it is chosen by."""
        self._search()
        if self.built is not None:
            for check in (check_importance, check_budget):
                self._try("prune", partial(check, self.config, self.experiment, self.built))

    def images(self) -> None:
        """Check the splits that are there: names of classes, sizes of batches."""
        splits = Splits(self.experiment, torch.device("cpu"))
        if self.experiment.train is not None and not self.experiment.without_data:
            self._try("", partial(splits.part, "train"))
        for part, loader in self._loaders():
            absent, dataset = _absent(loader.dataset.kwargs), None
            if absent is not None:
                self.unchecked.append(f"{self._at(f'data.{part}')}: not checked: {absent}")
            else:
                dataset = self._try(f"data.{part}", partial(getattr, splits, part))
            if dataset is not None:
                self._try(f"data.{part}", partial(self._split, part, dataset, splits))
            elif part == "train":
                return  # the others take its labels

    def _loaders(self) -> Iterator[tuple[str, LoaderConfig]]:
        data = self.experiment.data
        for part in ("train", "val", "test", "search"):
            loader = getattr(data, part, None)
            if loader is not None:
                yield part, loader

    def _split(self, part: str, dataset: Dataset, splits: Splits) -> None:
        assert self.experiment.data is not None
        size = getattr(self.experiment.data, part).images_of(dataset)
        first = part == "train" or self.experiment.data.train is None
        if self.built is not None and first:
            compare(self.built.model, dataset.classes, where=f"data.{part}", dataset=dataset)
        if part == "val" and self.experiment.train is not None:
            best = self.experiment.train.best_metric
            known = any("best_metric" in fault for fault in self.faults)
            splits.metric(dataset, part, None if known else best, "train.best_metric")
        if part != "train":
            splits.eval_loader(dataset, part)
            return
        if len(dataset) < size:
            self._odd("data.train.batch_size", f"is {size}, but there are {len(dataset)} images")
        alone = min(size, len(dataset)) == 1 and self.experiment.train is not None
        if not alone or self.built is None:
            return
        images = images_of(next(iter(splits.train_loader())).inputs)
        shape = self.experiment.shape if images is None else (images.shape[-2], images.shape[-1])
        if needs_larger_batches(self.built.model, shape):
            raise ConfigError(
                "a batch norm sees one value per channel in batches of one image; use larger "
                "batches or images, or another norm",
                key="batch_size",
            )

    def _try(self, key: str, action: Callable[[], T]) -> T | None:
        """Return what an action returns; None where it finds a fault or cannot be done."""
        try:
            return action()
        except core_config.LocatedConfigError as error:
            self.faults += str(error).split("\n")
        except ConfigError as error:
            self.faults.append(f"{self._at(_joined(key, error.key))}: {error}")
        except RazorliteError as error:
            self.faults.append(f"{self._at(key)}: {error}")
        except Exception as error:  # what needs values cannot be done on shapes
            self.unchecked.append(f"{self._at(key)}: not checked ({type(error).__name__})")
        return None

    def _at(self, key: str) -> str:
        if self.config.get(key) is None:
            key = key.removesuffix(".in_channels")  # where a part has no such argument
        where = self.config.where(key)
        return where if not key or where == f"--set {key}" else f"{where}: {key}"

    def _odd(self, key: str, what: str) -> None:
        self.oddities.append(f"{self._at(key)}: {what}")

    def files(self) -> None:
        """Check that the files which the configuration names are there."""
        named = {"subnet": self.experiment.subnet}
        origin = self.config.get("load_from")
        named["load_from"] = origin.get("checkpoint") if isinstance(origin, dict) else origin
        for key in teacher_keys(self.config):
            named[key] = None if key.endswith(".config") else self.config.get(key)
        for key in keys_of(self.config.tree.get("model"), "pretrained"):
            source = self.config.get(f"model.{key}")
            named[f"model.{key}"] = None if is_name_of_weights(source) else source
        for key, path in named.items():
            if path is not None and not _exists(path):
                self.faults.append(
                    f"{self._at(key)}: no file {path!r}; make it first, or name another"
                )

    def _metric(self, key: str, name: str | None) -> None:
        """Refuse a metric to choose by that the metric does not give."""
        if self.experiment.metric is None or name is None:
            return
        metric = self.experiment.metric()
        if "/" not in name or getattr(metric, "classes", None):  # else classes are not known yet
            need_value(metric, name, key)

    def _step(self, built: Built) -> Step | None:
        """Build the training step, and let a distiller compare once."""
        if any("distiller.teacher" in fault for fault in self.faults):
            return None
        step = self._try("", partial(dry_step, self.experiment, built))
        if step is not None:
            shape = self.experiment.shape
            self._try("distiller", partial(compare_once, step, built, shape))
            if teaches_nothing(self.experiment):
                self._odd("distiller.start_step", "is behind the run's end: nothing is taught")
        return step

    def _optimizer(self, model: nn.Module, step: Step | None) -> None:
        train = self.experiment.train
        if train is None:
            return
        extra = parameters_of_step(step) if step is not None else None
        check_step(train.optimizer)
        build_optimizer(train.optimizer, model.train(), options=train.param_options, extra=extra)

    def _search(self) -> None:
        """Check what candidates may cost, what they are compared by and how some are trained."""
        search, built = self.experiment.search, self.built
        if search is None:
            return
        self._try("search.retraining", partial(check_retraining, self.config, search))
        costs = None
        if built is not None and built.space is not None and built.is_supernet:
            costs = self._try("search", partial(search_costs, self.experiment, built))
            candidates = Candidates(space=built.space, table=costs)
        if costs is not None:
            self._try("search.searcher", partial(search.build_searcher, candidates))
            self._try("search.constraints", partial(check_constraints, search, costs))
        for name in search.objectives.names:
            if costs is None or name not in costs.names:
                self._try("", partial(self._metric, "search.metric", name))


def _slim(subnet: str | None) -> bool:
    """Return whether a subnet file is of pruning, which cannot be checked without values."""
    try:
        return subnet is not None and Subnet.load(subnet).is_pruned
    except SubnetError:
        return False  # building the model will say what is wrong with it


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _exists(path: str) -> bool:
    return path.startswith(("http://", "https://")) or Path(path).expanduser().is_file()


def _absent(settings: Any) -> str | None:
    """Say which of a data set's folders is not there, or which file is too large for a check.

    A wrong name in a folder that is there is a fault, which opening the data set tells.
    """
    for key, value in settings.items() if isinstance(settings, dict) else ():
        for inner in value if isinstance(value, list) else [value]:
            found = _absent(inner)
            if found is not None:
                return found
        if key in _PATHS and isinstance(value, str):
            path = resolve(value)
            beside = resolve(str(settings.get("root", "."))) / value
            if not (path.exists() or beside.exists() or path.parent.is_dir()):
                return f"there is no {path.parent}"
            if path.is_file() and path.stat().st_size > _LARGE_FILE:
                return f"{path} is large"
    return None
