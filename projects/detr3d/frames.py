"""Key frames of nuScenes as files describe them: plain JSON, or MMDetection3D's info files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.detr3d.plain_pickle import read_plain_pickle
from razorlite.core.errors import DataError
from razorlite.data.json_files import read_json

Numbers = NDArray[np.float64]

CAMERAS = (
    *("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"),
    *("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
)
ATTRIBUTES = (
    *("cycle.with_rider", "cycle.without_rider"),
    *("pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down"),
    *("vehicle.moving", "vehicle.parked", "vehicle.stopped"),
)
_SIZE = (900, 1600)  # of all images of nuScenes
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class Camera:
    """One image of a key frame.

    Attributes:
        file: path, from the data set's folder on; None where there is no image.
        lidar2img: (4, 4), the lidar's frame to pixels of the image file.
        size: (height, width) of the file in pixels.
    """

    file: str | None
    lidar2img: Numbers
    size: tuple[int, int]


@dataclass(frozen=True)
class Box:
    """One object of a key frame.

    Attributes:
        name: its class; None if it is of none.
        numbers: (9,) in the lidar's frame; unknown velocities are NaN.
        points: how many of the lidar's, and of the radars', lie in it.
        attribute: name, or empty.
    """

    name: str | None
    numbers: tuple[float, ...]
    points: tuple[int, int]
    attribute: str = ""


@dataclass(frozen=True)
class KeyFrame:
    """What a file says of one key frame.

    Attributes:
        token: of the sample.
        cameras: by name.
        boxes: the objects.
        lidar2global: (4, 4), the lidar's frame to the map's.
        ego: (3,) where the car is on the map.
    """

    token: str
    cameras: Mapping[str, Camera]
    boxes: Sequence[Box]
    lidar2global: Numbers
    ego: Numbers


def read_frames(path: Path) -> list[KeyFrame]:
    """Read the key frames of a file: JSON (one, or a list), or a pickle of MMDetection3D 1.x.

    Nothing in a pickle is executed.

    Raises:
        DataError: the file cannot be read, or an entry is malformed; names it.
    """
    pickled = path.suffix in (".pkl", ".pickle")
    content = read_plain_pickle(path) if pickled else read_json(path)
    infos = isinstance(content, Mapping) and "data_list" in content
    entries = content["data_list"] if infos else content
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: expected a key frame, a list of them, or an info file of MMDetection3D 1.x "
            f"with a data_list; got {type(content).__name__}; older info files (1.0 wants them "
            f"converted by its update_infos_to_v2.py)"
        )
    names = _names(content) if infos else {}
    return [
        _read(path, number, lambda e=entry: _info(e, names) if infos else _plain(e))  # type: ignore[misc]
        for number, entry in enumerate(entries)
    ]


def as_json(frames: Sequence[KeyFrame]) -> list[dict[str, Any]]:
    """Return key frames as plain values, which `read_frames` reads from a JSON file."""
    return [
        {
            "token": frame.token,
            "lidar2global": frame.lidar2global.tolist(),
            "ego": frame.ego.tolist(),
            "cameras": {
                name: {
                    "file": camera.file,
                    "height": camera.size[0],
                    "width": camera.size[1],
                    "lidar2img": camera.lidar2img.tolist(),
                }
                for name, camera in frame.cameras.items()
            },
            "boxes": [_box_json(box) for box in frame.boxes],
        }
        for frame in frames
    ]


def _read(path: Path, number: int, make: Any) -> KeyFrame:
    try:
        frame: KeyFrame = make()
    except _MALFORMED as error:
        raise DataError(
            f"{path}: key frame {number} is malformed: {type(error).__name__}: {error}"
        ) from error
    return frame


_KEYS = ("cx", "cy", "cz", "l", "w", "h", "yaw", "vx", "vy")


def _plain(entry: Mapping[str, Any]) -> KeyFrame:
    """Return the key frame of a JSON object."""
    if "lidar2global" in entry:
        lidar2global, ego = _matrix(entry["lidar2global"]), np.array(entry["ego"], dtype=float)
    else:
        ego2global = _matrix(entry["ego2global"])
        lidar2global, ego = ego2global @ _matrix(entry["lidar2ego"]), ego2global[:3, 3]
    cameras = {
        name: Camera(
            file=one["file"],
            lidar2img=_matrix(one["lidar2img"]),
            size=(int(one["height"]), int(one["width"])),
        )
        for name, one in entry["cameras"].items()
    }
    boxes = [
        Box(
            name=one["class"],
            numbers=tuple(np.nan if one[k] is None else float(one[k]) for k in _KEYS),
            points=(int(one["num_lidar_pts"]), int(one["num_radar_pts"])),
            attribute=one.get("attribute") or "",
        )
        for one in entry["boxes"]
    ]
    return KeyFrame(str(entry["token"]), cameras, boxes, lidar2global, ego)


def _info(entry: Mapping[str, Any], names: Mapping[int, str]) -> KeyFrame:
    """Return the key frame of an entry of MMDetection3D 1.x.

    Boxes are cx, cy, cz (the middle), l, w, h, yaw; matrices are (3, 3) or (4, 4).
    """
    ego2global = _matrix(entry["ego2global"])
    lidar2ego = _matrix(entry["lidar_points"]["lidar2ego"])
    cameras = {
        name: Camera(
            file=f"samples/{name}/{Path(one['img_path']).name}",
            lidar2img=_matrix(one["cam2img"]) @ _matrix(one["lidar2cam"]),
            size=(int(one.get("height", _SIZE[0])), int(one.get("width", _SIZE[1]))),
        )
        for name, one in entry["images"].items()
    }
    boxes = list(_info_boxes(entry, names))
    token = str(entry.get("token", entry.get("sample_idx")))
    return KeyFrame(token, cameras, boxes, ego2global @ lidar2ego, ego2global[:3, 3])


def _info_boxes(entry: Mapping[str, Any], names: Mapping[int, str]) -> Iterator[Box]:
    for one in entry.get("instances", ()):
        velocity = [float(v) for v in one.get("velocity", (np.nan, np.nan))[:2]]
        attribute = one.get("attr_label", -1)
        yield Box(
            name=names.get(int(one["bbox_label_3d"])),
            numbers=(*map(float, one["bbox_3d"][:7]), *velocity),
            points=(int(one["num_lidar_pts"]), int(one["num_radar_pts"])),
            attribute=ATTRIBUTES[attribute] if 0 <= attribute < len(ATTRIBUTES) else "",
        )


def _names(content: Mapping[str, Any]) -> dict[int, str]:
    """Return the classes of an info file by their labels in it."""
    categories = content.get("metainfo", {}).get("categories")
    if not isinstance(categories, Mapping):
        raise DataError(
            "an info file has no metainfo.categories, which names its labels; make it anew with "
            "MMDetection3D 1.1 or newer"
        )
    return {int(label): str(name) for name, label in categories.items()}


def _matrix(values: Any) -> Numbers:
    """Return a (3, 3) or (4, 4) matrix as (4, 4)."""
    given = np.array(values, dtype=float)
    if given.shape not in ((3, 3), (4, 4)):
        raise ValueError(f"a matrix of the shape {given.shape}, expected (3, 3) or (4, 4)")
    whole = np.eye(4)
    whole[: len(given), : len(given)] = given
    return whole


def _box_json(box: Box) -> dict[str, Any]:
    numbers = (None if np.isnan(v) else v for v in box.numbers)
    return {
        "class": box.name,
        **dict(zip(_KEYS, numbers, strict=True)),
        "num_lidar_pts": box.points[0],
        "num_radar_pts": box.points[1],
        "attribute": box.attribute,
    }
