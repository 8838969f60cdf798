"""`razorlite analyze` of predictions: by hand, from files, and after `razorlite test`."""

import csv
import json

import pytest
import torch
from PIL import Image

from razorlite import recipes
from razorlite.cli import main
from razorlite.core.errors import DataError
from razorlite.data import CocoDataset, ConcatDataset, ShapesDataset
from razorlite.recipes import analyze_predictions
from razorlite.recipes.analysing import is_predictions
from razorlite.recipes.found import read_found, write_found
from razorlite.recipes.quality import worst
from razorlite.structures import Detections, Label
from tests.data.helpers import coco

# One cell found, one missed, one that is not there; category ids with a gap.
TRUTH = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 40},
        {"id": 9, "file_name": "b.png", "height": 20, "width": 40},
    ],
    "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100},
        {"id": 2, "image_id": 9, "category_id": 5, "bbox": [20, 0, 10, 10], "area": 100},
    ],
}
RESULTS = [
    {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "score": 0.9},
    {"image_id": 7, "category_id": 3, "bbox": [25, 5, 10, 10], "score": 0.3},
]


@pytest.fixture
def files(tmp_path):
    """Annotations, results, and the images of both."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 20), "gray").save(tmp_path / name)
    images = [{**one, "file_name": str(tmp_path / one["file_name"])} for one in TRUTH["images"]]
    (tmp_path / "truth.json").write_text(json.dumps({**TRUTH, "images": images}))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    return tmp_path


def test_numbers_by_hand(files, caplog):
    out = files / "out"
    found = analyze_predictions(files / "results.json", out, files / "truth.json")
    assert json.loads((out / "errors.json").read_text()) == found
    assert [one["name"] for one in found["classes"]] == ["cat", "dog"]
    assert found["classes"][0]["AP"] == pytest.approx(1.0)
    assert found["classes"][0]["threshold"] == pytest.approx(0.9)
    assert found["confusion"]["counts"] == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert found["errors"]["background"]["count"] == found["errors"]["missed"]["count"] == 1
    # scores 0.9, right, and 0.3, wrong: (0.1 + 0.3) / 2
    assert found["calibration"]["ECE"] == pytest.approx(0.2)
    assert found["worst"] == [{"image": str(files / "b.png"), "errors": 1}]
    rows = list(csv.DictReader((out / "classes.csv").open()))
    assert [row["objects"] for row in rows] == ["1", "1"]
    page = (out / "index.html").read_text()
    assert "missed (objects not found): 1 errors, which cost 0.500 of AP50" in page
    assert "1. b.png: 1 errors" in page
    assert (out / "worst" / "01.png").is_file()
    (files / "b.png").write_bytes(b"none")
    analyze_predictions(files / "results.json", files / "again", files / "truth.json")
    assert f"1 of the worst images cannot be drawn; the first is {files / 'b.png'}: " in caplog.text


def test_as_many_detections_count_as_in_test(files, capsys):
    """The right one is the second of its class."""
    dataset = CocoDataset(**coco(files / "set", [(1, 6, 4, 20, 10)]))
    boxes = torch.tensor([[30.0, 0, 40, 9], [6, 4, 26, 14]])
    found = Detections(boxes, torch.tensor([0.9, 0.8]), dataset[0][1].labels.repeat(2))
    items = [(target, found) for _, target in dataset]
    for most, missed in ((1, 1), (2, 0), (None, 0)):
        write_found(items, dataset, files / "tested", most)
        numbers = analyze_predictions(files / "tested", files / "out")
        assert numbers["max_detections"] == (most or 100)
        assert numbers["errors"]["missed"]["count"] == missed
        assert (numbers["metrics"]["AP50"] > 0) == (not missed)
    words = ["analyze", str(files / "tested"), "--out", str(files / "out"), "--json"]
    assert main([*words, "--max-detections", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"]["errors"]["missed"]["count"] == 1


def test_a_coco_json_with_scores_is_matched_by_names(files):
    """As `predict` writes it: other ids of images and categories."""
    tree = {
        "images": [{"id": 1, "file_name": "elsewhere/a.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.9}],
    }
    (files / "coco.json").write_text(json.dumps(tree))
    found = read_found(files / "coco.json", files / "truth.json")
    assert [len(detections) for _, detections in found.samples] == [1, 0]
    tree["annotations"][0]["category_id"] = 3
    (files / "coco.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="3 of a detection is not in the annotations"):
        read_found(files / "coco.json", files / "truth.json")


def of_images(*names):
    """Return COCO's images of some names, 20 x 40 pixels, with ids from 1."""
    return [{"id": i, "file_name": n, "height": 20, "width": 40} for i, n in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("known", "predicted", "expected"),
    [
        (("a/1.png", "b/1.png"), ("set/b/1.png", "set/a/1.png"), [1, 0]),
        (("b/1.png", "1.png"), ("x/1.png", "x/b/1.png"), [1, 0]),
        (("a/1.png", "a/2.png"), ("C:\\a\\2.png",), [1]),
        (("a/1.png", "b/1.png"), ("1.png",), r"1\.png could be a/1\.png or b/1\.png of the"),
        (("1.png", "2.png"), ("a/1.png", "b/1.png"), r"a/1\.png and b/1\.png are both taken for"),
    ],
)
def test_images_of_one_name_are_told_apart_by_their_paths(
    known, predicted, expected, tmp_path, caplog
):
    kinds = [{"id": 1, "name": "cat"}]
    truth = {"images": of_images(*known), "categories": kinds, "annotations": []}
    found = [
        {"image_id": i, "category_id": 1, "bbox": [0, 0, i, 1], "score": 0.5}
        for i in range(1, len(predicted) + 1)
    ]
    tree = {"images": of_images(*predicted), "categories": kinds, "annotations": found}
    for name, content in (("truth", truth), ("found", tree)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = tmp_path / "found.json", tmp_path / "truth.json"
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            read_found(*files)
        return
    widths = [int(d.boxes[0, 2]) if len(d) else 0 for _, d in read_found(*files).samples]
    assert [widths.index(i) for i in range(1, len(predicted) + 1)] == expected
    missing = "has 1 of the 2 annotated images; objects of the others count as missed"
    assert (missing in caplog.text) == (len(predicted) < len(known))


def test_a_model_that_tells_more_classes_apart(tmp_path):
    dataset = CocoDataset(**coco(tmp_path / "set", [(1, 6, 4, 20, 10)]))
    found = Detections(torch.ones(1, 4), torch.ones(1), torch.tensor([3]))
    write_found([(target, found) for _, target in dataset], dataset, tmp_path)
    assert read_found(tmp_path).classes == ["dog", "cat", "class 2", "class 3"]
    values = [(Label(0), torch.tensor([0.5, 0.3, 0.2]))]
    write_found(values, ShapesDataset(num_images=1, classes=("circle", "cross")), tmp_path)
    assert read_found(tmp_path).classes == ["circle", "cross", "class 2"]


def test_images_of_joined_sets_have_their_own_names(tmp_path):
    """Ids of both sets begin with 1."""
    parts = [CocoDataset(**coco(tmp_path / name, [(1, 6, 4, 20, 10)])) for name in "ab"]
    joined = ConcatDataset(datasets=parts)
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    write_found([(target, none) for _, target in joined], joined, tmp_path)
    assert read_found(tmp_path).names == joined.keys


@pytest.mark.parametrize(
    ("content", "truth", "message"),
    [
        ({"images": []}, None, "does not say what is true"),
        ([{"image_id": 8}], TRUTH, "do not fit COCO's format: 8"),
        (RESULTS, {"images": []}, "do not fit COCO's format: 'categories'"),
        ({"detections": [], **{k: [] for k in TRUTH}}, None, "no images to analyze"),
    ],
)
def test_wrong_files(content, truth, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content))
    known = tmp_path / "truth.json" if truth else None
    if truth:
        known.write_text(json.dumps(truth))
    with pytest.raises(DataError, match=message):
        analyze_predictions(tmp_path / "a.json", tmp_path / "out", known)


def test_a_classifier(tmp_path):
    """Three images of two classes: two are right, with 0.8 and 0.6; one is wrong with 0.9."""

    class Photos:
        classes = ("cat", "dog")
        keys = ("a", "b", "c")

        def __len__(self):
            return 3

    values = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]])
    items = list(zip(map(Label, (0, 1, 1)), values, strict=True))
    write_found(items, Photos(), tmp_path)
    assert is_predictions(tmp_path)
    found = analyze_predictions(tmp_path, tmp_path / "out")
    assert found["metrics"]["top1"] == pytest.approx(2 / 3)
    assert found["confusion"]["counts"] == [[1, 0], [1, 1]]
    assert found["classes"][1]["AUC"] == pytest.approx(0.5)  # 0.6 beats 0.2, 0.1 does not
    assert found["calibration"]["ECE"] == pytest.approx((0.2 + 0.4 + 0.9) / 3)
    assert found["worst"] == [{"image": "c", "errors": 90}]
    assert (tmp_path / "out" / "roc.png").is_file()


def test_worst_images():
    assert worst([0, 3, 1, 3], limit=2) == [1, 3]
    assert worst([0, 0]) == []


def test_what_test_writes_is_analyzed(pipeline, tmp_path, capsys):
    """Its AP is that of `test`, and its command prints one JSON object."""
    metrics = recipes.test(pipeline.subnet, pipeline.trained, as_json=True, out=tmp_path / "tested")
    words = ["analyze", str(tmp_path / "tested"), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert found["metrics"]["AP50"] == pytest.approx(metrics["AP50"], abs=1e-6)
    assert found["images"] == 4
    assert main(words[:-1]) == 0
    printed = capsys.readouterr().out
    assert "AP50 lost (dAP)" in printed
    assert "calibration error" in printed
    assert main(["analyze", *words[1:2] * 2]) == 2
