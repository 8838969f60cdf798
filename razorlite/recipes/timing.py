"""Models of an experiment timed as they are shipped."""

from functools import partial

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.cost import LatencyConfig
from razorlite.deploy import Deployed, RuntimeTimer
from razorlite.deploy.runtimes import check_runtime
from razorlite.prune import Stopwatch
from razorlite.recipes.experiment import Experiment


def stopwatch_of(experiment: Experiment, whole: nn.Module, settings: LatencyConfig) -> Stopwatch:
    """Return what times slim models of an experiment beside the whole one.

    Detectors and classifiers are timed as `razorlite export` writes them, pixels in and detections
    out; other models by a call with their own example.
    """
    return Stopwatch(whole, timer_of(experiment, whole, settings))


def timer_of(experiment: Experiment, model: nn.Module, settings: LatencyConfig) -> RuntimeTimer:
    """Return what times models that are built as one is.

    Raises:
        ExportError: a package that the runtime needs is not installed.
    """
    check_runtime(settings.runtime)
    preprocess = None if experiment.data is None else experiment.data.preprocess
    form = partial(Deployed, preprocess=preprocess)
    try:
        form(model)
    except ConfigError:  # it takes other inputs than images, or finds something else
        return RuntimeTimer(experiment.shape, settings)
    return RuntimeTimer(experiment.shape, settings, form)
