"""Processes and devices: torchrun's environment, seeds, the choice of device."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist

from razorlite.core.distributed import rank
from razorlite.core.errors import ConfigError
from razorlite.core.ranks import several
from razorlite.engine.random_state import seed_everything

DeviceChoice = Literal["auto", "cpu", "cuda"]


@contextmanager
def session(device: DeviceChoice = "auto", seed: int = 0) -> Iterator[torch.device]:
    """Choose a device, join torchrun's process group if there is one, and seed everything.

    Raises:
        ConfigError: CUDA was asked for and is not there.
    """
    chosen = choose_device(device)
    joined = init_distributed(chosen)
    seed_everything(seed, rank())
    try:
        yield chosen
    finally:
        if joined:
            # PyTorch 2.4 waits for Gloo's threads with the interpreter's lock held, which they may
            # still want for the last exchange's tensors: let them have it first.
            time.sleep(0.1)
            dist.destroy_process_group()


def choose_device(choice: DeviceChoice = "auto") -> torch.device:
    """Return this process's device; under torchrun, each local process gets its own GPU.

    Raises:
        ConfigError: CUDA was asked for and is not there, or has too few devices.
    """
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(f"device: cuda asked for, but {_why_no_cuda()}; set device=cpu or auto")
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"device: process {local} of this machine has no GPU of its own (there are {count}); "
            f"start at most {count} with --nproc-per-node, or set device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def init_distributed(device: torch.device) -> bool:
    """Join the process group that torchrun describes: NCCL on GPUs, Gloo on CPUs.

    Returns:
        Whether a group was joined; False in a single process or if there is one already.
    """
    if not several() or dist.is_initialized():
        return False
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return True


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without it"
    return "PyTorch finds no usable GPU (see nvidia-smi)"
