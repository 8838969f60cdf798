"""Tiny configurations and commands in processes of their own."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import yaml

from razorlite import cli
from razorlite.core.journal import Journal
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.recipes import training

ROOT = Path(__file__).resolve().parents[2]
TIMES = {"seconds", "images_per_second", "memory_mb", "eval_seconds"}
SHAPES = {"type": "ShapesDataset", "size": [64, 64], "objects": [1, 2]}


def detector(config: dict) -> dict:
    """Return a configuration of a small FCOS on drawn shapes; `config` adds blocks."""
    choices = {
        "shuffle_3x3": {"type": "ShuffleBlock", "kernel_size": 3},
        "shuffle_xception": {"type": "ShuffleXception"},
    }
    backbone = {"type": "SearchableShuffleNetV2", "width_mult": 0.25, "out_indices": [1]}
    head = {"type": "FCOSHead", "num_classes": 3, "in_channels": 16, "feat_channels": 16}
    small = {"stacked_convs": 1, "norm": "BN", "strides": [8, 16], "norm_on_bbox": True}
    neck = {"type": "FPN", "in_channels": [40], "out_channels": 16, "num_outs": 2}
    return {
        "mutator": {"placeholder_mapping": {"all_blocks": {"choices": choices}}},
        "metric": {"type": "CocoMetric"},
        "shape": [64, 64],
        "device": "cpu",
        "model": {
            "type": "FCOS",
            "backbone": backbone,
            "neck": neck,
            "bbox_head": {**head, **small},
        },
        "data": {"train": split(22, 0), "val": split(4, 1), "test": split(4, 2)},
        **config,
    }


def split(images: int, seed: int, batch_size: int = 4, **more) -> dict:
    """Return a split of drawn shapes; the training one is augmented."""
    flips = [{"type": "RandomFlip", "horizontal": 0.5}, {"type": "RandomCrop", "size": [56, 56]}]
    return {
        "batch_size": batch_size,
        "dataset": {**SHAPES, "num_images": images, "seed": seed},
        "transforms": [] if seed else flips,
        **more,
    }


def write(config: dict, folder: Path, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


class Command:
    """A command in a process of its own, that can be killed.

    The process is forked from a server which has imported everything, so that it starts at once.
    """

    def __init__(
        self, *words: object, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = folder.with_name(f"{folder.name}-output.txt")
        arguments = ([str(word) for word in words], str(self.output), dict(environment or {}))
        self.process = _SERVER.Process(target=_command, args=arguments)
        self.process.start()

    def send_when(self, ready, number: int) -> None:
        """Send a signal as soon as something is the case, and wait for the end."""
        deadline = time.monotonic() + 120
        while not ready():
            assert self.process.is_alive(), self.printed()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(self.process.pid, number)
        self.wait()

    def wait(self) -> int:
        """Return the exit code."""
        self.process.join(timeout=300)
        return self.process.exitcode

    def printed(self) -> str:
        """Return what it printed, standard error included."""
        return self.output.read_text()


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["tests.recipes.runs", "razorlite.recipes", "matplotlib.figure", "torch._dynamo"]
)


def _command(words: list[str], output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # the command's own workers: as ever
    torch.set_num_threads(1)
    if words[0] != "demo":  # whose page shows them
        training.draw = lambda *_: None
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(cli.main(words))


def run(*words: object, folder: Path) -> None:
    """Run a command that writes to a folder to its end, which must be a good one."""
    command = Command(*words, "--work-dir", folder, folder=folder)
    assert command.wait() == 0, command.printed()


def torchrun(*words: object, processes: int = 2) -> str:
    """Run a command under torchrun and return what it printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launcher, "-m", "razorlite", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ranks(*words: object, folder: Path, count: int = 2) -> str:
    """Run a command in processes that torchrun's environment joins; return what the first printed.

    They start at once, as a `Command` does, and find each other at a store of this process.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(count)}
    place |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    members = []
    for rank in map(str, range(count)):
        there = {**place, "RANK": rank, "LOCAL_RANK": rank}
        output = folder.with_name(f"{folder.name}-rank-{rank}")
        members.append(Command(*words, "--work-dir", folder, folder=output, environment=there))
    assert [member.wait() for member in members] == [0] * count, [m.printed() for m in members]
    return members[0].printed()


def lines(folder: Path) -> list[dict]:
    """Return metrics.jsonl without times."""
    found = Journal(folder / "metrics.jsonl").read()
    return [{k: v for k, v in line.items() if k not in TIMES} for line in found]


def last(folder: Path) -> dict:
    """Return last.pt without times."""
    content = read_checkpoint(folder / "checkpoints" / "last.pt")
    content["progress"].pop("seconds")
    for part in content["ranks"]:
        part["window"].pop("seconds")
    return content
