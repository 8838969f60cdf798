"""Seeded mutations of small good files, and a guard of time and memory around what reads them."""

import contextlib
import copy
import json
import math
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[Any, ...]  # keys and places from the root of a tree to one of its nodes


@dataclass(frozen=True)
class Raw:
    """Text that a dump puts into the file as it is, for what no writer would write."""

    text: str


EXTREMES = [
    None, True, False, 0, -1, 1e9, -1e9, 1e300, 2**31, 2**63, 10**30, math.nan, math.inf, -math.inf,
    "", " ", "0", "-1", "1e400", "nan", "x" * 5000, "../..", "a\0b", "a\nb", "\ud800", "é",
    [], {}, [[]], [{}], [None], {"$oid": "507f1f77bcf86cd799439011"},
    Raw("1" + "0" * 400), Raw("9" * 5000), Raw("1e400"), Raw("[" * 3000 + "]" * 3000),
]  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A file with something wrong.

    Attributes:
        name: what was done, for messages.
        data: the file's bytes.
        tree: what was dumped; None where bytes were changed.
        path: the node that was changed.
    """

    name: str
    data: bytes
    tree: Any = None
    path: Path = ()


class Overrun(BaseException):
    """It took too long; no `except Exception` hides it."""


def to_json(tree: Any) -> bytes:
    """Return a tree as JSON, NaN, infinities and `Raw` included."""
    raw: dict[str, str] = {}

    def stand_in(value: Any) -> str:
        raw[f'"@{len(raw)}@"'] = value.text
        return f"@{len(raw) - 1}@"

    text = json.dumps(tree, default=stand_in)
    for mark, written in raw.items():
        text = text.replace(mark, written)
    return text.encode()


def mutants_of_tree(
    tree: Any, count: int, seed: int, dump: Callable[[Any], bytes] = to_json
) -> Iterator[Mutant]:
    """Yield files in which one node of a tree of dicts and lists is not as it should be.

    Nodes are deleted, duplicated, retyped, made extreme, nested, exchanged and renamed. Deep nodes
    are no likelier than those near the root: a key or place is drawn at each level.

    Args:
        tree: of a good file.
        count: how many files.
        seed: of all choices.
        dump: writes a tree; has to know `Raw`.
    """
    rng = random.Random(seed)
    for _ in range(count):
        changed, path = copy.deepcopy(tree), _draw_path(tree, rng)
        change = rng.choice(_CHANGES)
        change(_at(changed, path[:-1]), path[-1], rng)
        name = f"{change.__name__[1:]} at {'/'.join(map(str, path))}"
        yield Mutant(name, dump(changed), changed, path)


def mutants_of_bytes(data: bytes, count: int, seed: int) -> Iterator[Mutant]:
    """Yield files with bytes flipped, cut out, doubled, cut off, or in another encoding."""
    rng = random.Random(seed)
    for _ in range(count):
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice([1, 2, 8, 64]))
        noise = bytes(rng.randrange(256) for _ in range(end - start))
        kind, changed = rng.choice(
            [
                ("noise", data[:start] + noise + data[end:]),
                ("cut out", data[:start] + data[end:]),
                ("doubled", data[:end] + data[start:]),
                ("cut off", data[:start]),
                ("marked", b"\xef\xbb\xbf" + data),
                ("of zeros", data[:start] + bytes(end - start) + data[end:]),
            ]
        )
        yield Mutant(f"{kind} at byte {start}", changed)


@contextlib.contextmanager
def guarded(seconds: float = 5.0, megabytes: int = 1024) -> Iterator[None]:
    """Let a block fail that works or waits too long (`Overrun`), or takes too much memory.

    Where the system has no such limits (Windows, other threads) nothing is guarded.
    """
    with contextlib.ExitStack() as stack:
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            stack.enter_context(_alarm(seconds))
        with contextlib.suppress(ImportError, OSError, ValueError):
            stack.enter_context(_ceiling(megabytes))
        yield


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Stop after so much work, or waiting ten times as long: other programs may have the cores."""

    def stop(*_: Any) -> None:
        raise Overrun(f"took longer than {seconds} s")

    timers = [
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 10 * seconds),
    ]
    before = [(number, signal.signal(number, stop)) for number, _, _ in timers]
    for _, timer, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)


@contextlib.contextmanager
def _ceiling(megabytes: int) -> Iterator[None]:
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _draw_path(tree: Any, rng: random.Random) -> Path:
    path: list[Any] = []
    while isinstance(tree, dict | list) and tree and (not path or rng.random() < 0.85):
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        path.append(key)
        tree = tree[key]
    return tuple(path)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _deleted(parent: Any, key: Any, _: random.Random) -> None:
    del parent[key]


def _duplicated(parent: Any, key: Any, _: random.Random) -> None:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[f"{key}_copy"] = copy.deepcopy(parent[key])


def _retyped(parent: Any, key: Any, rng: random.Random) -> None:
    value = parent[key]
    ways = [str(value), [value], {"value": value}, bool(value), {"0": value}]
    if isinstance(value, int | float):
        ways += [float(value), f" {value} ", -value]
    parent[key] = rng.choice(ways)


def _extreme(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice(EXTREMES)


def _nested(parent: Any, key: Any, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 2, 100])):
        parent[key] = [parent[key]]


def _exchanged(parent: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]


def _renamed(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, dict):
        parent[rng.choice([str(key).upper(), f"{key} ", ""])] = parent.pop(key)
    else:
        parent[key] = None


def _emptied(parent: Any, key: Any, _: random.Random) -> None:
    parent[key] = type(parent[key])()


_CHANGES = [
    _deleted, _duplicated, _retyped, _extreme, _extreme, _nested, _exchanged, _renamed, _emptied,
]  # fmt: skip
