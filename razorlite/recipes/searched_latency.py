"""The subnet that a search has found, timed as it is shipped, beside what was predicted."""

import logging
from collections.abc import Mapping
from typing import Any

from razorlite.cost import Constraint, CostModel, JoinedCost, LatencyTable
from razorlite.prune import Stopwatch
from razorlite.search import Trial
from razorlite.space import SearchSpace

_log = logging.getLogger("razorlite")
_OFF = 0.05  # of the prediction


def searched_latency(
    trial: Trial, space: SearchSpace, costs: CostModel, constraint: Constraint
) -> dict[str, Any]:
    """Time a subnet in turns with the largest one, where a table names how; say what came out.

    Args:
        trial: the best one.
        space: of the supernet.
        costs: what candidates cost.
        constraint: what they may cost.

    Returns:
        What was measured and predicted, and in which conditions; empty without such a table.
    """
    models = costs.models if isinstance(costs, JoinedCost) else (costs,)
    table = next((m for m in models if isinstance(m, LatencyTable) and m.timer is not None), None)
    if table is None or table.timer is None:
        return {}
    [name] = table.names
    largest = table.costs.largest(name)
    watch = Stopwatch(space.export(largest), table.timer)
    record = watch.record(space.export(trial.subnet))
    whole = table.costs(largest)[name]
    predicted = trial.cost[name] / whole
    highs = [limit.high for limit in constraint.limits if limit.name == name]
    _tell(record, predicted, min(highs, default=float("inf")) / whole)
    return {**record, "predicted_ms": trial.cost[name], "predicted_share": predicted}


def _tell(record: Mapping[str, Any], predicted: float, most: float) -> None:
    share = record["share"]
    _log.info(
        "latency: the subnet takes %.1f ms, %.1f%% of the largest's time (%s, %s thread(s)); "
        "%.1f%% were predicted",
        record["ms"],
        100 * share,
        record["runtime"],
        record["threads"],
        100 * predicted,
    )
    if share > most or abs(share / predicted - 1) > _OFF:
        _log.warning(
            "latency: %s: measure the table again when the machine is quiet, or with more rounds, "
            "or lower the limit",
            f"{share:.1%} of the largest's time, {most:.1%} are allowed"
            if share > most
            else f"{abs(share / predicted - 1):.1%} off what was predicted",
        )
