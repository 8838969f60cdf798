"""Print the table of configs/README.md: size, cost, published accuracy and step time of each model.

Parameters and MACs are counted at each configuration's own shape; the published AP is read from
the comment its file starts with. Times are medians of training steps (loss, backward, SGD) and of
the loss alone, on two random images of 640 x 640 with ten objects each, nothing frozen beyond
what the configuration freezes.

    python tools/benchmarks/model_table.py --steps 3

takes about half an hour on two cores; with --steps 0 it only counts, in a minute.

    python tools/benchmarks/model_table.py --latency --only rtmdet_tiny rtmdet_s

prints the table of milliseconds in its place: each model exported as it is shipped, pixels in and
detections out, in ONNX Runtime and in PyTorch, in turns, with one thread. A minute or two a model.
"""

import argparse
import re
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.cost import LatencyConfig  # noqa: E402
from razorlite.recipes.timing import timer_of  # noqa: E402
from razorlite.structures import Target  # noqa: E402

SIDE = 640
TIMED = ("model", "at", "ONNX Runtime, ms", "PyTorch, ms")
COLUMNS = ("model", "parameters, M", "GMACs", "at", "published AP", "loss, s", "step, s")


def scene() -> tuple[Tensor, list[Target]]:
    """Return two random images and targets with boxes and their masks."""
    images = torch.randn(2, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    targets = []
    for _ in images:
        corners = torch.rand(10, 2) * SIDE * 0.6
        boxes = torch.cat([corners, corners + (0.05 + 0.3 * torch.rand(10, 2)) * SIDE], 1)
        masks = torch.zeros(10, SIDE, SIDE, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        size = (SIDE, SIDE)
        targets.append(Target(boxes, torch.randint(80, (10,)), masks=masks, size=size))
    return images, targets


def step_seconds(config: Path, steps: int) -> tuple[float, float]:
    """Return the median seconds of a loss and of a whole step; the first step is not counted."""
    torch.manual_seed(0)
    model = recipes.build_model(config).to(memory_format=torch.channels_last).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9)
    images, targets = scene()
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = sum(model.loss(images, targets).values())
        middle = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append((middle - start, time.perf_counter() - start))
    losses, wholes = zip(*times[1:], strict=True)
    return statistics.median(losses), statistics.median(wholes)


def published(config: Path) -> str:
    """Return the AP metrics of a configuration's first comment."""
    head = " ".join(config.read_text().split("_base_")[0].replace("#", " ").split())
    found = re.search(r"Published by OpenMMLab: ((?:(?:box |mask )?AP [\d.]+(?:, )?)+)", head)
    return re.sub(r"\bAP ", "", found[1]).rstrip(",. ") if found else "-"


def row(config: Path, steps: int) -> list[str]:
    """Return a model's cells."""
    _, experiment = recipes.experiment.read(config)
    cost = recipes.cost(config, as_json=True)
    height, width = experiment.shape
    seconds = [f"{s:.2f}" for s in step_seconds(config, steps)] if steps else ["", ""]
    sizes = [f"{cost['params'] / 1e6:.2f}", f"{cost['macs'] / 1e9:.2f}", f"{height} x {width}"]
    return [link(config), *sizes, published(config), *seconds]


def timed_row(config: Path, rounds: int) -> list[str]:
    """Return a model's cells of the table of milliseconds."""
    torch.manual_seed(0)
    _, experiment = recipes.experiment.read(config)
    model = recipes.build_model(config).eval()
    runtimes = ("onnxruntime", "pytorch")
    timers = {r: timer_of(experiment, model, LatencyConfig(runtime=r, threads=1)) for r in runtimes}
    runs = {name: timer.opened(model) for name, timer in timers.items()}
    times = timers["onnxruntime"].in_turns(runs, rounds)
    height, width = experiment.shape
    return [link(config), f"{height} x {width}", *map(spread, times.values())]


def spread(values: list[float]) -> str:
    """Return the median of some milliseconds with their quartiles."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:.0f} ({lower:.0f} - {upper:.0f})"


def link(config: Path) -> str:
    """Return the Markdown that names a configuration in configs/README.md."""
    return f"[{config.stem}]({config.relative_to(ROOT / 'configs')})"


def chosen(patterns: list[str]) -> list[Path]:
    """Return the published models, or those whose name begins with a pattern."""
    found = sorted((ROOT / "configs").glob("*/*_coco.yaml"))
    models = [c for c in found if not c.stem.endswith("_space_coco")]  # which are supernets
    return [c for c in models if not patterns or any(c.stem.startswith(p) for p in patterns)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--latency", action="store_true", help="the table of milliseconds")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each model, in turns")
    parser.add_argument("--only", nargs="+", default=[], help="models whose names begin so")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| " + " | ".join(TIMED if args.latency else COLUMNS) + " |")
    print("|---|---|---:|---:|" if args.latency else "|---|---:|---:|---|---:|---:|---:|")
    for config in chosen(args.only):
        cells = timed_row(config, args.rounds) if args.latency else row(config, args.steps)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
