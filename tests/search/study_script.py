"""A study in a process of its own: python study_script.py JOURNAL SECONDS_PER_TRIAL [BROKEN].

The process of rank BROKEN breaks down in its third trial. Prints all trials and the winner as JSON.
Under torchrun, the main process prints.
"""

import json
import os
import sys
import time

import torch.distributed as dist

from razorlite.core.distributed import is_main, rank
from razorlite.search import CandidateError, EvolutionSearcher, Study
from tests.search.contract import candidates, score


def main(journal: str, seconds: float, broken: int = -1) -> None:
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    calls = iter(range(10**6))
    found = candidates(seed=7, constraint={"macs": "70%"}, places=12)

    def metrics(subnet):
        time.sleep(seconds)
        if rank() == broken and next(calls) == 2:
            raise OSError(5, "Input/output error")
        value = score(found.space, subnet)
        if value == -9:
            raise CandidateError("this one fails")
        return {"AP": value, "AP50": value / 2}

    study = Study(
        searcher=EvolutionSearcher(
            candidates=found, population_size=10, num_mutation=4, num_crossover=4, max_rounds=4
        ),
        score=metrics,
        journal=journal,
        metric="AP",
        settings={"seed": 7},
    )
    best = study.run(resume=True)
    if is_main():
        trials = [{**trial.to_record(), "seconds": 0} for trial in study.trials]
        print(json.dumps({"trials": trials, "best": best.number}))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
