"""nuScenes' metric, over a data set's frames or over files."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.detr3d.filtering import evaluated, matrix_of, quaternion_of
from projects.detr3d.records import Found, Objects
from projects.detr3d.scoring import CLASSES, ERRORS, Scores, score
from razorlite.core import distributed
from razorlite.core.errors import EvaluationError
from razorlite.core.files import write_text_atomic
from razorlite.core.registry import register
from razorlite.evaluation import Metric
from razorlite.evaluation.metric import ClassNames

Entry = dict[str, Any]
Named = Mapping[str, Sequence[Mapping[str, Any]]]

MOST = 500  # boxes found in a sample
_NAMES = dict(zip(ERRORS, ("mATE", "mASE", "mAOE", "mAVE", "mAAE"), strict=True))
_MODALITY = dict.fromkeys(["use_lidar", "use_radar", "use_map", "use_external"], False)


@register()
class NuScenesMetric(Metric):
    """mAP, the five errors of what is found, and the detection score NDS of nuScenes.

    https://arxiv.org/abs/1903.11027, section 3.1, to the figures of its development kit
    (detection_cvpr_2019).

    Args:
        classes: names of the labels; DETR3D's by default.
        filters: leave out what is far away, has no point, or stands in a bicycle rack.
        known_only: leave out classes without any object, and errors that no annotation defines.
            The published metric counts them as an AP of 0 and an error of 1; on few frames, of
            which no annotation has an attribute, it cannot come near 1.
        submission: file to which results are written in the form that nuScenes takes.
    """

    def __init__(
        self,
        *,
        classes: ClassNames | None = None,
        filters: bool = True,
        known_only: bool = False,
        submission: str | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.filters, self.known_only = classes, filters, known_only
        self.submission = submission

    def update(self, predictions: list[Found], targets: list[Objects]) -> None:
        """Take what was found in the frames of a batch, and what there is."""
        names = self.classes or CLASSES
        for found, objects in zip(predictions, targets, strict=True):
            sample = sample_of(objects.to("cpu"), names)
            self.items.append((sample, results_of(found.to("cpu"), objects.to("cpu"), names)))

    def compute(self) -> dict[str, float]:
        """Return "NDS", "mAP", the mean errors, and "AP/<class>".

        Raises:
            DataError: there were no frames.
            EvaluationError: a frame has more than 500 boxes.
        """
        samples = [sample for sample, _ in self.need_items()]
        results = {sample["token"]: boxes for sample, boxes in self.items}
        if self.submission is not None and distributed.is_main():
            write_submission(results, self.submission)
        return values_of(self.score(samples, results))

    def value_names(self) -> list[str]:
        """Return the names of the metrics; of few frames, those of classes depend on these."""
        if self.known_only:
            return []
        names = [f"AP/{name}" for name in self.classes or CLASSES]
        return ["NDS", "mAP", *_NAMES.values(), *names]

    def score(
        self, ground_truth: Sequence[Mapping[str, Any]] | str, results: Named | str
    ) -> Scores:
        """Evaluate boxes on the map, as files hold them.

        Args:
            ground_truth: a list of samples, or its JSON file: `token`, `ego_translation`,
                `bicycle_racks` and the boxes `gt`, which are as in a submission, with
                `num_lidar_pts` and `num_radar_pts`; `velocity` may be [null, null] and
                `attribute_name` empty.
            results: by sample token the boxes found, a submission around it, or its JSON file.

        Raises:
            EvaluationError: a sample has more than 500 boxes, or no list of them; or results are
                of other samples.
        """
        samples: Any = _loaded(ground_truth)
        found: Any = _loaded(results)
        found = found.get("results", found)
        _check(samples, found)
        by_token = {sample["token"]: sample for sample in samples}
        truths = {
            token: self._counting([{**b, "sample_token": token} for b in s["gt"]], s, truth=True)
            for token, s in by_token.items()
        }
        kept = {t: self._counting(boxes, by_token[t], truth=False) for t, boxes in found.items()}
        return score(truths, kept, self.classes or CLASSES, self.known_only)

    def evaluate(
        self, ground_truth: Sequence[Mapping[str, Any]] | str, results: Named | str
    ) -> dict[str, float]:
        """Return "NDS", "mAP", the mean errors and "AP/<class>"; see `score`."""
        return values_of(self.score(ground_truth, results))

    def _counting(
        self, boxes: Sequence[Mapping[str, Any]], sample: Mapping[str, Any], *, truth: bool
    ) -> Sequence[Mapping[str, Any]]:
        return evaluated(boxes, sample, truth=truth) if self.filters else boxes


def values_of(scores: Scores) -> dict[str, float]:
    """Return the metrics by name; errors that nothing defines are left out."""
    errors = {_NAMES[e]: scores.mean_error(e) for e in ERRORS}
    classes = {f"AP/{name}": ap for name, ap in scores.class_precisions.items()}
    known = {name: error for name, error in errors.items() if not np.isnan(error)}
    return {"NDS": scores.detection_score(), "mAP": scores.mean_precision, **known, **classes}


def write_submission(results: Named, path: str | Path) -> None:
    """Write boxes found, by sample token, in the form that nuScenes takes."""
    content = {"meta": {"use_camera": True, **_MODALITY}, "results": results}
    write_text_atomic(path, json.dumps(content))


def sample_of(objects: Objects, classes: Sequence[str]) -> Entry:
    """Return what a frame is known to show, on the map; see `NuScenesMetric.score`."""
    attributes = objects.attributes or ("",) * len(objects)
    gt = [
        {
            **entry,
            "num_lidar_pts": int(points[0]),
            "num_radar_pts": int(points[1]),
            "attribute_name": attribute,
        }
        for entry, points, attribute in zip(
            _on_map(objects.boxes, objects.labels, objects, classes),
            objects.points.tolist(),
            attributes,
            strict=True,
        )
    ]
    ego = [0.0] * 3 if objects.ego is None else objects.ego.tolist()
    racks = [] if objects.bicycle_racks is None else objects.bicycle_racks.tolist()
    return {
        "token": objects.token,
        "ego_translation": ego,
        "bicycle_racks": [{"translation": r[:3], "size": r[3:6], "rotation": r[6:]} for r in racks],
        "gt": gt,
    }


def results_of(found: Found, objects: Objects, classes: Sequence[str]) -> list[Entry]:
    """Return what was found in a frame as a submission has it, best first, 500 boxes at most."""
    entries = _on_map(found.boxes, found.labels, objects, classes)
    pairs = zip(entries[:MOST], found.scores.tolist(), strict=False)
    return [
        {
            "sample_token": objects.token,
            **entry,
            "detection_score": value,
            "attribute_name": attribute_of(entry["detection_name"], entry["velocity"]),
        }
        for entry, value in pairs
    ]


def attribute_of(name: str, velocity: Sequence[float | None]) -> str:
    """Return the likely attribute of a box, by its class and whether it moves."""
    speed = math.hypot(*[v or 0.0 for v in velocity])
    if name in ("traffic_cone", "barrier"):
        return ""
    if name == "pedestrian":
        return "pedestrian.moving" if speed > 0.2 else "pedestrian.standing"
    if name in ("bicycle", "motorcycle"):
        return "cycle.with_rider" if speed > 0.2 else "cycle.without_rider"
    still = "vehicle.stopped" if name == "bus" else "vehicle.parked"
    return "vehicle.moving" if speed > 0.2 else still


def _on_map(boxes: Any, labels: Any, objects: Objects, classes: Sequence[str]) -> list[Entry]:
    """Return (N, 9) boxes of the lidar's frame with positions and headings on the map."""
    whole = np.eye(4) if objects.lidar2global is None else objects.lidar2global.double().numpy()
    turn = whole[:3, :3]
    entries = []
    for box, label in zip(boxes.double().numpy(), labels.tolist(), strict=True):
        half = box[6] / 2
        rotation = turn @ matrix_of([np.cos(half), 0, 0, np.sin(half)])
        velocity = (turn @ np.array([box[7], box[8], 0.0]))[:2]
        entries.append(
            {
                "translation": (turn @ box[:3] + whole[:3, 3]).tolist(),
                "size": [float(box[4]), float(box[3]), float(box[5])],
                "rotation": quaternion_of(rotation),
                "velocity": [None if np.isnan(v) else float(v) for v in velocity],
                "detection_name": classes[label],
            }
        )
    return entries


def _loaded(value: Any) -> Any:
    return json.loads(Path(value).read_text("utf-8")) if isinstance(value, str | Path) else value


def _check(samples: Sequence[Mapping[str, Any]], results: Named) -> None:
    tokens = {sample["token"] for sample in samples}
    odd = sorted(tokens ^ results.keys())
    if odd:
        side = "no list of boxes (an empty one says that nothing was found)"
        what = side if odd[0] in tokens else "results, but no ground truth"
        raise EvaluationError(f"{len(odd)} samples differ; {odd[0]} has {what}")
    full = [token for token, boxes in results.items() if len(boxes) > MOST]
    if full:
        raise EvaluationError(
            f"sample {full[0]} has {len(results[full[0]])} boxes; nuScenes takes {MOST} at most; "
            f"keep the best"
        )
