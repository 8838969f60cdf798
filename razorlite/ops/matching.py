"""One-to-one matching of predictions with objects."""

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from razorlite.ops.boxes import centres_to_corners

_WORST = 1e6  # cost that stands for one that is no number


def match_costs(
    chances: Tensor,
    boxes: Tensor,
    labels: Tensor,
    objects: Tensor,
    weights: tuple[float, float, float] = (1.0, 5.0, 2.0),
) -> Tensor:
    """Return the (Q, N) costs of giving object n to prediction q.

    Args:
        chances: (Q, C + 1) softmax of the class logits.
        boxes: (Q, 4) predicted cx, cy, w, h, in parts of the image.
        labels: (N,) int64 of the objects.
        objects: (N, 4) cx, cy, w, h, in parts of the image.
        weights: of minus the class's chance, of the L1 distance, of minus the generalised IoU.

    DETR, https://arxiv.org/abs/2005.12872, section 3.1.
    """
    distance = torch.cdist(boxes, objects, p=1)
    overlap = generalized_box_iou(centres_to_corners(boxes), centres_to_corners(objects))
    of_class, of_distance, of_overlap = weights
    cost: Tensor = of_distance * distance - of_class * chances[:, labels] - of_overlap * overlap
    return cost


def match(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs of rows and columns, (K,) int64 each, that cost least in all.

    Every row and every column is used once at most, and K = min(rows, columns) pairs are made.

    Args:
        costs: (R, C); what is not finite counts as a very high cost.
    """
    # scipy takes a third of a second to import, which only this function needs.
    from scipy.optimize import linear_sum_assignment

    known = costs.detach().float().nan_to_num(_WORST, _WORST, _WORST).cpu().numpy()
    rows, columns = linear_sum_assignment(known)
    return (
        torch.as_tensor(rows, dtype=torch.long, device=costs.device),
        torch.as_tensor(columns, dtype=torch.long, device=costs.device),
    )
