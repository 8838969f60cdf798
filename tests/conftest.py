"""Fixtures that all tests share."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Small models gain nothing from threads, and threads that wait for a busy core lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share a whole suite out to all cores, each of whose processes imports torch.

    Chosen files end sooner in one process.
    """
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    shared = config.option.markexpr in ("not slow and not release", "slow", "release")
    return min(os.cpu_count() or 1, 8) if whole and shared else 0


def pytest_configure() -> None:
    """Thousands of tests that are being collected are no garbage: do not look for it yet."""
    gc.disable()


def pytest_collection_finish() -> None:
    """They live to the end: no later collection of garbage need walk through them."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images and published results, named by RAZORLITE_TEST_DATA."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RAZORLITE_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set RAZORLITE_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as `tmp_path` is one, which the tests of a file share and which goes with them."""
    folder = tmp_path_factory.mktemp("module")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """Take signals as usual, also where the shell that starts the tests has them ignored.

    nohup does so with SIGHUP, and scripts with SIGINT of what they leave in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
