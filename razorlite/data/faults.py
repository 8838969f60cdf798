"""What is done about faulty data: report each fault once, drop, count; or raise all at once."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from razorlite.core.distributed import is_main
from razorlite.core.errors import DataError

_log = logging.getLogger(__name__)
UNREADABLE = "unreadable image"  # a kind of fault
_LINES = 20  # of single faults in the log; all of them stay in `Dataset.faults`


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data set.

    Attributes:
        file: the image or annotation file.
        what: what is wrong and what was done, in one line.
        kind: the sort of fault, by which the summary counts.
    """

    file: str
    what: str
    kind: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass
class FaultReport:
    """Collects the faults of one data set and applies the policy.

    Attributes:
        source: what is being read, for messages.
        strict: raise instead of dropping.
        faults: what was found so far, each once.
        aside: how many entries do not count, as the settings want it, by reason.
    """

    source: str
    strict: bool = False
    faults: list[Fault] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def add(self, file: str | Path, kind: str, detail: str = "") -> None:
        """Note a fault of a file."""
        what = f"{kind}: {detail}" if detail else kind
        self.faults.append(Fault(_printable(str(file)), _printable(what), kind))

    def set_aside(self, reason: str) -> None:
        """Note an entry that is no fault and does not count."""
        self.aside[reason] += 1

    def close(self, images: int, objects: int) -> None:
        """Report what was found while the data set was read.

        Raises:
            DataError: `strict` and there are faults (all are listed, one a line), or nothing is
                left to use.
        """
        if self.strict and self.faults:
            raise DataError(_listing(self.source, self.faults))
        if images == 0:
            raise DataError(_nothing_left(self.source, self.faults))
        if self.faults and is_main():
            _log_each(self.faults)
            _log.warning(
                "%s: %d images and %d objects kept; faults: %s",
                self.source, images, objects, _counts(self.faults),
            )  # fmt: skip

    def late(self, fault: Fault) -> None:
        """Take a fault met while training: known ones are ignored, new ones logged or raised.

        Raises:
            DataError: `strict`.
        """
        if fault in self.faults:
            return
        if self.strict:
            raise DataError(str(fault))
        self.faults.append(fault)
        _log.warning("%s", fault)  # on every rank: each reads its own share


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _printable(text: str) -> str:
    """Return a text in one line that every UTF-8 terminal can print."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _counts(faults: Iterable[Fault]) -> str:
    return counted(Counter(fault.kind for fault in faults))


def counted(counts: Counter[str]) -> str:
    """Return "3 x this, 2 x that", the most frequent first."""
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def _listing(source: str, faults: list[Fault]) -> str:
    lines = "".join(f"\n  {fault}" for fault in faults)
    return (
        f"{source}: {len(faults)} faults ({_counts(faults)}); mend them or set strict: false{lines}"
    )


def _nothing_left(source: str, faults: list[Fault]) -> str:
    if not faults:
        return f"{source} lists no images; expected at least one"
    return (
        f"{source}: no usable image is left after {_counts(faults)}; "
        f"the first fault is {faults[0]}; check the folders and the class list"
    )


def _log_each(faults: list[Fault]) -> None:
    for fault in faults[:_LINES]:
        _log.warning("%s", fault)
    if len(faults) > _LINES:
        _log.warning("… and %d more", len(faults) - _LINES)
