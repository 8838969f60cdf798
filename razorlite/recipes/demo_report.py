"""The page that a demo ends with."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from razorlite.recipes.demo_rows import LATENCY_SHAPE
from razorlite.recipes.experiment import read
from razorlite.space import Subnet
from razorlite.visual import write_report

_TRAININGS = ("supernet", "largest", "by_hand", "random", "searched", "distilled", "pruned")


def write_demo_report(
    folder: Path, rows: Sequence[Mapping[str, Any]], findings: Sequence[str], seconds: float
) -> Path:
    """Write report.html and report.json into a demo's run folder.

    Args:
        folder: the run folder, with the pictures of its steps.
        rows: of the table.
        findings: what the rows show, a sentence each.
        seconds: what the steps took, those of all processes added up.

    Returns:
        The HTML file.
    """
    height, width = LATENCY_SHAPE
    return write_report(
        folder / "report.html",
        title="razorlite demo: from a supernet to a small detector",
        summary=f"One supernet with a width for each group of channels and one or two "
        f"convolutions in its head was trained on drawn shapes. Its subnets cost "
        f"{_least(folder, rows):.0%} to 100% of the whole detector; the best one of {_budget()} "
        f"was searched and trained on, with a teacher and without, beside a pruned detector and "
        f"three controls.",
        findings=findings,
        rows=rows,
        figures=_pictures(folder),
        notes=[
            "AP and AP50 are COCO's, on 500 images that nothing was trained or chosen on. What "
            "follows ± is half the range of 95 % of 200 draws of these images (bootstrap). It does "
            "not hold what another seed of the training would change: one seed was run; --seed "
            "takes another.",
            "The weights of every row have seen as many batches: those trained on from the "
            "supernet have its steps behind them, each of which trained the largest, the smallest "
            "and a random path on one batch; the detector scaled by hand has all of its own. The "
            "distilled row has had its teacher's training besides; the search itself trains "
            "nothing.",
            f"Latency is the median of 50 rounds with one image of {height} x {width} pixels; the "
            f"models took turns. At the 64 x 64 pixels of training, starting each operation takes "
            f"longer than its work.",
        ],
        facts={
            "duration": f"{seconds:.0f} s, all steps added up",
            "machine": f"{platform.machine()}, PyTorch threads: {torch.get_num_threads()}",
            "versions": f"torch {torch.__version__}, numpy {np.__version__}",
        },
    )


def _least(folder: Path, rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the cost of the smallest subnet as a share of the largest's."""
    largest = next(row["macs"] for row in rows if row["name"] == "largest")
    return float(Subnet.load(folder / "smallest.yaml").cost["macs"] / largest)


def _budget() -> str:
    search = read("demo/widths")[1].search
    assert search is not None
    limits = search.constraints["macs"]
    assert isinstance(limits, Sequence)
    return " to ".join(map(str, limits))


def _pictures(folder: Path) -> list[tuple[str, Path]]:
    made = [name for name in _TRAININGS if (folder / name).is_dir()]
    return [
        ("How the search went", folder / "search" / "pictures" / "search.png"),
        ("Accuracy against MACs", folder / "search" / "pictures" / "pareto.png"),
        ("Channels that pruning kept", folder / "pruned" / "pictures" / "channels.png"),
        ("What the searched model finds", folder / "searched" / "pictures" / "detections.png"),
        *(
            (f"Training: {name.replace('_', ' ')}", folder / name / "pictures" / "training.png")
            for name in made
        ),
    ]
