"""Trackers that get the numbers of metrics.jsonl as well; each is an extra."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from razorlite.core.errors import ConfigError
from razorlite.core.files import write_text_atomic
from razorlite.core.registry import register


class Logger(ABC):
    """Where the numbers of a run go besides metrics.jsonl; only rank 0 has one that is open."""

    @abstractmethod
    def open(self, folder: Path, step: int) -> None:
        """Begin, or go on where a run is resumed.

        Args:
            folder: of the run; files of the tracker's own go into it.
            step: steps done; what was written of later ones is to be forgotten.
        """

    @abstractmethod
    def write(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a step, named "train/loss", "eval/AP" and so on."""

    @abstractmethod
    def close(self) -> None:
        """End; nothing comes after."""


@register()
class MLflowLogger(Logger):
    """Writes to MLflow: into the run folder's mlflow.db, or to a server.

    `mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows it. A resumed run goes on as the
    same one; steps that it repeats are in it twice.

    Args:
        experiment: that the run is part of.
        tracking_uri: of a server or data base; mlflow.db in the run folder by default.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(self, *, experiment: str = "razorlite", tracking_uri: str | None = None) -> None:
        self._mlflow = _package("mlflow")
        self._experiment, self._uri = experiment, tracking_uri
        self._client: Any = None
        self._run = ""

    def open(self, folder: Path, step: int) -> None:
        """Begin a run named after its folder, or go on with the one of a resumed training."""
        uri = self._uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._run = _kept(folder / "mlflow_run.txt", step)
        if self._run:
            return
        known = self._client.get_experiment_by_name(self._experiment)
        own = known.experiment_id if known else self._client.create_experiment(self._experiment)
        self._run = self._client.create_run(own, run_name=folder.resolve().name).info.run_id
        write_text_atomic(folder / "mlflow_run.txt", self._run)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers; of names, what MLflow refuses becomes "_"."""
        metric, now = self._mlflow.entities.Metric, int(1000 * time.time())
        metrics = [metric(_plain(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


@register()
class WandbLogger(Logger):
    """Writes for Weights & Biases: into the run folder's wandb/, or online.

    `wandb sync RUN/wandb/offline-run-*` uploads what was written offline.

    Args:
        project: that the run is part of.
        mode: "offline" sends nothing anywhere; "online" wants an account.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(
        self, *, project: str = "razorlite", mode: Literal["offline", "online"] = "offline"
    ) -> None:
        self._wandb = _package("wandb")
        self._project, self._mode = project, mode
        self._run: Any = None

    def open(self, folder: Path, step: int) -> None:
        """Begin a run named after its folder, or go on with the one of a resumed training."""
        known = _kept(folder / "wandb_run.txt", step)
        own = known or secrets.token_hex(8)
        self._run = self._wandb.init(
            project=self._project,
            name=folder.resolve().name,
            id=own,
            dir=str(folder),
            mode=self._mode,
            resume="allow" if known else None,
        )
        write_text_atomic(folder / "wandb_run.txt", own)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"train.loggers wants {name}, which is not installed; run: pip install "
            f"'razorlite[{name}]', or leave the logger out"
        ) from error


def _kept(path: Path, step: int) -> str:
    """Return what a run was called that is now resumed; nothing of a new one."""
    return path.read_text(encoding="utf-8").strip() if step and path.is_file() else ""


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in name)
