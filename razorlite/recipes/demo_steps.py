"""Where a demo stands, so that an interrupted one can be gone on with."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from razorlite.core.errors import RunFolderError
from razorlite.core.files import explain_damage, write_text_atomic
from razorlite.engine.run_folder import on_main, recorded_command, told_by_main

_log = logging.getLogger("razorlite")


class DemoSteps:
    """The finished steps of a demo, each noted in a file of the run folder; all ranks make one.

    Args:
        folder: run folder.
        seed: of all of them.

    Raises:
        RunFolderError: the finished steps are of another seed, or a file of theirs is damaged.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder / "steps", seed
        self._done = told_by_main(self._read)
        self.do("start", lambda: None)  # from here on the seed is known

    def do(self, name: str, work: Callable[[], object]) -> None:
        """Do a step unless it is finished, and note that it is."""
        if name in self._done:
            return
        start = time.perf_counter()
        work()
        kept = {"seed": self._seed, "seconds": time.perf_counter() - start}
        path = self._folder / f"{name}.json"
        on_main(lambda: write_text_atomic(path, json.dumps(kept) + "\n"))

    def seconds(self) -> float:
        """Return what the finished steps took, those of all processes added up."""
        return sum(self._read().values())

    def _read(self) -> dict[str, float]:
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            with explain_damage(path):
                kept = json.loads(path.read_text(encoding="utf-8"))
                found[path.stem], before = float(kept["seconds"]), kept["seed"]
            if before != self._seed:
                raise RunFolderError(
                    f"{self._folder.parent} holds a demo of seed {before}, not {self._seed}; go on "
                    f"with it by --seed {before}, or choose another folder by --work-dir"
                )
        return found


def demo_folder(work_dir: str | Path | None, *, resume: bool) -> Path:
    """Return the run folder of a demo.

    Args:
        work_dir: what the user asks for; by default work_dirs/demo, or a number after it.
        resume: whether to go on with a demo; by default with the newest.

    Raises:
        RunFolderError: the folder holds something that is no demo, or a demo and `resume` is off.
    """
    if work_dir is None:
        return _numbered(resume)
    folder = Path(work_dir)
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder
    if recorded_command(folder) != "demo":
        raise RunFolderError(f"{folder} is not empty; choose another folder by --work-dir")
    if not resume:
        raise RunFolderError(
            f"{folder} already holds a demo; go on with it by --resume, or choose another folder "
            "by --work-dir"
        )
    return folder


def _numbered(resume: bool) -> Path:
    base = Path("work_dirs")
    folders = [base / name for name in ("demo", *(f"demo_{i}" for i in range(2, 1000)))]
    free = next(i for i, folder in enumerate(folders) if not folder.exists())
    if free and not resume:
        _log.info(
            "%s holds the demo before; this one goes to %s (--resume goes on with the newest)",
            folders[free - 1], folders[free],
        )  # fmt: skip
    return folders[max(free - 1, 0) if resume else free]
