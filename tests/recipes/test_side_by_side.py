"""Pieces of work that several processes share, each as if it were the only one."""

import os
import signal
import time
from functools import partial

import pytest

from razorlite.core.distributed import gather_objects, is_main, world_size
from razorlite.core.errors import DataError
from razorlite.core.ranks import apart, is_apart, together
from razorlite.engine.interrupt import Interrupted
from razorlite.recipes.side_by_side import dealt, side_by_side
from tests.engine.test_processes import both


def test_pieces_are_dealt_for_equal_sums():
    assert dealt([5, 3, 3, 1, 2], 2) == [[0, 4], [1, 2, 3]]
    assert dealt([1, 1, 9], 4) == [[2], [0], [1], []]
    assert dealt([], 2) == [[], []]
    assert dealt([2, 7], 1) == [[0, 1]]


def test_one_process_does_all_in_order():
    seen = []
    assert side_by_side([partial(seen.append, 1), lambda: len(seen)], [1, 9]) == [None, 1]
    with pytest.raises(DataError, match="none"):
        side_by_side([partial(_fail, DataError("none")), partial(seen.append, 2)])
    assert seen == [1]


def test_apart_ends_with_its_block(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with apart():
        with apart():
            assert together() == 1
        assert is_apart()
    assert (is_apart(), together()) == (False, 3)


def _fail(error):
    raise error


def _shared(rank, folder):
    def piece(name):
        assert (world_size(), is_main(), gather_objects(name)) == (1, True, [name])
        with (folder / f"{name}-{rank}").open("x"):
            return name

    found = side_by_side([partial(piece, name) for name in "abc"], [1, 3, 1])
    assert world_size() == 2
    return found, sorted(path.name for path in folder.glob("?-?"))


def test_two_processes_share_the_pieces_and_have_all_results(tmp_path):
    one, two = both(_shared, tmp_path)
    assert one[0] == two[0] == ["a", "b", "c"]
    assert one[1] == two[1] == ["a-1", "b-0", "c-1"]


def _stopped(rank, folder):
    pieces = [partial(_fail, Interrupted("saved")), lambda: (folder / "done").touch()]
    try:
        side_by_side(pieces)
    except Interrupted as error:
        return str(error), (folder / "done").exists()


def _asked_while_waiting(rank, folder):
    def work():
        if rank:  # the other one waits by now
            time.sleep(1)
            os.kill(int((folder / "waiting").read_text()), signal.SIGTERM)

    if not rank:
        (folder / "waiting").write_text(str(os.getpid()))
    try:
        side_by_side([partial(str, "nothing"), work])
    except Interrupted as error:
        return str(error)


def test_a_process_that_waits_does_not_end_before_the_others_have_saved(tmp_path):
    one, two = both(_asked_while_waiting, tmp_path)
    assert one == two
    assert one.startswith("stopped between two steps")


def test_what_ends_one_process_ends_both_when_the_other_has_done_its_share(tmp_path):
    assert both(_stopped, tmp_path) == [("saved", True)] * 2
