"""What a model costs and how good it is: the commands `cost` and `test`."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from razorlite.core.config import Overrides
from razorlite.core.distributed import is_main
from razorlite.core.errors import ConfigError
from razorlite.core.streams import safe_console
from razorlite.cost import Cost, count, thop_profile
from razorlite.engine.launch import session
from razorlite.evaluation import Recorded
from razorlite.recipes.building import Built, build, load_trained, of_supernet
from razorlite.recipes.experiment import ConfigLike, Experiment, read
from razorlite.recipes.found import write_found
from razorlite.recipes.splits import Splits
from razorlite.recipes.starting import unfreeze
from razorlite.space import recalibrate

_DEPTH = 2  # of the modules that the table lists; --json has all


def cost(
    config: ConfigLike,
    subnet: str | Path | None = None,
    shape: tuple[int, int] | None = None,
    overrides: Overrides = (),
    as_json: bool = False,
) -> dict[str, Any]:
    """Count what a configuration's model costs for one image.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        subnet: a subnet file: count the exported or slimmed model.
        shape: (height, width) in pixels; the configuration's `shape` by default.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        as_json: print nothing.

    Returns:
        `params` and `macs` (multiply-adds of convolutions and matrix products), `shape`, `modules`
        and thop's counts; of a supernet, the largest subnet's, and the `range` of all subnets.

    Raises:
        ConfigError: the configuration is wrong.
        SubnetError: the subnet file is malformed or of another model.
    """
    _, experiment = read(config, overrides)
    built = build(experiment, subnet)
    shape = shape or experiment.shape
    counts = _counts(built, shape)
    if not as_json and is_main():
        _print(counts, safe_console())
    return counts


def test(
    config: ConfigLike,
    checkpoint: str | Path,
    subnet: str | Path | None = None,
    overrides: Overrides = (),
    as_json: bool = False,
    out: str | Path | None = None,
) -> dict[str, float]:
    """Measure a checkpoint on the configuration's test images.

    A supernet's checkpoint together with a subnet file is measured on the weights of that path,
    after refreshing its batch-norm statistics.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        checkpoint: weights of the configuration's model.
        subnet: a subnet file instead of the configuration's.
        overrides: "a.b=value" each, or a mapping of paths to plain values.
        as_json: print nothing.
        out: folder for detections.json, which `analyze_predictions` takes.

    Returns:
        The metric's values, `macs` and `params`.

    Raises:
        ConfigError: the configuration is wrong, or a supernet is given without a subnet.
        CheckpointError: the checkpoint cannot be read or is of another model.
        DataError: the images cannot be read.
    """
    _, experiment = read(config, overrides)
    with session(experiment.device, experiment.seed) as device:
        built = build(experiment, subnet)
        if built.is_supernet:
            raise ConfigError("the configuration is a supernet; name a path of it by --subnet")
        card = load_trained(built, checkpoint, experiment)
        splits = Splits(experiment, device, card.classes)
        splits.match(built.model, "test")
        model = splits.compute.place(built.model)
        if card.subnet is None and of_supernet(built, checkpoint):
            unfreeze(model, card.unfrozen)
            with splits.compute.autocast():
                recalibrate(model, splits.calibration(_batches(experiment)))
        if out is None:
            metrics = splits.evaluate(model, splits.test, "test")
        else:
            kept = Recorded(splits.metric(splits.test, "test"))
            metrics = splits.evaluate(model, splits.test, "test", metric=kept)
            if is_main():
                most = getattr(kept.metric, "max_detections", None)
                write_found(kept.items, splits.test, out, most)
    whole = count(model.cpu(), experiment.shape)
    result = {**metrics, "macs": whole.macs, "params": whole.params}
    if not as_json and is_main():
        _print_scores(result, len(splits.test), safe_console())
    return result


def _batches(experiment: Experiment) -> int:
    return experiment.search.recalibrate_batches if experiment.search else 20


def _counts(built: Built, shape: tuple[int, int]) -> dict[str, Any]:
    if not built.is_supernet:
        whole = count(built.model, shape)
        return {**_plain(whole, shape), **_thop(built, shape, whole)}
    assert built.space is not None
    table = built.costs(shape)
    built.space.select(table.largest())
    largest = built.space.export(table.largest())
    bounds = {name: list(ends) for name, ends in table.bounds().items()}
    return {**_plain(count(largest, shape), shape), "range": bounds, "subnets": built.space.size}


def _plain(whole: Cost, shape: tuple[int, int]) -> dict[str, Any]:
    return {**whole.to_dict(), "shape": list(shape)}


def _thop(built: Built, shape: tuple[int, int], whole: Cost) -> dict[str, Any]:
    profile = thop_profile(built.model, shape, whole)
    shown = {"macs": profile.macs, "params": profile.params, "reasons": list(profile.reasons)}
    return {"thop": shown}


def _print(counts: dict[str, Any], console: Console) -> None:
    height, width = counts["shape"]
    table = Table(title=f"One image of {height} x {width}", title_justify="left")
    table.add_column("module")
    table.add_column("MACs", justify="right")
    table.add_column("parameters", justify="right")
    shown = {n: c for n, c in counts["modules"].items() if n and n.count(".") < _DEPTH}
    for name, own in shown.items():
        table.add_row(name, f"{own['macs']:,}", f"{own['params']:,}")
    console.print(table)
    if "range" in counts:
        _print_range(counts, console)
    console.print(f"parameters  {counts['params']:,}\nMACs        {counts['macs']:,}")
    if "thop" in counts:
        thop = counts["thop"]
        console.print(f"thop says   {thop['macs']:,} MACs, {thop['params']:,} parameters")
        for reason in thop["reasons"]:
            console.print(f"            {reason}", soft_wrap=True)
        console.print("            (budgets use the exact count)")


def _print_range(counts: dict[str, Any], console: Console) -> None:
    console.print(f"a supernet of {counts['subnets']:,} subnets; what follows is the largest")
    for name, (low, high) in counts["range"].items():
        console.print(f"{name} from {low:,} to {high:,}")


def _print_scores(metrics: dict[str, float], images: int, console: Console) -> None:
    table = Table(title=f"On {images} test images", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    console.print(table)
