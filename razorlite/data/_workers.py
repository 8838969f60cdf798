"""The worker processes of a loader: started when first needed, kept, and stopped cleanly."""

import os
import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from razorlite.core.errors import DataError
from razorlite.data._batches import BatchMaker, Failure, Order, Packed

_GRACE = 30  # seconds a worker lives on after SIGTERM, for the main process to finish its step


class WorkerPool:
    """Worker processes that make batches.

    Args:
        maker: makes one batch; copied into every worker.
        size: number of workers.
        pin: put images into page-locked memory.
    """

    def __init__(self, maker: BatchMaker, size: int, pin: bool) -> None:
        self._maker, self._size, self._pin = maker, size, pin
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._owner = os.getpid()

    def make(self, orders: list[Order]) -> Iterator[Packed | Failure | None]:
        """Yield the batches of some orders, in their order.

        Raises:
            DataError: a worker died.
        """
        self._plan.orders = orders
        self._loader = self._loader or self._start()
        try:
            yield from self._loader
        except KeyboardInterrupt:  # the workers may be left in the middle of anything
            self.stop()
            raise
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            self._loader = None
            raise DataError(
                f"a data worker died ({str(error).splitlines()[0]}), perhaps for lack of memory; "
                f"lower num_workers (is {self._size}) or batch_size, or set num_workers to 0"
            ) from error

    def stop(self) -> None:
        """Stop the workers; making batches starts new ones. Nothing happens in a forked copy."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None and self._owner == os.getpid():
            iterator._shutdown_workers()

    def _start(self) -> "DataLoader[Any]":
        self._maker.dataset.fill_cache()  # before forking, so that all workers share the images
        return DataLoader(
            self._maker,  # type: ignore[arg-type]
            batch_size=None,
            sampler=self._plan,  # type: ignore[arg-type]
            num_workers=self._size,
            collate_fn=_as_is,
            pin_memory=self._pin,
            worker_init_fn=_leave_to_main,
            persistent_workers=True,
            generator=torch.Generator(),  # leaves the global random state alone
        )


class _Plan:
    """The batches that the workers shall make next."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def __len__(self) -> int:
        return len(self.orders)

    def __iter__(self) -> Iterator[Order]:
        return iter(self.orders)


def _as_is(made: Any) -> Any:
    return made


def _leave_to_main(_worker: int) -> None:
    """Let main finish its step first where a signal goes to the whole group of processes.

    What a worker has to say of its work it sends; that main hangs up in the middle is no news.
    """
    sys.excepthook = _tell_unless_main_hung_up
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


def _tell_unless_main_hung_up(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
