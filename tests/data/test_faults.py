"""Every fault in turn: dropped, counted and named by default, raised when strict."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data import (
    CocoDataset,
    ConcatDataset,
    ImageFolderDataset,
    ShapesDataset,
    VocDataset,
    build_loader,
    split_holdout,
)
from tests.data.helpers import coco, cut_off, kinds, noise, save_image, voc, write_xml

GOOD = (1, 5.0, 5.0, 10.0, 10.0)  # image id, x, y, w, h in a 60 x 40 image

WRONG_BOXES = {
    "zero-area box": (1, 5.0, 5.0, 0.0, 10.0),
    "inverted box": (1, 20.0, 5.0, -10.0, 10.0),
    "box outside the image": (1, 70.0, 5.0, 10.0, 10.0),
    "box of NaN or infinity": (1, float("nan"), 5.0, 10.0, 10.0),
}


@pytest.mark.parametrize("kind", WRONG_BOXES)
def test_wrong_boxes_are_dropped(tmp_path, kind):
    files = coco(tmp_path, [GOOD, WRONG_BOXES[kind]])
    dataset = CocoDataset(**files)
    assert kinds(dataset) == [kind]
    assert dataset.faults[0].file.endswith("1.jpg")
    assert dataset[0][1].boxes.tolist() == [[5, 5, 15, 15]]
    with pytest.raises(DataError, match=kind):
        CocoDataset(**files, strict=True)


def test_box_partly_outside_is_clipped(tmp_path):
    dataset = CocoDataset(**coco(tmp_path, [(1, 50.0, -4.0, 30.0, 10.0)]))
    assert dataset[0][1].boxes.tolist() == [[50, 0, 60, 6]]
    assert kinds(dataset) == ["box partly outside the image, clipped"]


def test_a_pixel_over_the_border_is_no_fault(tmp_path):
    dataset = CocoDataset(**coco(tmp_path, [(1, 50.0, 30.0, 10.5, 10.9)]), strict=True)
    assert dataset[0][1].boxes.tolist() == [[50, 30, 60, 40]]


ANNOTATION = {"id": 99, "image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5]}
WRONG_ENTRIES = {
    "unknown category": {**ANNOTATION, "category_id": 8},
    "annotation of an unknown image": {**ANNOTATION, "image_id": 55},
    "duplicate annotation": {**ANNOTATION, "id": 1, "bbox": list(GOOD[1:])},
    "box that is not four numbers": {**ANNOTATION, "bbox": [1, 2, "x", 4]},
    "annotation that is no object": "text",
}


@pytest.mark.parametrize("kind", WRONG_ENTRIES)
def test_wrong_annotations_are_dropped(tmp_path, kind):
    dataset = CocoDataset(**coco(tmp_path, [GOOD], extra=[WRONG_ENTRIES[kind]]))
    assert kinds(dataset) == [kind]
    assert len(dataset[0][1]) == 1


def test_duplicate_image_id_is_dropped(tmp_path):
    again = {"id": 1, "file_name": "1.jpg", "height": 40, "width": 60}
    dataset = CocoDataset(**coco(tmp_path, [GOOD], extra_images=[again]))
    assert kinds(dataset) == ["duplicate image id"]
    assert len(dataset) == 2


def test_object_without_a_mask_is_dropped_only_when_masks_are_wanted(tmp_path):
    polygon = {**ANNOTATION, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]]}
    files = coco(tmp_path, [GOOD], extra=[polygon])
    assert len(CocoDataset(**files, strict=True)[0][1]) == 2
    dataset = CocoDataset(**files, masks=True)
    assert kinds(dataset) == ["object without a mask"]
    assert dataset[0][1].masks.sum() == 25


def test_all_kinds_of_run_lengths_and_polygons(tmp_path):
    columns = {"size": [40, 60], "counts": [0, 80, 2320]}  # the first two columns
    square = [[10, 10, 20, 10, 20, 20, 10, 20], [30, 10, 40, 10, 40, 20, 30, 20]]
    extra = [
        {**ANNOTATION, "id": 1, "bbox": [0, 0, 2, 40], "segmentation": columns, "iscrowd": 1},
        {**ANNOTATION, "id": 2, "bbox": [10, 10, 30, 10], "segmentation": square},
    ]
    target = CocoDataset(**coco(tmp_path, [], extra=extra), masks=True)[0][1]
    assert target.crowd.tolist() == [True, False]
    assert target.masks[0, :, :2].all()
    assert target.masks.flatten(1).sum(1).tolist() == [80, 200]
    assert len(target.without_crowd().masks) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tif", "ppm"])
def test_truncated_images_are_found_at_once(tmp_path, suffix):
    entry = {"id": 9, "file_name": f"cut.{suffix}", "height": 40, "width": 60}
    files = coco(tmp_path, [GOOD], extra_images=[entry])
    cut_off(save_image(tmp_path / "images" / f"cut.{suffix}"))
    dataset = CocoDataset(**files)
    assert kinds(dataset) == ["unreadable image"]
    assert dataset.faults[0].file.endswith(f"cut.{suffix}")
    assert len(dataset) == 2


def test_missing_image_and_one_that_is_no_image(tmp_path):
    names = ("gone.jpg", "text.jpg", "empty.jpg")
    entries = [
        {"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(names, 10)
    ]
    files = coco(tmp_path, [GOOD], extra_images=entries)
    (tmp_path / "images" / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "images" / "empty.jpg").write_bytes(b"")
    dataset = CocoDataset(**files)
    assert kinds(dataset) == ["missing image", "unreadable image", "unreadable image"]
    with pytest.raises(DataError, match="3 faults") as error:
        CocoDataset(**files, strict=True)
    assert all(name in str(error.value) for name in names)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_any_colour_kind_becomes_rgb_whatever_its_suffix(tmp_path, mode):
    files = coco(tmp_path, [GOOD], images=1)
    path = tmp_path / "images" / "1.jpg"
    source = noise((40, 60))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(source)[..., 0].astype(np.uint16) * 257)
    else:
        image = source.convert("L").convert(mode) if mode in ("LA", "1") else source.convert(mode)
    image.save(path, format="JPEG" if mode == "CMYK" else "PNG")
    dataset = CocoDataset(**files, strict=True)
    assert dataset[0][0].shape == (3, 40, 60)
    assert dataset[0][0].dtype == torch.uint8
    if mode == "RGBA":
        assert torch.equal(dataset[0][0], torch.from_numpy(np.array(source)).permute(2, 0, 1))
    if mode == "I;16":
        assert torch.equal(dataset[0][0][0], torch.from_numpy(np.array(source))[..., 0])


def test_size_that_differs_from_the_annotation_drops_the_image(tmp_path):
    files = coco(tmp_path, [GOOD])
    save_image(tmp_path / "images" / "2.jpg", (50, 60))
    dataset = CocoDataset(**files)
    assert kinds(dataset) == ["image size differs from the annotation"]
    assert "60 x 50, annotated 60 x 40" in dataset.faults[0].what
    assert len(dataset) == 1


def test_exif_turning_follows_the_annotated_size(tmp_path):
    files = coco(tmp_path, [GOOD], size=(60, 40))  # annotated upright
    exif = Image.Exif()
    exif[274] = 6
    stored = noise((40, 60))
    stored.save(tmp_path / "images" / "1.jpg", exif=exif)
    dataset = CocoDataset(**files, strict=True)
    assert dataset[0][0].shape == (3, 60, 40)
    as_stored = coco(tmp_path / "stored", [GOOD], images=1)  # annotated as stored
    stored.save(tmp_path / "stored" / "images" / "1.jpg", exif=exif)
    assert CocoDataset(**as_stored, strict=True)[0][0].shape == (3, 40, 60)


def test_images_without_objects_are_kept_unless_unwanted(tmp_path):
    files = coco(tmp_path, [GOOD])
    assert len(CocoDataset(**files, strict=True)[1][1]) == 0
    assert len(CocoDataset(**files, keep_empty=False)) == 1


def test_faults_are_logged_once_with_a_summary(tmp_path, caplog):
    CocoDataset(**coco(tmp_path, [GOOD, *WRONG_BOXES.values()]))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert sum("zero-area box: 5 5 5 15" in line for line in lines) == 1
    assert "2 images and 1 objects kept" in lines[-1]


class TestVoc:
    def test_any_layout(self, tmp_path):
        objects = {"a": [("hand", 1, 2, 11, 22, 0)], "b": []}
        files = voc(tmp_path, objects, split="ImageSets/my.txt", folders=("Images", "Annotations"))
        dataset = VocDataset(**files, classes=["head", "hand"], images="Images")
        assert dataset[0][1].boxes.tolist() == [[1, 2, 11, 22]]
        assert dataset[0][1].labels.tolist() == [1]
        assert len(dataset) == 2
        shifted = VocDataset(**files, classes=["head", "hand"], images="Images", one_based=True)
        assert shifted[0][1].boxes.tolist() == [[0, 1, 11, 22]]

    def test_per_class_split_lines_and_duplicates(self, tmp_path):
        files = voc(tmp_path, {"a": [], "b": [], "c": []})
        (tmp_path / files["split"]).write_text("a 1\nb -1\n\nc  0\na 1\n")
        dataset = VocDataset(**files, classes=["x"])
        assert [key[-5] for key in dataset.keys] == ["a", "c"]
        assert kinds(dataset) == ["duplicate image"]

    def test_difficult_objects(self, tmp_path):
        objects = [("x", 1, 2, 11, 22, 1), ("x", 3, 4, 13, 24, 0)]
        files = voc(tmp_path, {"a": objects})

        def crowd(difficult):
            return VocDataset(**files, classes=["x"], difficult=difficult)[0][1].crowd.tolist()

        assert crowd("ignore") == [True, False]
        assert crowd("keep") == [False, False]
        assert crowd("drop") == [False]

    def test_wrong_objects_are_dropped(self, tmp_path):
        objects = [("x", 1, 2, "a", 22, 0), ("y", 3, 4, 13, 24, 0), ("z", 3, 4, 13, 24, 0)]
        dataset = VocDataset(**voc(tmp_path, {"a": objects}), classes=["x"], ignored_classes=["z"])
        assert kinds(dataset) == ["box that is not four numbers", "unknown category"]

    def test_size_may_be_absent(self, tmp_path):
        files = voc(tmp_path, {"a": []})
        write_xml(tmp_path / "Annotations" / "a.xml", [("x", 1, 2, 11, 22, 0)], None)
        dataset = VocDataset(**files, classes=["x"], check_images=False, strict=True)
        assert dataset[0][1].size == (40, 60)

    def test_missing_annotation_drops_the_image(self, tmp_path):
        files = voc(tmp_path, {"a": [], "b": []})
        (tmp_path / "Annotations" / "a.xml").unlink()
        dataset = VocDataset(**files, classes=["x"])
        assert kinds(dataset) == ["missing annotation"]
        assert len(dataset) == 1

    def test_malformed_xml_names_file_and_line(self, tmp_path):
        files = voc(tmp_path, {"a": []})
        (tmp_path / "Annotations" / "a.xml").write_text("<annotation>\n<object>\n</annotation>")
        with pytest.raises(DataError, match=r"a\.xml:3: malformed xml"):
            VocDataset(**files, classes=["x"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"split": "ImageSets/Main/trian.txt"}, r"no split file .*did you mean 'train.txt'"),
            ({"images": "Images"}, r"no image folder .*did you mean 'ImageSets' or 'JPEGImages'"),
            ({"annotations": "xml"}, r"no annotation folder .*there is Annotations"),
        ],
    )
    def test_missing_places_are_named(self, tmp_path, change, message):
        files = {**voc(tmp_path, {"a": []}), **change}
        with pytest.raises(DataError, match=message):
            VocDataset(**files, classes=["x"])

    def test_missing_root_names_what_is_there(self, tmp_path):
        files = voc(tmp_path / "BCCD", {"a": []})
        with pytest.raises(DataError, match=r"no data folder .*did you mean 'BCCD'"):
            VocDataset(**{**files, "root": str(tmp_path / "BCDD" / "x")}, classes=["x"])

    def test_empty_split(self, tmp_path):
        files = voc(tmp_path, {})
        with pytest.raises(DataError, match="lists no images"):
            VocDataset(**files, classes=["x"])

    def test_nothing_usable(self, tmp_path):
        files = voc(tmp_path, {"a": [], "b": []})
        for name in "ab":
            (tmp_path / "JPEGImages" / f"{name}.jpg").unlink()
        with pytest.raises(DataError, match=r"no usable image is left after 2 x missing image"):
            VocDataset(**files, classes=["x"])

    def test_relative_paths_start_at_the_data_variable(self, tmp_path, monkeypatch):
        voc(tmp_path / "cells", {"a": []})
        monkeypatch.setenv("RAZORLITE_DATA", str(tmp_path))
        dataset = VocDataset(root="cells", split="ImageSets/Main/train.txt", classes=["x"])
        assert dataset.keys == [str(tmp_path / "cells" / "JPEGImages" / "a.jpg")]


class TestMalformedCoco:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"images": [\n1,,\n]}', r"annotations.json:2: malformed json"),
            ("[]", "no list 'images'"),
            ('{"images": [], "annotations": []}', "no list 'categories'"),
            (
                '{"images": [{}], "annotations": [], "categories": [{"id": 1, "name": 5}]}',
                "lacks id or file_name",
            ),
            ('{"images": [], "annotations": [], "categories": [{}]}', "lacks 'id' or 'name'"),
            ('{"images": [], "annotations": [], "categories": []}', "has no categories"),
        ],
    )
    def test_is_named(self, tmp_path, text, message):
        files = coco(tmp_path, [])
        (tmp_path / "annotations.json").write_text(text)
        with pytest.raises(DataError, match=message):
            CocoDataset(**files)

    def test_cut_off_json(self, tmp_path):
        files = coco(tmp_path, [GOOD])
        cut_off(tmp_path / "annotations.json")
        with pytest.raises(DataError, match=r"annotations.json:1: malformed json"):
            CocoDataset(**files)

    def test_class_that_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match="no category 'cats'; did you mean 'cat'"):
            CocoDataset(**coco(tmp_path, [GOOD]), classes=["cats"])

    def test_missing_file(self, tmp_path):
        files = {**coco(tmp_path, [GOOD]), "annotation": str(tmp_path / "annotation.json")}
        with pytest.raises(DataError, match=r"did you mean 'annotations.json'"):
            CocoDataset(**files)

    def test_labels_follow_category_ids_and_classes(self, tmp_path):
        files = coco(tmp_path, [GOOD])
        assert CocoDataset(**files).classes == ("dog", "cat")
        assert CocoDataset(**files)[0][1].labels.tolist() == [1]
        assert CocoDataset(**files, classes=["cat"])[0][1].labels.tolist() == [0]
        assert json.loads((tmp_path / "annotations.json").read_text())["categories"][0]["id"] == 7


class TestFoundWhileLoading:
    def dataset(self, tmp_path, **kwargs):
        files = coco(tmp_path, [GOOD], images=4)
        dataset = CocoDataset(**files, **kwargs)
        cut_off(tmp_path / "images" / "2.jpg")
        return dataset

    @pytest.mark.parametrize("workers", [0, 1])
    def test_training_takes_the_next_image_and_reports_once(self, tmp_path, workers):
        dataset = self.dataset(tmp_path)
        loader = build_loader(dataset, batch_size=2, num_workers=workers)
        ids = [sorted(t.image_id for b in loader for t in b.targets) for _ in range(2)]
        loader.close()
        assert ids == [[1, 3, 3, 4]] * 2
        assert kinds(dataset) == ["unreadable image"]

    def test_evaluation_leaves_it_out(self, tmp_path):
        loader = build_loader(self.dataset(tmp_path), batch_size=1, training=False)
        assert [target.image_id for batch in loader for target in batch.targets] == [1, 3, 4]

    def test_strict_raises(self, tmp_path):
        loader = build_loader(self.dataset(tmp_path, strict=True), batch_size=4)
        with pytest.raises(DataError, match=r"2\.jpg: unreadable image"):
            list(loader)

    def test_no_image_at_all(self, tmp_path):
        dataset = self.dataset(tmp_path)
        for name in "134":
            (tmp_path / "images" / f"{name}.jpg").unlink()
        with pytest.raises(DataError, match="none of the 4 images can be read"):
            list(build_loader(dataset))


class TestImageFolder:
    def test_labels_follow_folders(self, tmp_path):
        for name in ("b/1.png", "a/1.jpg", "a/2.jpg"):
            save_image(tmp_path / name)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        dataset = ImageFolderDataset(root=str(tmp_path), strict=True)
        assert dataset.classes == ("a", "b")
        assert [dataset[i][1] for i in range(3)] == [0, 0, 1]
        assert ImageFolderDataset(root=str(tmp_path), classes=["b"]).classes == ("b",)

    def test_faults(self, tmp_path):
        save_image(tmp_path / "a" / "1.jpg")
        cut_off(save_image(tmp_path / "a" / "2.jpg"))
        assert kinds(ImageFolderDataset(root=str(tmp_path))) == ["unreadable image"]
        with pytest.raises(DataError, match=r"2\.jpg"):
            ImageFolderDataset(root=str(tmp_path), strict=True)
        with pytest.raises(DataError, match=r"no class folder .*there is a"):
            ImageFolderDataset(root=str(tmp_path), classes=["z"])


def test_impossible_splits_and_joins():
    shapes = ShapesDataset(num_images=3)
    with pytest.raises(DataError, match=r"above 0 and below 1, got 1.5"):
        split_holdout(shapes, 1.5)
    with pytest.raises(DataError, match="expected 2 or more"):
        split_holdout(shapes.subset([1]), 0.5)
    assert split_holdout(shapes, 0.99)[0] != []
    with pytest.raises(DataError, match="no item 3"):
        shapes.subset([3])
    with pytest.raises(DataError, match="same classes"):
        ConcatDataset(datasets=[shapes, ShapesDataset(num_images=1, classes=("circle",))])
    with pytest.raises(DataError, match="no data sets"):
        ConcatDataset(datasets=[])
