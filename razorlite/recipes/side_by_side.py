"""Independent pieces of work, one process each, where torchrun has started several."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from razorlite.core.distributed import gather_objects, is_main, late_gather, rank, world_size
from razorlite.core.errors import RazorliteError
from razorlite.core.progress import progress
from razorlite.core.ranks import apart
from razorlite.core.streams import quiet
from razorlite.engine.interrupt import Interrupted, StopSignals

T = TypeVar("T")


def side_by_side(
    pieces: Sequence[Callable[[], T]], loads: Sequence[float] = (), what: str = ""
) -> list[T]:
    """Do pieces of work, each as a single process would, and return what all came to.

    All ranks call it and get the same. The pieces are dealt out at the start; a rank without one
    waits. Those of one rank are done in order, and rank 0 alone tells how it gets on.

    Args:
        pieces: of work; none may need what another makes, nor write where another does.
        loads: of each, in any unit, so that ranks end at about the same time; equal by default.
        what: the pieces are, for a line of progress; none by default, for those that tell more.

    Raises:
        RazorliteError: the first one of any rank, on all of them; the others have finished theirs.
        Interrupted: a signal came while this or another rank waited.
    """
    gather = late_gather()
    mine = dealt(loads or [1.0] * len(pieces), world_size())[rank()]
    done: dict[int, T] = {}
    fault: BaseException | None = None
    with quiet(not is_main()), apart():
        try:
            for index in progress(mine, what, len(mine)) if what else mine:
                done[index] = pieces[index]()
        except (RazorliteError, KeyboardInterrupt) as error:
            fault = error
    with StopSignals() as signals:  # the others are still to save what they do
        everyone = gather((done, None if fault is None else (type(fault), str(fault))))
    _stop_together(fault, [error for _, error in everyone], signals.received)
    whole = {index: value for part, _ in everyone for index, value in part.items()}
    return [whole[index] for index in range(len(pieces))]


def _stop_together(
    fault: BaseException | None,
    faults: Sequence[tuple[type[BaseException], str] | None],
    signal: str,
) -> None:
    """Raise this process's fault, or else that of another, or else that any was asked to stop."""
    if fault is not None:
        raise fault
    for kind, text in filter(None, faults):
        raise kind(text)
    if any(gather_objects(signal)):
        raise Interrupted("stopped between two steps; to go on, run the same command with --resume")


def dealt(loads: Sequence[float], hands: int) -> list[list[int]]:
    """Deal pieces out, the heaviest first and to the least laden, for sums of about equal loads.

    Args:
        loads: of each piece.
        hands: how many there are to deal to.

    Returns:
        The places of each hand's pieces, in order.
    """
    found: list[list[int]] = [[] for _ in range(hands)]
    sums = [0.0] * hands
    for index in sorted(range(len(loads)), key=lambda place: -loads[place]):
        least = sums.index(min(sums))
        found[least].append(index)
        sums[least] += loads[index]
    return [sorted(hand) for hand in found]
