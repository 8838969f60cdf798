"""From a finished search to its report: controls, trainings, pictures and plain words."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from razorlite.core.config import Config
from razorlite.core.errors import ConfigError, DataError
from razorlite.engine.run_folder import on_main
from razorlite.prune import Stopwatch
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.pictures import or_warn
from razorlite.recipes.retrained import Retrained
from razorlite.recipes.retraining import retraining_of
from razorlite.recipes.retraining_plan import by_hand, contenders, timed
from razorlite.recipes.search_report import Controls, SearchReport, score_controls
from razorlite.search import SearchConfig, Study, SupernetScore, Workers
from razorlite.space import Subnet

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class FinishedSearch:
    """A search that has found its best subnet.

    Attributes:
        study: with its trials.
        score: of its candidates.
        settings: the `search` block.
        folder: run folder.
        workers: where candidates are scored.
        config: the merged configuration.
        experiment: its typed form.
        checkpoint: of the supernet.
        describe: subnet to what a checkpoint says of it.
        stopwatch: times models beside the largest subnet; None where MACs count.
    """

    study: Study
    score: SupernetScore
    settings: SearchConfig
    folder: Path
    workers: Workers | None
    config: Config
    experiment: Experiment
    checkpoint: str | Path
    describe: Callable[[Subnet], dict[str, Any]]
    stopwatch: Stopwatch | None = None

    def report(self) -> None:
        """Score the controls, write the report, and once more when some subnets are trained.

        All ranks call it; rank 0 writes.

        Raises:
            Interrupted: a signal asked the search to end; a resumed one goes on in the middle.
        """
        study, score, settings = self.study, self.score, self.settings
        controls = score_controls(study, score, settings, self.folder, self.workers)
        shape = self.experiment.shape
        report = SearchReport.of(study, score, controls, settings.trust, shape)
        on_main(lambda: or_warn(lambda: report.write(self.folder)))
        retrained = self._retrained(controls)
        if retrained is not None:
            whole = replace(report, retrained=retrained)
            on_main(lambda: or_warn(lambda: whole.write(self.folder)))

    def _retrained(self, controls: Controls) -> Retrained | None:
        """Train some subnets; None where that is left out, or cannot be done."""
        settings, study = self.settings.retraining, self.study
        name = study.objectives.first
        if settings is None or name in study.feasible.names:
            return None
        try:
            trainings = retraining_of(
                self.config,
                settings,
                checkpoint=self.checkpoint,
                metric=name,
                folder=self.folder,
                weights=str(study.settings.get("weights")),
                describe=self.describe,
            )
        except (ConfigError, DataError) as error:
            _log.warning("no subnet is trained for the report: %s", error)
            return None
        found = contenders(study, self.score, self.workers, settings, controls.even)
        if self.stopwatch is not None:
            found = timed(found, self.score.space, self.stopwatch)
        rivals = [one for one in found if one.kind in ("chosen", "front")]
        scaled, left_out = by_hand(
            study,
            self.score,
            trainings.config,
            self.experiment.shape,
            rivals if settings.by_hand else [],
            self.stopwatch,
        )
        trained = trainings.run([*found, *scaled])
        steps = trainings.before + trainings.steps
        sign = 1 if study.objectives.directions[name] == "max" else -1
        return Retrained(trained, name, trainings.how, steps, sign, left_out)
