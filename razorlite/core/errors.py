"""Errors a user can cause. A message names the thing, what was expected, what came, what to do."""

from typing import ClassVar


class RazorliteError(Exception):
    """Base of all user-facing errors; commands print the message and exit with code 2.

    Attributes:
        page: of the documentation, that has more to say on errors of this kind; empty if none.
    """

    page: ClassVar[str] = ""


class ConfigError(RazorliteError):
    """A configuration file, an override or an argument of a building block is wrong.

    Args:
        message: what is wrong, what was expected, what came and what to do.
        key: dotted path, within the block that complains, of what the message speaks of; where the
            block stands in a file, the message gets that place in front.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class DataError(RazorliteError):
    """A data set, an image or an annotation cannot be used."""


class CheckpointError(RazorliteError):
    """A checkpoint cannot be read or does not fit the model."""

    page = "docs/troubleshooting.md#checkpoints"


class SubnetError(RazorliteError):
    """A subnet file is malformed or does not belong to the search space."""


class BudgetError(RazorliteError):
    """A budget or constraint cannot be met; the message names the reachable range."""

    page = "docs/troubleshooting.md#budgets"


class TrainingError(RazorliteError):
    """Training cannot go on, for instance because the loss is not finite."""

    page = "docs/troubleshooting.md#training"


class EvaluationError(RazorliteError):
    """Predictions cannot be evaluated, for instance because they are NaN."""


class RunFolderError(RazorliteError):
    """A run folder cannot be written, or holds something that would be lost."""


class ExportError(RazorliteError):
    """A model cannot be traced or exported."""

    page = "docs/troubleshooting.md#export"
