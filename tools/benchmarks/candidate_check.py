"""How many candidates a second a search can check against its limits, by kind of cost model.

Each model is built once; then points are drawn and checked through `Feasible`, as a search does:
an additive table (the SPOS ShuffleNetV2 space: one dimension for each layer), a factored one (20
elastic convolutions: each depends on both widths and its kernel), the counted costs joined with a
latency over the same layers, and pairs of widths without tables (a ResNet-50's channel groups, as
pruning counts them). For comparison, one candidate is also exported and counted anew each time, the
slow way.

    python tools/benchmarks/candidate_check.py

takes about a minute and prints one JSON line. Checking one candidate took MMRazor 1.0 292 ms
(quartiles 229-558) on a machine of two cores. `--spaces CONFIG ...` measures the spaces of these
configurations instead, one line each.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torchvision

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.cost import (  # noqa: E402
    Constraint,
    CostModel,
    FactoredCost,
    JoinedCost,
    Part,
    count,
    tabulate,
)
from razorlite.prune import SlimCost  # noqa: E402
from razorlite.recipes.building import build  # noqa: E402
from razorlite.recipes.costing import search_costs  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.search.feasible import Feasible  # noqa: E402
from razorlite.space import ChoiceSpace, Dimension, SearchSpace  # noqa: E402
from razorlite.trace import channel_graph  # noqa: E402

CONFIG = ROOT / "configs/spos/shufflenetv2_spos_imagenet.yaml"
CANDIDATES, REPEATS, COUNTED = 100_000, 7, 5
LAYERS, WIDTHS, KERNELS = 20, (16, 32, 48, 64), (1, 3, 5, 7)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", metavar="CONFIG", help="shipped supernets")
    configs = parser.parse_args().spaces
    if configs:
        for name in configs:
            print(json.dumps({"space": name, **of_config(name)}), flush=True)
    else:
        print(json.dumps(kinds()))


def of_config(name: str) -> dict[str, Any]:
    """Return candidates a second of a configuration's space."""
    _, experiment = read(name)
    space = build(experiment).space
    if space is None:
        raise SystemExit(f"{name} describes no supernet")
    return rate(search_costs(experiment, space), space, {"macs": "100%", "params": "100%"})


def kinds() -> dict[str, Any]:
    """Return candidates a second by kind of cost model."""
    space = SearchSpace(recipes.build_model(CONFIG))
    start = time.perf_counter()
    additive = tabulate(space, (224, 224))
    built = time.perf_counter() - start
    elastic = elastic_space()
    factored = elastic_cost(elastic, "macs", np.int64)
    latency = JoinedCost([factored, elastic_cost(elastic, "latency_ms", np.float64)])
    pairs, pair_space = width_cost()
    return {
        "table_seconds": round(built, 3),
        "additive": rate(additive, space, {"macs": "85%"}),
        "factored": rate(factored, elastic, {"macs": "25%"}),
        "latency": rate(latency, elastic, {"macs": "25%", "latency_ms": "26%"}),
        "pairs_of_widths": rate(pairs, pair_space, {"macs": "30%"}),
        "export_and_count_ms_median": round(export_and_count(space, additive), 1),
    }


def elastic_space() -> ChoiceSpace:
    """Return a width and a kernel for each layer."""
    widths = [Dimension(f"width{i}", WIDTHS) for i in range(LAYERS)]
    return ChoiceSpace([*widths, *(Dimension(f"kernel{i}", KERNELS) for i in range(LAYERS))])


def elastic_cost(space: ChoiceSpace, name: str, kind: Any) -> FactoredCost:
    """Return what convolutions on 28 x 28 pixels cost; one of 16 to 16 channels takes 0.1 ms."""
    pairs = np.outer(WIDTHS, WIDTHS)[:, :, None] * np.square(KERNELS)
    each = pairs * 28 * 28 if kind is np.int64 else pairs / 2560
    first = np.outer(WIDTHS, np.square(KERNELS)) * 3
    parts = [Part((0, LAYERS), {name: first.astype(kind)})]
    parts += [
        Part((i, i + 1, LAYERS + i + 1), {name: each.astype(kind)}) for i in range(LAYERS - 1)
    ]
    return FactoredCost(space, fixed={name: 0}, parts=parts)


def width_cost() -> tuple[CostModel, ChoiceSpace]:
    """Return the costs of a ResNet-50 whose blocks keep eighths of their channels."""
    model = torchvision.models.resnet50().eval()
    graph = channel_graph(model, (64, 64))
    sizes = [len(block.units) for group in graph.prunable for block in group.blocks]
    widths = [[size * n // 8 for n in range(1, 9)] for size in sizes]
    space = ChoiceSpace({f"block{i}": tuple(row) for i, row in enumerate(widths)})
    return SlimCost(model, graph, (64, 64)).among(widths), space


def rate(costs: CostModel, space: ChoiceSpace, limits: dict[str, str]) -> dict[str, Any]:
    """Return candidates a second, with and without drawing them."""
    feasible = Feasible(costs, Constraint.parse(limits, costs))
    rng = np.random.default_rng(0)
    points = space.random_indices(rng, CANDIDATES)
    drawn = per_second(lambda: feasible(space.random_indices(rng, CANDIDATES)))
    return {
        "dimensions": len(space.counts),
        "drawn_and_checked_per_second": drawn,
        "checked_per_second": per_second(lambda: feasible(points)),
        "allowed_share": round(float(feasible(points).mean()), 3),
    }


def per_second(work: Callable[[], object]) -> int:
    """Return the median rate of several repeats."""
    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        rates.append(CANDIDATES / (time.perf_counter() - start))
    return round(statistics.median(rates))


def export_and_count(space: SearchSpace, costs: FactoredCost) -> float:
    """Return the milliseconds of the slow way, and check that it agrees."""
    rng, slow = np.random.default_rng(0), []
    for _ in range(COUNTED):
        subnet = space.random(rng)
        start = time.perf_counter()
        counted = count(space.export(subnet), (224, 224))
        slow.append(1000 * (time.perf_counter() - start))
        assert costs(subnet).macs == counted.macs
    return statistics.median(slow)


if __name__ == "__main__":
    main()
