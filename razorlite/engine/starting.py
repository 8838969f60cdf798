"""Several processes of one machine for one command, without torchrun's own words about failures."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from razorlite.core.ranks import LAUNCHER


def two_if_possible() -> int:
    """Return 2 where two processes have a thread each, and a GPU each if there are any; else 1."""
    return 2 if torch.get_num_threads() > 1 and torch.cuda.device_count() != 1 else 1


def start(words: Sequence[str], processes: int) -> int:
    """Run a command in several processes and return its exit code; they print what there is to say.

    Args:
        words: those after `razorlite`.
        processes: how many.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ[LAUNCHER] = str(os.getpid())
    logging.disable(logging.CRITICAL)  # of this process, which does nothing but wait
    if hasattr(signal, "SIGUSR1"):  # not one that the launcher hands on
        signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        elastic_launch(_config(processes), sys.executable)("-m", "razorlite", *words)
    except ChildFailedError as error:
        return max(1, error.get_first_failure()[1].exitcode)
    except (SignalException, KeyboardInterrupt):
        return 130
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _config(processes: int) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
