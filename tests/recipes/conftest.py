"""A whole pipeline on a handful of tiny images, run once."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from razorlite import recipes
from razorlite.recipes import training
from tests.recipes.runs import detector, write

TRAIN = {"max_steps": 3, "log_every": 1, "optimizer": {"type": "AdamW", "lr": 1e-3}}


PLOTS = (
    "pictures.plot_search",
    "pictures.plot_pareto",
    "search_report.plot_choices",
    "search_report.plot_parts",
)


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and searches inside tests leave no pictures: those of `pipeline` do."""
    monkeypatch.setattr(training, "draw", lambda *_: None)
    for name in PLOTS:
        monkeypatch.setattr(f"razorlite.recipes.{name}", lambda *_, **__: Path("nowhere"))


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> SimpleNamespace:
    """Supernet, search, retrained, distilled and pruned subnet, in folders of one `root`."""
    root = tmp_path_factory.mktemp("pipeline")
    searcher = {"type": "EvolutionSearcher", "population_size": 4, "max_rounds": 1}
    searcher |= {"num_mutation": 2, "num_crossover": 2}
    search = {"searcher": searcher, "recalibrate_batches": 1, "retraining": None}
    config = detector({"train": TRAIN, "search": search})
    supernet = write(config, root, "supernet.yaml")
    recipes.train(supernet, root / "supernet")
    weights = root / "supernet/checkpoints/last.pt"
    recipes.search(supernet, weights, root / "search")
    chosen = {"subnet": str(root / "search/subnet.yaml"), "load_from": str(weights)}
    subnet = write({**config, **chosen}, root, "subnet.yaml")
    recipes.train(subnet, root / "subnet")
    trained = root / "subnet/checkpoints/last.pt"
    teacher = {"config": str(subnet), "checkpoint": str(trained)}
    pairs = [{"student": "neck", "loss": {"type": "ChannelWiseDivergence"}}]
    distilled = {**config, **chosen, "distiller": {"teacher": teacher, "pairs": pairs}}
    distill = write(distilled, root, "distill.yaml")
    with pytest.MonkeyPatch.context() as patch:  # detections are drawn once, by the subnet
        patch.setattr(training, "sample_detections", lambda *_: None)
        recipes.train(distill, root / "distill")
        slim = {**config, **chosen, "prune": {"budget": {"macs": "80%"}, "round_to": 2}}
        prune = write(slim, root, "prune.yaml")
        recipes.prune(prune, trained, root / "prune")
    configs = {"supernet": supernet, "subnet": subnet, "distill": distill, "prune": prune}
    return SimpleNamespace(root=root, weights=weights, trained=trained, tree=config, **configs)
