"""How well supernets rank subnets: Kendall's tau against the same subnets trained by themselves.

Some subnets, spread over the MACs of the space, are trained from scratch with each seed; their mean
metric on the validation images is what a supernet should tell. Then the supernet is trained in each
way with each seed and scores them, norms refreshed, on images held out of training. All ways train
as many paths: a way with four paths a step takes a quarter of the steps. `sandwich-scales`,
which is for spaces with scales of the images, is left out unless it is named.

    python tools/benchmarks/supernet_ranking.py ranking/cifar10_blocks --work-dir runs/ranking

prints one JSON line for each supernet: `tau` with its 95 % interval over draws of the subnets,
`tau_close` over the pairs of subnets whose MACs differ by at most a fifth, `minutes` of training
and scoring; before them one with `noise`, the tau between the subnets' trainings with two seeds,
and `macs`, what ranking by MACs alone would give. What is trained stays in the folder: the command
goes on where it was stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.core.files import write_text_atomic  # noqa: E402
from razorlite.cost import tabulate  # noqa: E402
from razorlite.engine.launch import session  # noqa: E402
from razorlite.recipes.building import build, load_trained  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.recipes.retraining_plan import points_across  # noqa: E402
from razorlite.recipes.searching import supernet_score  # noqa: E402
from razorlite.recipes.splits import Splits  # noqa: E402
from razorlite.search import SearchConfig  # noqa: E402
from razorlite.search.ranking import RankCorrelation, kendall_tau  # noqa: E402
from razorlite.space import SearchSpace, Subnet  # noqa: E402

Tree = dict[str, Any]
Scores = Sequence[float]
_CLOSE = 0.2
_CLASSIFIER = {"pairs": [{"student": "head", "loss": {"type": "LogitKL", "tau": 1.0}}]}
_DETECTOR = {"recipe": "kd"}


@dataclass(frozen=True)
class Way:
    """A way to train a supernet.

    Attributes:
        steps: the `step` block.
        paths: that one step trains.
        distilled: whether the largest path teaches the others.
        plain: whether it starts from the trained largest subnet.
    """

    steps: tuple[Tree, ...]
    paths: int = 1
    distilled: bool = False
    plain: bool = False

    def overrides(self, classifies: bool, start: Path) -> Tree:
        """Return what it changes in the configuration."""
        changed: Tree = {"step": [*self.steps]}
        if self.distilled:
            lesson = _CLASSIFIER if classifies else _DETECTOR
            changed["step"] = [{"type": "DistilledStep"}, *self.steps]
            changed["distiller"] = {"teacher": "largest_path", **lesson}
        if self.plain:
            changed["load_from"] = str(start)
        return changed


_SANDWICH = {"type": "SandwichStep", "random_paths": 2}
_ANY_SCALE = {"random_dimensions": ["image_scale"]}
WAYS = {
    "uniform": Way(({"type": "SinglePathStep"},)),
    "window": Way(({"type": "WindowStep"},)),
    "fair": Way(({"type": "FairStep"},), paths=4),
    "progressive": Way(({"type": "ProgressiveStep"},)),
    "sandwich": Way((_SANDWICH,), paths=4),
    "sandwich-scales": Way(({**_SANDWICH, **_ANY_SCALE},), paths=4),
    "sandwich-distilled": Way((_SANDWICH,), paths=4, distilled=True),
    "plain-uniform": Way(({"type": "SinglePathStep"},), plain=True),
    "plain-sandwich-distilled": Way((_SANDWICH,), paths=4, distilled=True, plain=True),
}


class Ranking:
    """One configuration's subnets, trained alone and scored by supernets.

    Args:
        config: of the supernet.
        overrides: of the command line.
        folder: what is trained is kept there.
        count: of subnets.
        length: paths that a supernet trains, in steps of one subnet.
    """

    def __init__(
        self, config: str, overrides: Sequence[str], folder: Path, count: int, length: float
    ) -> None:
        self.config, self.given, self.folder, self.length = config, overrides, folder, length
        _, experiment = read(config, overrides)
        space = build(experiment).space
        if space is None or experiment.train is None or experiment.train.max_steps is None:
            raise SystemExit(f"{config} describes no supernet that is trained for train.max_steps")
        self.steps = experiment.train.max_steps
        self.classifies = experiment.model.type == "ImageClassifier"
        self.metric = (experiment.search or SearchConfig()).objectives.first
        costs = tabulate(space, experiment.shape)
        self.largest = costs.largest()
        self.subnets = spread(space, costs, count)
        self.macs = [float(subnet.cost["macs"]) for subnet in self.subnets]

    def alone(self, seed: int) -> list[float]:
        """Return the metric of each subnet, trained by itself."""
        return [
            self._trained(f"alone{seed}/{number}", seed, {}, subnet)[self.metric]
            for number, subnet in enumerate(self.subnets)
        ]

    def supernet(self, name: str, seed: int) -> tuple[list[float], float]:
        """Return what a supernet scores the subnets, and its minutes, its start included."""
        way, start = WAYS[name], self.folder / f"plain{seed}"
        before = 0.0
        if way.plain:
            before = self._trained(start.name, seed, {}, self.largest)["minutes"]
        steps = max(1, round(self.length * self.steps / way.paths))
        changed = {**way.overrides(self.classifies, last(start)), "train.max_steps": steps}
        minutes = before + self._trained(f"{name}{seed}", seed, changed)["minutes"]
        started = time.perf_counter()
        scores = self._scores(last(self.folder / f"{name}{seed}"))
        return scores, minutes + (time.perf_counter() - started) / 60

    def _trained(
        self, name: str, seed: int, changed: Tree, subnet: Subnet | None = None
    ) -> dict[str, float]:
        """Train, where it has not been done; return the metrics, and `minutes`."""
        folder = self.folder / name
        done = folder / "metrics.json"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if subnet is not None:
                subnet.save(folder / "kept.yaml")
                changed = {**changed, "subnet": str(folder / "kept.yaml")}
            started = time.perf_counter()
            settings = {**overrides_tree(self.given), "seed": seed, **changed}
            resumed = (folder / "checkpoints/last.pt").exists()
            metrics = recipes.train(self.config, folder, settings, resume=resumed)
            minutes = (time.perf_counter() - started) / 60
            write_text_atomic(done, json.dumps({**metrics, "minutes": minutes}))
        return dict(json.loads(done.read_text()))

    def _scores(self, checkpoint: Path) -> list[float]:
        _, experiment = read(self.config, self.given)
        with session(experiment.device, experiment.seed) as device:
            built = build(experiment)
            card = load_trained(built, checkpoint, experiment)
            splits = Splits(experiment, device, card.classes)
            assert built.space is not None  # as the constructor has found
            score = supernet_score(built.space, splits, experiment.search or SearchConfig())
            return [score(subnet)[self.metric] for subnet in self.subnets]


def spread(space: SearchSpace, costs: Any, count: int) -> list[Subnet]:
    """Return subnets whose MACs are spread over the range of the space, with their cost."""
    points = points_across(space, lambda p: costs.many(p)["macs"], count, 0)
    macs = costs.many(points)["macs"].tolist()
    pairs = zip(points, macs, strict=True)
    return [space.decode(point).with_results(cost={"macs": cost}) for point, cost in pairs]


def overrides_tree(given: Sequence[str]) -> Tree:
    """Return "a.b=value" texts as a mapping of paths to values."""
    pairs = (text.split("=", 1) for text in given)
    return {path: yaml.safe_load(value) for path, value in pairs}


def last(folder: Path) -> Path:
    """Return the last checkpoint of a run."""
    return folder / "checkpoints/last.pt"


def tau_and_interval(scores: Scores, truth: Scores) -> Tree:
    """Return Kendall's tau, and its interval over draws of the subnets."""
    found = RankCorrelation.of(scores, truth)
    return {"tau": rounded(found.tau), "interval": [rounded(found.low), rounded(found.high)]}


def tau_close(scores: Scores, truth: Scores, macs: Scores) -> float | None:
    """Return the tau over pairs of subnets that cost about the same; ties count as neither."""
    signs = [
        np.sign((scores[i] - scores[j]) * (truth[i] - truth[j]))
        for i, j in combinations(range(len(macs)), 2)
        if abs(macs[i] - macs[j]) <= _CLOSE * max(macs[i], macs[j])
    ]
    return rounded(mean(signs)) if signs else None


def rounded(value: float | None) -> float | None:
    """Return two digits."""
    return None if value is None else round(float(value), 2)


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--work-dir", required=True, type=Path)
    everywhere = [name for name in WAYS if name != "sandwich-scales"]
    parser.add_argument("--ways", nargs="+", default=everywhere, choices=WAYS)
    parser.add_argument("--subnets", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--length", type=float, default=4.0, help="paths a supernet trains, in steps of one subnet"
    )
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    args = parser.parse_args()
    ranking = Ranking(args.config, args.overrides, args.work_dir, args.subnets, args.length)
    alone = [ranking.alone(seed) for seed in range(args.seeds)]
    truth = [mean(values) for values in zip(*alone, strict=True)]
    noise = [kendall_tau(*pair) for pair in combinations(alone, 2)]
    first = {"subnets": [round(value, 4) for value in truth], "noise": [rounded(n) for n in noise]}
    print(json.dumps({**first, "macs": tau_and_interval(ranking.macs, truth)}), flush=True)
    for seed in range(args.seeds):
        for name in args.ways:
            scores, minutes = ranking.supernet(name, seed)
            line = {"way": name, "seed": seed, **tau_and_interval(scores, truth)}
            line["tau_close"] = tau_close(scores, truth, ranking.macs)
            line |= {"mean_score": round(mean(scores), 4), "minutes": round(minutes, 2)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
