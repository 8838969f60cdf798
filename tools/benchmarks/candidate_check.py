"""How long it takes to say what a candidate of the SPOS ShuffleNetV2 space costs.

The table is built once; then candidates are drawn and checked against a limit on MACs, as a search
does. For comparison, one candidate is also exported and counted anew each time, the slow way.

    python tools/benchmarks/candidate_check.py

takes about ten seconds and prints one JSON line. Checking one candidate took MMRazor 1.0 292 ms
(quartiles 229-558) on a machine of two cores.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from razorlite import recipes  # noqa: E402
from razorlite.cost import Constraint, CostTable, count  # noqa: E402
from razorlite.space import SearchSpace  # noqa: E402

CONFIG = ROOT / "configs/spos/shufflenetv2_spos_imagenet.yaml"
CANDIDATES, REPEATS, COUNTED = 100_000, 7, 5


def main() -> None:
    """Measure and print."""
    space = SearchSpace(recipes.build_model(CONFIG))
    start = time.perf_counter()
    table = CostTable.build(space, (224, 224))
    built = time.perf_counter() - start
    constraint = Constraint.parse({"macs": "330M"}, table)
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        allowed = constraint.allows(table.many(space.random_indices(rng, CANDIDATES)))
        rates.append(CANDIDATES / (time.perf_counter() - start))
    slow = []
    for _ in range(COUNTED):
        subnet = space.random(rng)
        start = time.perf_counter()
        counted = count(space.export(subnet), (224, 224))
        slow.append(time.perf_counter() - start)
        assert table(subnet).macs == counted.macs
    metrics = {
        "table_seconds": round(built, 3),
        "candidates_per_second_median": round(statistics.median(rates)),
        "candidates_per_second_all": [round(rate) for rate in rates],
        "microseconds_per_candidate": round(1e6 / statistics.median(rates), 3),
        "allowed_share": float(allowed.mean()),
        "export_and_count_ms_median": round(1000 * statistics.median(slow), 1),
    }
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
