"""YOLO text as people have it: layouts, data.yaml, lines, and what stands in the files."""

import pytest
import torch

from razorlite.core.config import build, load
from razorlite.core.errors import DataError
from razorlite.data import YoloDataset
from tests.data.helpers import kinds, save_image

SIZE = (40, 60)
NAMES = "names: [cat, dog]\n"


def write(root, labels, *, images="images", data=NAMES):
    """Write {name: text of its label file, None without one}, and an image for each."""
    for seed, (name, text) in enumerate(labels.items()):
        save_image(root / images / f"{name}.jpg", SIZE, seed=seed)
        if text is not None:
            path = root / images.replace("images", "labels") / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if data is not None:
        (root / "data.yaml").write_text(data)
    return root


def read(root, **kwargs):
    return YoloDataset(root=str(root), **kwargs)


def stems(dataset):
    return [key.rpartition("/")[2].removesuffix(".jpg") for key in dataset.keys]


class TestObjects:
    def test_boxes_are_shares_of_width_and_height(self, tmp_path):
        # centre (0.5 · 60, 0.25 · 40), sides (0.1 · 60, 0.5 · 40)
        write(tmp_path, {"a": "1 0.5 0.25 0.1 0.5\n"})
        _, target = read(tmp_path)[0]
        assert torch.allclose(target.boxes, torch.tensor([[27.0, 0.0, 33.0, 20.0]]))
        assert target.labels.tolist() == [1]

    def test_polygons_give_boxes_and_masks(self, tmp_path):
        write(tmp_path, {"a": "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n"})
        assert read(tmp_path)[0][1].masks is None
        _, target = read(tmp_path, masks=True)[0]
        assert torch.allclose(target.boxes, torch.tensor([[6.0, 4.0, 30.0, 24.0]]))
        inside = torch.zeros(SIZE, dtype=torch.bool)
        inside[4:24, 6:30] = True
        assert torch.equal(target.masks[0], inside)

    def test_keypoints_behind_a_box_are_no_polygon(self, tmp_path):
        line = "1 0.5 0.25 0.1 0.5 0.9 0.9 0.8 0.8\n"
        data = f"{NAMES}kpt_shape: [2, 2]\n"
        _, target = read(write(tmp_path, {"a": line}, data=data))[0]
        assert torch.allclose(target.boxes, torch.tensor([[27.0, 0.0, 33.0, 20.0]]))

    def test_a_box_has_no_mask(self, tmp_path):
        write(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.5 0.1 0.5 0.6\n"})
        dataset = read(tmp_path, masks=True)
        assert kinds(dataset) == ["object without a mask"]
        assert len(dataset[0][1]) == 1

    @pytest.mark.parametrize("text", ["", "\n \n", None])
    def test_images_without_objects_are_negatives(self, tmp_path, text):
        write(tmp_path, {"a": text, "b": "0 0.5 0.5 0.2 0.2"})
        dataset = read(tmp_path)
        assert [len(target) for _, target in dataset] == [0, 1]
        assert kinds(dataset) == []
        assert len(read(tmp_path, keep_empty=False)) == 1

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("0 0.5 0.5 0.2", "line that is no object"),
            ("0 0.5 0.5 0.2 0.2 0.9", "line that is no object"),
            ("cat 0.5 0.5 0.2 0.2", "line that is no object"),
            ("0.5 0.5 0.5 0.2 0.2", "line that is no object"),
            ("-1 0.5 0.5 0.2 0.2", "line that is no object"),
            ("0 nan 0.5 0.2 0.2", "line that is no object"),
            ("0 0.5 0.5 1e400 0.2", "line that is no object"),
            ("2 0.5 0.5 0.2 0.2", "unknown class id"),
            ("0 320 240 64 48", "numbers that are no shares of the image"),
            ("0 0.5 0.5 0 0.2", "zero-area box"),
            ("0 0.5 0.5 -0.2 0.2", "inverted box"),
            ("0 1.3 0.5 0.2 0.2", "box outside the image"),
        ],
    )
    def test_a_faulty_line_is_named_and_the_rest_goes_on(self, tmp_path, line, kind):
        write(tmp_path, {"a": f"1 0.5 0.5 0.5 0.5\n{line}\n"})
        dataset = read(tmp_path)
        assert kinds(dataset) == [kind]
        assert "line 2 of a.txt" in dataset.faults[0].what
        assert dataset[0][1].labels.tolist() == [1]
        with pytest.raises(DataError, match=kind):
            read(tmp_path, strict=True)

    def test_spreadsheet_lines(self, tmp_path):
        text = "\ufeff0, 0.5, 0.5, 0.2, 0.2\r\n1.0\t0.5\t0.5\t0.2\t0.2\r\n".encode()
        assert read(write(tmp_path, {"a": text}))[0][1].labels.tolist() == [0, 1]

    def test_a_label_file_that_is_no_text(self, tmp_path):
        dataset = read(write(tmp_path, {"a": b"\xff\xfe\x00\x81", "b": "0 0.5 0.5 0.2 0.2"}))
        assert kinds(dataset) == ["label file that cannot be read"]

    def test_an_image_that_cannot_be_read(self, tmp_path):
        write(tmp_path, {"a": "0 0.5 0.5 0.2 0.2", "b": "0 0.5 0.5 0.2 0.2"})
        (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
        dataset = read(tmp_path)
        assert kinds(dataset) == ["unreadable image"]
        assert stems(dataset) == ["b"]


GOOD = "0 0.5 0.5 0.2 0.2\n"


class TestLayouts:
    @pytest.mark.parametrize(
        ("images", "entry"),
        [
            ("images/train", "images/train"),
            ("train/images", "../train/images"),  # as Roboflow writes it
            ("train/images", "/content/set/train/images"),
        ],
    )
    def test_splits_of_data_yaml(self, tmp_path, images, entry):
        write(tmp_path, {"a": GOOD}, images=images)
        other = images.replace("train", "val")
        write(tmp_path, {"b": GOOD}, images=other)
        data = f"path: /nowhere\ntrain: {entry}\nval: {entry.replace('train', 'val')}\n{NAMES}"
        (tmp_path / "data.yaml").write_text(data)
        assert stems(read(tmp_path, split="train")) == ["a"]
        assert stems(read(tmp_path / "data.yaml", split="val")) == ["b"]
        assert sorted(stems(read(tmp_path))) == ["a", "b"]
        with pytest.raises(DataError, match=r"no split 'test'; there is train, val"):
            read(tmp_path, split="test")

    def test_a_list_of_images_is_a_split(self, tmp_path):
        write(tmp_path, {"a": GOOD, "b": GOOD, "c": GOOD})
        (tmp_path / "few.txt").write_text("./images/c.jpg\nimages/a.jpg\nimages/a.jpg\n")
        dataset = read(tmp_path, split="few.txt")
        assert stems(dataset) == ["c", "a"]
        assert kinds(dataset) == ["duplicate image"]

    def test_labels_beside_the_images(self, tmp_path):
        write(tmp_path, {"a": None}, images="all", data=None)
        (tmp_path / "all" / "a.txt").write_text(GOOD)
        dataset = read(tmp_path, classes=["cat"])
        assert dataset.classes == ("cat",)
        assert len(dataset[0][1]) == 1

    def test_labels_that_are_nowhere(self, tmp_path):
        with pytest.raises(DataError, match=r"no image has a label file.*labels/a\.txt"):
            read(write(tmp_path, {"a": None}))

    def test_no_data_yaml_and_no_classes(self, tmp_path):
        with pytest.raises(DataError, match=r"has no data.yaml; name the classes"):
            read(write(tmp_path, {"a": GOOD}, data=None))


class TestClasses:
    @pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", "\n  1: dog\n  0: cat"])
    def test_names_of_ids(self, tmp_path, names):
        dataset = read(write(tmp_path, {"a": "1 0.5 0.5 0.2 0.2"}, data=f"names: {names}\n"))
        assert dataset.classes == ("cat", "dog")
        assert dataset[0][1].labels.tolist() == [1]

    def test_classes_are_matched_by_name(self, tmp_path):
        write(tmp_path, {"a": "1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2"})
        assert read(tmp_path, classes=["dog", "cat"])[0][1].labels.tolist() == [0, 1]
        some = read(tmp_path, classes=["dog"])
        assert some[0][1].labels.tolist() == [0]
        assert some.left_out()["of a class that classes does not name"] == 1

    def test_unknown_class(self, tmp_path):
        with pytest.raises(DataError, match=r"no class 'dgo'; did you mean 'dog'"):
            read(write(tmp_path, {"a": GOOD}), classes=["dgo"])

    @pytest.mark.parametrize(
        "data", ["names: 3\n", "train: x\n", "names: []\n", "a: b: c\n", "- 1\n"]
    )
    def test_a_data_yaml_that_names_no_classes(self, tmp_path, data):
        with pytest.raises(DataError, match=r"data\.yaml"):
            read(write(tmp_path, {"a": GOOD}, data=data))


def test_from_a_configuration(tmp_path):
    write(tmp_path, {"a": GOOD})
    dataset = build(load({"root": str(tmp_path)}), YoloDataset)
    assert len(dataset) == 1
