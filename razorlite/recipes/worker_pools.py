"""Where a search scores its candidates, as the command line names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from razorlite.core.distributed import world_size
from razorlite.core.errors import ConfigError
from razorlite.search import RayWorkers, SearchConfig, Workers, ray_cluster


@contextmanager
def worker_pool(
    name: str | None, settings: SearchConfig, device: torch.device
) -> Iterator[Workers | None]:
    """Open what scores candidates, and close it at the end.

    Args:
        name: "ray" for a cluster of this machine, "ray:ADDRESS" for another; None for the processes
            of this run.
        settings: the `search` block.
        device: of the supernet; workers have a GPU each where it is on one.

    Raises:
        ConfigError: the name is another, there is no such cluster, or processes were asked for too.
    """
    if name is None:
        yield None
        return
    check_workers(name)
    if world_size() > 1:
        raise ConfigError("--workers ray is for one process; leave out --processes and torchrun")
    with ray_cluster(name.partition(":")[2] or None):
        gpus = 1.0 if device.type == "cuda" else 0.0
        yield RayWorkers(gpus=gpus, timeout=settings.worker_timeout, retries=settings.retries)


def check_workers(name: str | None) -> None:
    """Refuse a name of workers that `worker_pool` would refuse, before any work.

    Raises:
        ConfigError: it is another than ray or ray:ADDRESS.
    """
    if name is not None and name.partition(":")[0] != "ray":
        raise ConfigError(f"--workers takes ray or ray:ADDRESS, got {name!r}")
