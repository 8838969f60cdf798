"""nuScenes' metric against the figures of its development kit, and cases by hand."""

import json
import math

import numpy as np
import pytest
import torch

from projects.detr3d import NuScenesMetric
from projects.detr3d.filtering import evaluated, matrix_of, quaternion_of
from projects.detr3d.metric import attribute_of
from projects.detr3d.records import Found, Objects
from projects.detr3d.scoring import CLASSES, DISTANCES, curve, errors_of, score
from razorlite.core.errors import DataError, EvaluationError

EXACT = {"abs": 1e-9, "rel": 0}


@pytest.fixture(scope="module")
def files(test_data):
    folder = test_data / "nuscenes_eval"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return [folder / f"{name}.json" for name in ("ground_truth", "submission", "expected")]


@pytest.mark.parametrize("kind", ["filtered", "unfiltered"])
def test_it_gives_the_development_kits_figures(files, kind):
    truths, results, expected = files
    known = json.loads(expected.read_text())[kind]
    scores = NuScenesMetric(filters=kind == "filtered").score(str(truths), str(results))
    for name in CLASSES:
        aps = {str(d): ap for d, ap in scores.precisions[name].items()}
        assert aps == pytest.approx(known["label_aps"][name], **EXACT)
        errors = {k: np.nan if e is None else e for k, e in known["label_tp_errors"][name].items()}
        assert scores.errors[name] == pytest.approx(errors, nan_ok=True, **EXACT)
    assert scores.class_precisions == pytest.approx(known["mean_dist_aps"], **EXACT)
    assert scores.mean_precision == pytest.approx(known["summary"]["mAP"], **EXACT)
    assert scores.detection_score() == pytest.approx(known["summary"]["NDS"], **EXACT)


def test_filters_leave_as_many_boxes_and_curves_are_the_same(files):
    truths, results, expected = (json.loads(path.read_text()) for path in files)
    known = expected["filtered"]
    by_token = {sample["token"]: sample for sample in truths}
    there = {
        t: evaluated([{**b, "sample_token": t} for b in s["gt"]], s, truth=True)
        for t, s in by_token.items()
    }
    found = {
        t: evaluated(boxes, by_token[t], truth=False) for t, boxes in results["results"].items()
    }
    for name, counts in known["counts_evaluated"].items():
        own = [
            sum(b["detection_name"] == name for some in x.values() for b in some)
            for x in (there, found)
        ]
        assert own == [counts["gt"], counts["pred"]]
    for key, numbers in known["curves"].items():
        name, distance = key.split(":")
        own = curve(there, found, name, float(distance))
        assert own.precision == pytest.approx(np.array(numbers["precision"]), abs=1e-6)
        assert own.confidence == pytest.approx(np.array(numbers["confidence"]), abs=1e-6)
        for error, values in own.errors.items():
            assert values == pytest.approx(np.array(numbers[error]), abs=1e-6)


def frame(count=3, token="a", **more):
    """Cars in a row ahead of the lidar, 5 metres apart, that all go ahead at 2 m/s."""
    boxes = torch.zeros(count, 9)
    boxes[:, 1] = 5.0 * torch.arange(1, count + 1)
    boxes[:, 3:6] = torch.tensor([4.0, 2.0, 1.5])
    boxes[:, 6], boxes[:, 8] = math.pi / 2, 2.0
    labels, points = torch.zeros(count, dtype=torch.long), torch.ones(count, 2, dtype=torch.long)
    return Objects(boxes, labels, points, token=token, **more)


def found_in(objects, scores):
    return Found(objects.boxes, torch.tensor(scores), objects.labels)


def test_all_found_is_a_score_of_one():
    metric, objects = NuScenesMetric(known_only=True), frame(attributes=("vehicle.moving",) * 3)
    metric.update([found_in(objects, [0.9, 0.8, 0.7])], [objects])
    values = metric.compute()
    assert values == pytest.approx(
        {"NDS": 1, "mAP": 1, "mATE": 0, "mASE": 0, "mAOE": 0, "mAVE": 0, "mAAE": 0, "AP/car": 1},
        abs=1e-6,
    )
    metric.known_only = False  # nine classes without an object count 0, their errors 1
    values = metric.compute()
    assert values["mAP"] == pytest.approx(0.1)
    assert list(values) == metric.value_names()


def test_what_no_annotation_tells_is_left_out_where_that_is_asked_for():
    metric, objects = NuScenesMetric(known_only=True), frame()
    unknown = objects.boxes.clone()
    unknown[:, 7:] = torch.nan
    metric.update([found_in(objects, [0.9, 0.8, 0.7])], [objects.with_boxes(unknown)])
    values = metric.compute()
    assert "mAAE" not in values
    assert "mAVE" not in values
    assert values["NDS"] == pytest.approx(1.0)


def test_boxes_move_onto_the_map_with_the_car():
    # the lidar's y axis, ahead, is the map's x axis; the car is at (100, 50)
    turn = torch.tensor([[0.0, 1, 0, 100], [-1, 0, 0, 50], [0, 0, 1, 2], [0, 0, 0, 1]]).double()
    objects = frame(1, lidar2global=turn, ego=turn[:3, 3])
    metric = NuScenesMetric()
    metric.update([found_in(objects, [0.5])], [objects])
    sample, (box,) = metric.items[0]
    assert box["translation"] == pytest.approx([105, 50, 2])
    assert box["size"] == [2.0, 4.0, 1.5]
    assert box["rotation"] == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert box["velocity"] == pytest.approx([2, 0], abs=1e-6)
    assert box["attribute_name"] == "vehicle.moving"
    assert sample["ego_translation"] == [100, 50, 2]
    assert sample["gt"][0]["translation"] == box["translation"]


def test_submission_is_written_and_evaluates_to_the_same(tmp_path):
    path, objects = tmp_path / "out" / "results.json", frame()
    metric = NuScenesMetric(submission=str(path), known_only=True)
    metric.update([found_in(objects, [0.9, 0.8, 0.7])], [objects])
    values = metric.compute()
    content = json.loads(path.read_text())
    assert content["meta"] == {
        "use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False,
        "use_external": False,
    }  # fmt: skip
    truths = [sample for sample, _ in metric.items]
    assert metric.evaluate(truths, str(path)) == values


def test_errors_of_a_match_by_hand():
    truth = {
        "translation": [1, 2, 3], "size": [2, 4, 1], "rotation": [1, 0, 0, 0],
        "velocity": [1, 0], "attribute_name": "vehicle.moving",
    }  # fmt: skip
    box = {
        "translation": [4, 6, 9], "size": [1, 4, 2],
        "rotation": [math.cos(0.75 * math.pi), 0, 0, math.sin(0.75 * math.pi)],
        "velocity": [1, 2], "attribute_name": "vehicle.parked",
    }  # fmt: skip
    # 5 metres; 4 shared of 8 + 8 - 4; 270 degrees are a quarter turn the other way
    expected = (5, 1 - 4 / 12, math.pi / 2, 2, 1)
    assert errors_of(box, truth, 2 * math.pi) == pytest.approx(expected)
    assert errors_of(box, truth, math.pi)[2] == pytest.approx(math.pi / 2)
    unknown = {**truth, "velocity": [None, None], "attribute_name": ""}
    assert [math.isnan(e) for e in errors_of(box, unknown, math.pi)] == [False] * 3 + [True] * 2


def test_of_equal_scores_the_later_box_goes_first():
    truth = {"sample_token": "a", "detection_name": "car", "translation": [0, 0, 0]}
    common = {"size": [1, 1, 1], "rotation": [1, 0, 0, 0], "velocity": [0, 0]}
    truths = {"a": [{**truth, **common, "attribute_name": ""}]}

    def box(x):
        return {**truth, **common, "translation": [x, 0, 0], "detection_score": 0.5,
                "attribute_name": ""}  # fmt: skip

    assert curve(truths, {"a": [box(9), box(0)]}, "car", 1.0).average_precision > 0.9
    assert curve(truths, {"a": [box(0), box(9)]}, "car", 1.0).average_precision < 0.5
    assert set(score(truths, {"a": []}).precisions["car"]) == set(DISTANCES)


def test_quaternions_and_matrices():
    rng = np.random.default_rng(0)
    for rotation in (*rng.standard_normal((20, 4)), np.eye(4)[1], np.eye(4)[2], np.eye(4)[3]):
        matrix = matrix_of(rotation)
        assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
        assert matrix_of(quaternion_of(matrix)) == pytest.approx(matrix, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "velocity", "expected"),
    [
        ("car", (0.3, 0), "vehicle.moving"),
        ("bus", (0.1, 0), "vehicle.stopped"),
        ("truck", (None, None), "vehicle.parked"),
        ("pedestrian", (0, 0.3), "pedestrian.moving"),
        ("pedestrian", (0, 0.1), "pedestrian.standing"),
        ("bicycle", (0, 0), "cycle.without_rider"),
        ("barrier", (5, 5), ""),
    ],
)
def test_likely_attributes(name, velocity, expected):
    assert attribute_of(name, velocity) == expected


def test_wrong_results_are_told():
    metric, objects = NuScenesMetric(), frame()
    with pytest.raises(DataError, match="got no images"):
        metric.compute()
    metric.update([found_in(objects, [0.9, 0.8, 0.7])], [objects])
    truths = [sample for sample, _ in metric.items]
    with pytest.raises(EvaluationError, match="a has no list of boxes"):
        metric.evaluate(truths, {})
    with pytest.raises(EvaluationError, match="b has results, but no ground truth"):
        metric.evaluate(truths, {"a": [], "b": []})
    with pytest.raises(EvaluationError, match="sample a has 501 boxes; nuScenes takes 500"):
        metric.evaluate(truths, {"a": metric.items[0][1][:1] * 501})
