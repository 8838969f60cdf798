"""The command `demo`: the whole pipeline on drawn shapes, with a table and a report."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from razorlite.core.distributed import is_main
from razorlite.core.files import explain_damage
from razorlite.core.journal import Journal
from razorlite.core.streams import printed_to_stderr, results, safe_console
from razorlite.cost import Constraint
from razorlite.engine.launch import session
from razorlite.engine.run_folder import claimed, on_main, told_by_main
from razorlite.recipes.building import build
from razorlite.recipes.demo_report import write_demo_report
from razorlite.recipes.demo_rows import Contestant, Measured, conclusions, measure
from razorlite.recipes.demo_steps import DemoSteps, demo_folder
from razorlite.recipes.experiment import read
from razorlite.recipes.pruning import prune
from razorlite.recipes.scaled_by_hand import WithinMacs, narrower
from razorlite.recipes.searching import search
from razorlite.recipes.side_by_side import side_by_side
from razorlite.recipes.training import train
from razorlite.search import Candidates
from razorlite.space import Subnet
from razorlite.visual import print_table

_log = logging.getLogger("razorlite")
_REPORTS = ("report.html", "report.json")
_NOTES = {
    "largest": "the whole detector: what there is to make smaller",
    "by hand": "the control: the same detector with one share of its channels everywhere, down to "
    "the searched one's MACs, trained from nothing",
    "random": "a random subnet within the searched one's budget: what searching has to beat",
    "searched": "the search's choice, trained on from the supernet's weights as the random one",
    "distilled": "the searched subnet, trained likewise with the finished largest as its teacher",
    "pruned": "the whole detector of the supernet without its least important channels, down to "
    "the searched one's MACs, trained on likewise",
}


def demo(
    work_dir: str | Path | None = None, resume: bool = False, seed: int = 0
) -> list[dict[str, Any]]:
    """Pretrain a supernet on drawn shapes, search it, retrain, distil and prune; compare.

    Needs neither data nor a GPU. The weights of all rows have seen as many batches. The run folder
    gets a folder for each step, report.html and report.json. Under torchrun two processes share the
    work; each training is one process's own, as it would be without.

    Args:
        work_dir: run folder; work_dirs/demo, or the next free number after it, by default.
        resume: go on with the demo in the run folder (by default the newest one): finished steps
            are skipped, an interrupted one goes on where it stopped.
        seed: of weights, batches, paths and search; the images stay the same.

    Returns:
        A row for each model: name, steps, macs, params, latency_ms, AP, AP_interval, AP50.

    Raises:
        RunFolderError: the run folder holds something already.
        Interrupted: a signal asked the demo to end; the state is saved.
    """
    with session(seed=seed):
        folder = told_by_main(lambda: demo_folder(work_dir, resume=resume))
        with claimed(folder, "demo", resume=resume):
            rows = told_by_main(lambda: _finished(folder)) if resume else None
            if rows is not None:
                return rows
            with printed_to_stderr():  # what its steps find is not yet what was asked for
                made = _Demo(folder, resume, seed).run()
            return _report(folder, *made)


def _finished(folder: Path) -> list[dict[str, Any]] | None:
    """Return the rows of a demo that has come to its end; None of any other."""
    report = folder / "report.json"
    if not all((folder / name).exists() for name in _REPORTS):
        return None
    with explain_damage(report):
        rows = list(json.loads(report.read_text(encoding="utf-8"))["rows"])
    results.info("the demo in %s is finished: see %s", folder, folder / "report.html")
    return rows


@dataclass
class _Demo:
    """The steps of a demo; each returns the model that it makes."""

    folder: Path
    resume: bool
    seed: int = 0

    def __post_init__(self) -> None:
        self.steps = DemoSteps(self.folder, self.seed)
        self.weights = self.folder / "supernet" / "checkpoints" / "last.pt"

    def run(self) -> tuple[list[Contestant], list[str], float]:
        """Return the models, what there is to say of how they came about, and the seconds.

        Every training is one process's; all share the search, and two the rows.
        """
        folder = self.folder
        _say("1/3  supernet: the largest, the smallest and a random path a step")
        pretrained = partial(self._do, "supernet", train, "demo/widths", folder / "supernet", {})
        side_by_side([pretrained])
        _say("2/3  search: the best path within the budget")
        self._do("search", search, "demo/widths", self.weights, folder / "search", {})
        side_by_side([lambda: self.steps.do("controls", lambda: _controls(folder, self.seed))])
        _say("3/3  the rows: trained on, distilled, pruned, and the control from nothing")
        taught, others = side_by_side([self._taught, self._others])
        found = sorted([*taught[0], *others[0]], key=lambda one: [*_NOTES].index(one.name))
        return found, [*taught[1], *others[1]], self.steps.seconds()

    def _taught(self) -> tuple[list[Contestant], list[str]]:
        """Return the largest, the searched one, and this distilled from that; what to say of it."""
        teacher, student = self._retrained("largest"), self._retrained("searched")
        distilled, why = self._distilled(teacher, student)
        return [teacher, student, *distilled], why

    def _others(self) -> tuple[list[Contestant], list[str]]:
        return [self._scratch("by hand"), self._retrained("random"), self._pruned()], []

    def _do(self, name: str, command: Callable[..., object], *arguments: Any) -> None:
        """Do a step by a command, whose last argument are its overrides."""
        *words, overrides = arguments
        settings = {**overrides, "seed": self.seed}

        def work() -> None:
            _log.info("demo: %s", name)
            command(*words, settings, resume=self.resume)

        self.steps.do(_folder(name), work)

    def _retrained(self, name: str) -> Contestant:
        return self._trained(name, "demo/retrain", name, {"load_from": str(self.weights)})

    def _scratch(self, name: str) -> Contestant:
        return self._trained(name, "demo/scratch", name, {}, before=0)

    def _distilled(
        self, teacher: Contestant, student: Contestant
    ) -> tuple[list[Contestant], list[str]]:
        """Distil, unless the teacher is no better than the student on the validation images."""
        better, worse = (_validated(one.checkpoint) for one in (teacher, student))
        values = f"AP {better:.3f} against {worse:.3f} on the validation images"
        if better <= worse:
            return [], [
                f"There is no distilled row: the largest, which would teach, is no better than "
                f"the searched subnet ({values})."
            ]
        overrides = {
            "load_from": str(self.weights),
            "distiller.teacher.checkpoint": str(teacher.checkpoint),
            "distiller.teacher.subnet": str(teacher.subnet),
        }
        made = self._trained("distilled", "demo/distill", "searched", overrides)
        return [made], [f"The teacher is better than its pupil without it: {values}."]

    def _trained(
        self,
        name: str,
        config: str,
        subnet: str,
        overrides: Mapping[str, str],
        before: int | None = None,
    ) -> Contestant:
        """Train a subnet; `before` is what its weights have seen already, the supernet's steps."""
        file, where = self.folder / _file(subnet), self.folder / _folder(name)
        self._do(name, train, config, where, {**overrides, "subnet": str(file)})
        return self._contestant(name, config, file, where, before)

    def _pruned(self) -> Contestant:
        where = self.folder / "pruned"
        goal = Subnet.load(self.folder / _file("searched")).cost["macs"]
        overrides = {"subnet": str(self.folder / _file("largest")), "prune.budget.macs": goal}
        self._do("pruned", prune, "demo/prune", self.weights, where, overrides)
        return self._contestant("pruned", "demo/prune", where / "subnet.yaml", where)

    def _contestant(
        self, name: str, config: str, subnet: Path, where: Path, before: int | None = None
    ) -> Contestant:
        seen = _steps("demo/widths") if before is None else before
        checkpoint = where / "checkpoints" / "last.pt"
        return Contestant(
            name, config, subnet, checkpoint, seen + _steps(config), note=_NOTES[name]
        )


def _say(text: str) -> None:
    if is_main():
        safe_console("stderr").rule(text)


def _report(
    folder: Path, contestants: list[Contestant], why: list[str], seconds: float
) -> list[dict[str, Any]]:
    found = measure(contestants)
    on_main(lambda: _write(folder, found, why, seconds))
    return [one.row for one in found.values()]


def _write(folder: Path, found: Mapping[str, Measured], why: list[str], seconds: float) -> None:
    rows = [one.row for one in found.values()]
    print_table(rows, title="On 500 test images that nothing was trained or chosen on")
    findings = [*conclusions(found), *why]
    for line in findings:
        safe_console().print(f"- {line}", highlight=False)
    report = write_demo_report(folder, rows, findings, seconds)
    safe_console().print(f"report: {report}", soft_wrap=True)


def _controls(folder: Path, seed: int) -> None:
    """Write the subnet files of those that are trained on."""
    _, experiment = read("demo/widths")
    built = build(experiment)
    assert built.space is not None
    assert experiment.search is not None
    table = built.costs(experiment.shape)
    constraint = Constraint.parse(experiment.search.constraints, table)
    candidates = Candidates(space=built.space, table=table, constraint=constraint, seed=seed + 1)
    searched, largest = Subnet.load(folder / "search" / "subnet.yaml"), table.largest()
    searched.save(folder / _file("searched"))
    largest.save(folder / _file("largest"))
    least = {name: limits[0] for name, limits in table.bounds().items()}
    table.smallest().with_results(cost=least).save(folder / _file("smallest"))
    built.space.decode(candidates.random(1)[0]).save(folder / _file("random"))
    with built.space.kept_path():
        whole = built.space.export(largest).cpu()
    most = WithinMacs(float(searched.cost["macs"]))
    scaled = narrower(whole, largest, experiment.shape, most)
    scaled.subnet.save(folder / _file("by hand"))


def _steps(config: str) -> int:
    train = read(config)[1].train
    assert train is not None
    return train.max_steps or 0


def _validated(checkpoint: Path) -> float:
    """Return the AP of the last evaluation of a training."""
    path = checkpoint.parents[1] / "metrics.jsonl"
    lines = Journal(path).read()
    with explain_damage(path):
        return float([line["AP"] for line in lines if line.get("kind") == "eval"][-1])


def _file(name: str) -> str:
    return f"{_folder(name)}.yaml"


def _folder(name: str) -> str:
    return name.replace(" ", "_")
