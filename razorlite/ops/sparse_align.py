"""RoIAlign of a whole pyramid as one product with a sparse matrix, for CPUs.

Each bin of a region is a weighted sum of cells. Written as a row of a sparse matrix, all regions'
bins over all levels are one product, whose gradient is another: both run over whole vectors of
channels and on all cores, where the usual kernel goes from sample to sample, on one core when it
goes backward.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from razorlite.core.compute import unrounded


@dataclass(frozen=True)
class Entries:
    """What the bins read along one axis: E cells with their weights, region by region.

    Attributes:
        bin: (E,) int64, region * bins per side + bin.
        cell: (E,) int64, row or column of the region's map.
        weight: (E,) share of the cell in the bin.
        count: (R,) int64, entries of each region.
    """

    bin: Tensor
    cell: Tensor
    weight: Tensor
    count: Tensor


@unrounded
def sparse_roi_align(
    maps: tuple[Tensor, ...],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    strides: tuple[int, ...],
    output_size: int,
) -> Tensor:
    """Return (R, C, S, S): what `torchvision.ops.roi_align(..., 0, aligned=True)` gives.

    Args:
        maps: (N, C, H, W) per level; in lower precision they are pooled in that of the boxes.
        boxes: (R, 4) pixels.
        image: (R,) int64, image of each box.
        level: (R,) int64, level of each box.
        strides: image pixels per cell of each level.
        output_size: S, bins per side.

    RoIAlign, https://arxiv.org/abs/1703.06870, with as many samples per bin as it has cells.
    """
    channels = maps[0].shape[1]
    rows = [m.permute(0, 2, 3, 1).reshape(-1, channels) for m in maps]
    cells = torch.cat(rows).to(boxes.dtype)
    heights, widths = torch.tensor([m.shape[-2:] for m in maps])[level].unbind(1)
    sizes = torch.tensor([m.shape[-2] * m.shape[-1] for m in maps])
    before = (sizes * len(maps[0])).cumsum(0) - sizes * len(maps[0])
    x1, y1, x2, y2 = (boxes / torch.tensor(strides)[level, None] - 0.5).unbind(1)
    across = axis_entries(x1, x2, widths, output_size)
    down = axis_entries(y1, y2, heights, output_size)
    row, column = pairs(down.count, across.count)
    region = down.bin[row] // output_size
    at = down.bin[row] * output_size + across.bin[column] % output_size
    read = (before[level] + image * sizes[level])[region] + down.cell[row] * widths[region]
    matrix = torch.sparse_coo_tensor(
        torch.stack((at, read + across.cell[column])),
        down.weight[row] * across.weight[column],
        (len(boxes) * output_size**2, len(cells)),
        check_invariants=False,
    )
    pooled = torch.sparse.mm(matrix, cells)
    regions: Tensor = pooled.view(len(boxes), output_size, output_size, channels).permute(
        0, 3, 1, 2
    )
    return regions


def axis_entries(start: Tensor, end: Tensor, limit: Tensor, bins: int) -> Entries:
    """Return what the bins of regions read along one axis.

    Args:
        start: (R,) first edge, in cells.
        end: (R,) last edge.
        limit: (R,) int64, cells of the map; samples more than one cell outside count nothing.
        bins: of each region.
    """
    step = (end - start) / bins
    per_bin = step.ceil().long().clamp(min=0)  # samples: one for each cell that is begun
    samples = per_bin.repeat_interleave(bins)
    owner, nth = ragged(samples)
    region = owner // bins
    share = 1 / samples[owner].to(step)
    at = start[region] + (owner % bins + (nth.to(step) + 0.5) * share) * step[region]
    weight = share * ((at >= -1) & (at <= limit[region]))
    at = torch.minimum(at.clamp(min=0), limit[region] - 1)
    # neighbouring samples share cells: n samples a cell or less apart read n + 1 cells in a row
    slots = torch.where(samples > 0, samples + 1, 0)
    slot = slots.cumsum(0) - slots
    first = F.pad(at.long(), (0, 1))[samples.cumsum(0) - samples]
    nth_cell = torch.minimum(at.long() - first[owner], samples[owner] - 1)
    fraction = at - (first[owner] + nth_cell)
    total = at.new_zeros(int(slots.sum()))
    total.index_add_(0, slot[owner] + nth_cell, weight * (1 - fraction))
    total.index_add_(0, slot[owner] + nth_cell + 1, weight * fraction)
    bin_of, nth = ragged(slots)
    cell = torch.minimum(first[bin_of] + nth, limit[bin_of // bins] - 1)
    return Entries(bin_of, cell, total, slots.view(-1, bins).sum(1))


def ragged(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return each item's list and index in it, (T,) each, for (R,) lengths of lists end to end.

    `[2, 0, 1]` gives `[0, 0, 2]` and `[0, 1, 0]`.
    """
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    return owner, torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]


def pairs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return all pairs of items that belong together, as indices into both ragged lists.

    Args:
        left: (R,) int64, how many items of the left list belong to each of R groups.
        right: the same of the right list.
    """
    group, _ = ragged(left)
    first, nth = ragged(right[group])
    return first, (right.cumsum(0) - right)[group[first]] + nth
