"""The run folder: one run at a time, what it may write over, what a resumed run goes on with."""

import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from razorlite.core.distributed import broadcast_object, is_main
from razorlite.core.errors import RazorliteError, RunFolderError
from razorlite.core.files import explain_write_errors, make_folder, write_text_atomic
from razorlite.core.locks import Lock
from razorlite.core.ranks import apart
from razorlite.engine.hooks import Hook
from razorlite.engine.run_state import RunState

T = TypeVar("T")
RESULTS = (
    "checkpoints/*.pt",
    "subnet.yaml",
    "journal.jsonl",
    "report.html",
    "report.json",
    "round_*/subnet.yaml",
)
_LOCK, _RECORD = ".lock", ".run.json"
_DRAFT = re.compile(r"\..+\.(\d+)\.tmp")
_log = logging.getLogger("razorlite")


@contextmanager
def claimed(path: str | Path, command: str, *, resume: bool) -> Iterator[Path]:
    """Hold a run folder for a command within the block.

    All ranks call it; rank 0 does the work. The folder is created if need be, nothing in it is
    changed but its lock, and drafts that killed runs left are removed.

    Args:
        path: the folder.
        command: which command writes there, such as "train".
        resume: go on with the run in it; a folder without one is started anew.

    Raises:
        RunFolderError: another run uses it now, it holds the results of another command, or of a
            run and `resume` is off, or it cannot be written.
    """
    folder = Path(path)
    lock = Lock(folder / _LOCK)
    try:
        on_main(lambda: _claim(folder, lock, command, resume))
        yield folder
    finally:
        lock.release()


def check_run_folder(path: str | Path, command: str, *, resume: bool) -> None:
    """Refuse a folder that a command may not write to, before any work; `claimed` checks it again.

    Raises:
        RunFolderError: it holds the results of another command, or of a run and `resume` is off.
    """
    on_main(lambda: _check(Path(path), command, resume))


class ConfigFile(Hook):
    """Writes config.yaml once a run really starts; a refused one leaves the file as it was.

    Args:
        folder: the run folder.
        text: the merged configuration as YAML.
    """

    def __init__(self, folder: Path, text: str) -> None:
        self._folder, self._text = folder, text

    def start(self, run: RunState) -> None:
        """Write the file."""
        write_config(self._folder, self._text)


def write_config(folder: Path, text: str) -> None:
    """Write a run's config.yaml; tell what has changed since an earlier sitting.

    All ranks call it; rank 0 does the work.

    Raises:
        RunFolderError: it cannot be written.
    """
    on_main(lambda: _write_config(folder / "config.yaml", text))


def on_main(work: Callable[[], T]) -> T | None:
    """Do work on rank 0 only; its user-facing error is raised on every rank.

    Within the work that rank is apart: what else would wait for the other ranks does not.

    Returns:
        The result on rank 0, None on the others.
    """
    result, error = None, None
    if is_main():
        try:
            with apart():
                result = work()
        except RazorliteError as caught:
            error = caught
    message = broadcast_object((type(error), str(error)) if error else None)
    if error is not None:
        raise error
    if message is not None:
        raise message[0](message[1])
    return result


def told_by_main(work: Callable[[], T]) -> T:
    """Do work on rank 0 only, as `on_main` does, and return its result on every rank."""
    result: Any = broadcast_object(on_main(work))
    return cast(T, result)


def results(folder: Path) -> list[str]:
    """Return what a folder holds that a new run must not replace; relative paths."""
    found = [path for glob in RESULTS for path in folder.glob(glob) if not _is_empty(path)]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def recorded_command(folder: Path) -> str:
    """Return which command a folder was last claimed for; "" where none has been."""
    return str(_read_record(folder).get("command") or "")


def changes(old: str, new: str) -> list[str]:
    """Return the differences of two YAML texts, one `a.b: old -> new` each."""
    before, after = _flat(_parse(old)), _flat(_parse(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in [*before, *(k for k in after if k not in before)]
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _claim(folder: Path, lock: Lock, command: str, resume: bool) -> None:
    if not lock.path.exists():
        _check(folder, command, resume)  # leave no trace in a folder that is refused
    make_folder(folder)
    with explain_write_errors(lock.path):
        outcome = lock.acquire()
    if outcome == "busy":
        raise RunFolderError(_in_use(folder))
    _check(folder, command, resume)  # another run may have ended meanwhile
    if outcome == "unknown":
        _log.warning("%s lies where files cannot be locked: take care that one run uses it", folder)
        return
    write_text_atomic(folder / _RECORD, json.dumps(_record(command)) + "\n")
    _remove_drafts(folder)


def _check(folder: Path, command: str, resume: bool) -> None:
    found = results(folder)
    if not found:
        return
    theirs = _command(folder, found)
    if theirs != command:
        raise RunFolderError(
            f"{folder} holds a run of `razorlite {theirs}` ({_few(found)}), not of `razorlite "
            f"{command}`; choose another folder by --work-dir"
        )
    if not resume:
        raise RunFolderError(
            f"{folder} already holds a run ({_few(found)}); go on with it by --resume, or choose "
            f"another folder by --work-dir"
        )


def _command(folder: Path, found: list[str]) -> str:
    """Return which command wrote a folder, by its record, else by its results."""
    command = _read_record(folder).get("command")
    if isinstance(command, str):
        return command
    marks = {"journal.jsonl": "search", "report.html": "demo", "subnet.yaml": "prune"}
    return next((marks[name] for name in marks if name in found), "train")


def _record(command: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"command": command, "process": os.getpid(), "host": socket.gethostname(), "since": now}


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _in_use(folder: Path) -> str:
    record = _read_record(folder)
    who = "another run"
    if record.keys() >= {"command", "process", "host", "since"}:
        who = "`razorlite {command}` (process {process} on {host}, since {since})".format(**record)
    return f"{folder} is in use by {who}; wait for its end, or choose another folder by --work-dir"


def _remove_drafts(folder: Path) -> None:
    """Remove files that runs were killed in the middle of writing."""
    for path in folder.rglob(".*.tmp"):
        if _DRAFT.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def _is_empty(path: Path) -> bool:
    """Return whether a file is a search's journal that holds no trial as yet."""
    if path.name != "journal.jsonl":
        return False
    with suppress(OSError):
        after_first = path.read_bytes().splitlines(keepends=True)[1:]
        whole = [line for line in after_first if line.endswith(b"\n")]
        return all(line.startswith(b'{"batch"') for line in whole)
    return False


def _write_config(path: Path, text: str) -> None:
    if path.is_file() and results(path.parent):
        for line in changes(path.read_text(encoding="utf-8", errors="replace"), text):
            _log.warning("resuming with a changed configuration: %s", line)
    write_text_atomic(path, text)


def _parse(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return {}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix.rstrip("."): tree} if prefix else {}
    return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{prefix}{key}.").items()}


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
