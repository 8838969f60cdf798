"""Which boxes nuScenes evaluates: near ones, those with points, and no parked bicycles in racks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Entry = Mapping[str, Any]
Numbers = NDArray[np.float64]

RANGES = {
    **dict.fromkeys(["car", "truck", "bus", "trailer", "construction_vehicle"], 50.0),
    **dict.fromkeys(["pedestrian", "motorcycle", "bicycle"], 40.0),
    **dict.fromkeys(["traffic_cone", "barrier"], 30.0),
}
_RACKED = ("bicycle", "motorcycle")


def evaluated(boxes: Sequence[Entry], sample: Entry, *, truth: bool) -> list[Entry]:
    """Return the boxes of a sample that count.

    Args:
        boxes: as in a submission.
        sample: with `ego_translation`, the car on the map, and `bicycle_racks`.
        truth: whether they are what there is, of which boxes without a point are left out.
    """
    near = [box for box in boxes if _is_near(box, sample["ego_translation"])]
    if truth:
        near = [box for box in near if box["num_lidar_pts"] + box["num_radar_pts"] != 0]
    racks = sample.get("bicycle_racks", ())
    return [b for b in near if b["detection_name"] not in _RACKED or not _in_any(b, racks)]


def _is_near(box: Entry, ego: Sequence[float]) -> bool:
    return math.dist(box["translation"][:2], ego[:2]) < RANGES[box["detection_name"]]


def _in_any(box: Entry, racks: Sequence[Entry]) -> bool:
    """Return whether a box's centre lies in a rack, its border included."""
    centre = np.array(box["translation"], dtype=float)
    for rack in racks:
        own = (centre - np.array(rack["translation"])) @ matrix_of(rack["rotation"])
        width, length, height = rack["size"]
        if (np.abs(own) <= np.array([length, width, height]) / 2).all():
            return True
    return False


def matrix_of(rotation: Sequence[float]) -> Numbers:
    """Return the (3, 3) matrix of a quaternion w, x, y, z, which need not be of length 1."""
    w, x, y, z = np.array(rotation, dtype=float) / np.linalg.norm(rotation)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(matrix: Numbers) -> list[float]:
    """Return the quaternion w, x, y, z of a (3, 3) rotation, w not below 0."""
    m = np.asarray(matrix, dtype=float)
    trace = np.trace(m)
    quadrupled = np.array(
        [
            [1 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0, 1 + 2 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [0, 0, 1 + 2 * m[1, 1] - trace, m[1, 2] + m[2, 1]],
            [0, 0, 0, 1 + 2 * m[2, 2] - trace],
        ]
    )
    full = np.triu(quadrupled) + np.triu(quadrupled, 1).T
    row = full[int(np.argmax(np.diag(full)))]
    unit = row / np.linalg.norm(row)
    return [float(v) for v in (unit if unit[0] >= 0 else -unit)]
