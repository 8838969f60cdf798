"""What pruning by MACs saves in milliseconds, beside what it saves in MACs.

For each model, runtime, allocation and rounding the whole model and slim ones of several budgets
run in turns, pixels in and detections out, with random weights; each line is one slim model:

    python tools/benchmarks/pruned_latency.py --models retinanet_r18 --runtimes pytorch onnxruntime

`share` is the median over the rounds of slim by whole, in processor time where one thread computes;
`kinds` are milliseconds by kind of layer, whole and slim, in PyTorch: what does not shrink with the
MACs is where the speed-up falls short. With --latency 50% the budget is one of time, met by
measuring; `again` is a second, independent measurement of what was found.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite.core.errors import BudgetError  # noqa: E402
from razorlite.cost import LatencyConfig  # noqa: E402
from razorlite.cost.observing import Clock, watched  # noqa: E402
from razorlite.prune import Budget, Channels, L1Importance, Pruner, Stopwatch  # noqa: E402
from razorlite.recipes.building import build, untrained  # noqa: E402
from razorlite.recipes.experiment import read  # noqa: E402
from razorlite.recipes.timing import timer_of  # noqa: E402

MODELS = {
    "retinanet_r18": "retinanet/retinanet_r18_fpn_1x_coco",
    "retinanet_r50": "retinanet/retinanet_r50_fpn_1x_coco",
    "rtmdet_tiny": "rtmdet/rtmdet_tiny_8xb32-300e_coco",
}
BUDGETS = ("80%", "65%", "50%", "35%", "20%")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--runtimes", nargs="+", default=["pytorch", "onnxruntime"])
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, help="of the MACs")
    parser.add_argument("--latency", help="a budget of time instead, such as 50%%")
    parser.add_argument("--allocations", nargs="+", default=["uniform"])
    parser.add_argument("--per", default="none", help="what importance is divided by")
    parser.add_argument("--round-to", nargs="+", type=rounding, default=["auto"])
    parser.add_argument("--shape", nargs=2, type=int, default=[320, 320])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    for name in options.models:
        for line in of_model(name, options):
            print(json.dumps({"model": name, **line}), flush=True)


def of_model(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a line for each slim model."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = list(options.shape)
    _, experiment = read(untrained(experiment_tree(name)), {"shape": shape, "data": None})
    model = build(experiment).model.eval()
    channels = Channels(model, tuple(shape))
    for runtime in options.runtimes:
        settings = LatencyConfig(runtime=runtime, threads=options.threads, rounds=options.rounds)
        watch = Stopwatch(model, timer_of(experiment, model, settings))
        for allocation in options.allocations:
            for round_to in options.round_to:
                how = {"runtime": runtime, "allocation": allocation, "round_to": round_to}
                how["per"] = options.per
                for budget in [options.latency] if options.latency else options.budgets:
                    kind = "latency_ms" if options.latency else "macs"
                    yield {**how, kind: budget, **measured(channels, watch, how, kind, budget)}


def rounding(text: str) -> int | str:
    """Return a number of channels, or "auto" as it is."""
    return text if text == "auto" else int(text)


def experiment_tree(name: str) -> dict[str, Any]:
    """Return the merged configuration of a model."""
    return dict(read(MODELS[name])[0].tree)


def measured(
    channels: Channels, watch: Stopwatch, how: dict[str, Any], kind: str, budget: str
) -> dict[str, Any]:
    """Return what one slim model costs, or why there is none."""
    pruner = Pruner(
        budget=Budget(**{kind: budget}),
        importance=L1Importance(),
        round_to=how["round_to"],
        allocation=how["allocation"],
        per=how["per"],
        stopwatch=watch,
    )
    try:
        subnet = pruner.plan(channels)
    except BudgetError as error:
        return {"refused": str(error)}
    slim = channels.cut(subnet).eval()
    pair = watch.beside(slim)
    line = {
        "macs_share": round(subnet.cost["macs"] / channels.cost.whole["macs"], 4),
        "whole_ms": round(pair.whole_ms, 2),
        "ms": round(pair.ms, 2),
        "share": round(pair.share, 4),
    }
    if how["round_to"] == "auto":
        line["why"] = subnet.origin["round_to"]["why"]
    if kind == "latency_ms":
        line["again"] = round(Stopwatch(channels.model, watch.timer).beside(slim).share, 4)
    if how["runtime"] == "pytorch":
        line["kinds"] = both_kinds(channels, slim)
    return line


def both_kinds(channels: Channels, slim: nn.Module) -> dict[str, list[float]]:
    """Return milliseconds by kind of layer, of the whole and of the slim model."""
    whole, less = kinds(channels.model, channels.example), kinds(slim, channels.example)
    return {kind: [round(whole[kind], 2), round(less[kind], 2)] for kind in whole}


@torch.no_grad()
def kinds(model: nn.Module, shape: Any, rounds: int = 5) -> dict[str, float]:
    """Return the milliseconds that layers of each kind take, and what is left."""
    leaves = {path: m for path, m in model.named_modules() if not list(m.children())}
    images = torch.zeros(1, 3, *shape).contiguous(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        clock = Clock(lambda: 1000 * time.process_time())
        with watched({"": model, **leaves}, clock):
            model(images)
        total: dict[str, float] = defaultdict(float)
        for path, amount in clock.observation.amounts.items():
            total[type(leaves[path]).__name__ if path else "between layers"] += amount
        for kind, amount in total.items():
            seen[kind].append(amount)
    return {kind: median(values) for kind, values in seen.items()}


if __name__ == "__main__":
    main()
