"""The run folder: what a run may write over, and what a resumed run goes on with."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from razorlite.core.distributed import broadcast_object, is_main
from razorlite.core.errors import RazorliteError, RunFolderError
from razorlite.core.files import make_folder, write_text_atomic

T = TypeVar("T")
RESULTS = ("checkpoints/*.pt", "subnet.yaml", "journal.jsonl", "report.html", "report.json")
_log = logging.getLogger("razorlite")


def prepare_run_folder(path: str | Path, *, resume: bool, config_text: str) -> Path:
    """Create a run folder, or take up one that is there, and write `config.yaml` into it.

    All ranks call it; rank 0 does the work. A resumed run whose configuration has changed is told
    what differs.

    Args:
        path: the folder.
        resume: go on with the run in it; a folder without one is started anew.
        config_text: the merged configuration as YAML.

    Raises:
        RunFolderError: it holds the results of a run and `resume` is off, or cannot be written.
    """
    folder = Path(path)
    on_main(lambda: _prepare(folder, resume, config_text))
    return folder


def on_main(work: Callable[[], T]) -> T | None:
    """Do work on rank 0 only; its user-facing error is raised on every rank.

    Returns:
        The result on rank 0, None on the others.
    """
    result, error = None, None
    if is_main():
        try:
            result = work()
        except RazorliteError as caught:
            error = caught
    message = broadcast_object((type(error), str(error)) if error else None)
    if error is not None:
        raise error
    if message is not None:
        raise message[0](message[1])
    return result


def _prepare(folder: Path, resume: bool, config_text: str) -> None:
    found = sorted(str(p.relative_to(folder)) for glob in RESULTS for p in folder.glob(glob))
    if found and not resume:
        raise RunFolderError(
            f"{folder} already holds a run ({_few(found)}); go on with it by --resume, or choose "
            f"another folder by --work-dir"
        )
    make_folder(folder / "checkpoints")
    config = folder / "config.yaml"
    if resume and config.is_file():
        for line in changes(config.read_text(encoding="utf-8"), config_text):
            _log.warning("resuming with a changed configuration: %s", line)
    if not found:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
    write_text_atomic(config, config_text)


def changes(old: str, new: str) -> list[str]:
    """Return the differences of two YAML texts, one `a.b: old -> new` each."""
    before, after = _flat(_parse(old)), _flat(_parse(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in [*before, *(k for k in after if k not in before)]
        if before.get(key, "absent") != after.get(key, "absent")
    ]


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
