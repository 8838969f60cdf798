"""Which maps of a student's pyramid go with which of a teacher's, and bringing them to one size."""

from collections import Counter
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from razorlite.core.errors import ConfigError

Pairs = list[tuple[Tensor, Tensor]]


def paired_levels(
    where: str, student: Sequence[Tensor], teacher: Sequence[Tensor], resize: bool
) -> Pairs:
    """Return pairs of maps (N, C, H, W): in order if these fit, otherwise those of one size.

    Maps go by size where each map of the side that has fewer finds exactly one of its size on the
    other; what is left over on the longer side is not compared.

    Args:
        where: what compares them, for the message.
        student: maps of the student, or other tensors, which go in order.
        teacher: maps of the teacher.
        resize: maps in order fit whatever their sizes.

    Raises:
        ConfigError: the numbers differ, and sizes do not tell which belong together.
    """
    equal = len(student) == len(teacher)
    if equal and (resize or _sizes(student) == _sizes(teacher)):
        return list(zip(student, teacher, strict=True))
    found = _by_size(student, teacher)
    if found is None and not equal:
        raise ConfigError(
            f"{where}: the student gives {len(student)} maps, the teacher {len(teacher)}; pick "
            f"single ones by 'NAME[0]', or name other modules: sizes {_shown(student)} and "
            f"{_shown(teacher)} do not tell which belong together"
        )
    return list(zip(student, teacher, strict=True)) if found is None else found


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return (N, C, H, W) maps scaled to another (H, W), bilinear, corners not aligned."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)


def _by_size(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Pairs | None:
    """Return pairs of one size; None where that is ambiguous or a map has none."""
    few, many = sorted((student, teacher), key=len)
    counts = [Counter(_sizes(side)) for side in (few, many)]
    if any(maps.ndim != 4 for maps in (*few, *many)):
        return None
    if any(count[size] != 1 for size in counts[0] for count in counts):
        return None
    ours, theirs = (dict(zip(_sizes(side), side, strict=True)) for side in (student, teacher))
    return [(ours[size], theirs[size]) for size in _sizes(few)]


def _sizes(maps: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(level.shape[2:]) for level in maps]


def _shown(maps: Sequence[Tensor]) -> str:
    return ", ".join(" x ".join(map(str, size)) or "none" for size in _sizes(maps))
