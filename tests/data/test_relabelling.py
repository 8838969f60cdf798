"""Labels by name: other orders, other ids, other lists."""

import json

import pytest
import torch
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data import (
    CocoDataset,
    ConcatDataset,
    ImageFolderDataset,
    RepeatDataset,
    build_loader,
    relabelled,
)
from razorlite.data.examining import count_objects
from razorlite.data.joining import records_of

BOXES = {"cat": [2, 2, 10, 10], "dog": [20, 4, 8, 16], "cow": [1, 20, 12, 6]}


def coco(folder, names, used=("cat", "dog"), ids=None):
    """Return a set of two images, each with one object of every used class."""
    folder.mkdir()
    ids = ids or {name: number for number, name in enumerate(names, 1)}
    tree = {"images": [], "annotations": [], "categories": []}
    for index in range(2):
        Image.new("RGB", (40, 32), (index * 90, 0, 0)).save(folder / f"{index}.png")
        size = {"width": 40, "height": 32}
        tree["images"].append({"id": index, "file_name": f"{index}.png", **size})
        for name in used:
            entry = {"image_id": index, "category_id": ids[name], "bbox": BOXES[name]}
            tree["annotations"].append({"id": len(tree["annotations"]) + 1, **entry})
    tree["categories"] = [{"id": ids[name], "name": name} for name in names]
    (folder / "ann.json").write_text(json.dumps(tree))
    return CocoDataset(annotation=str(folder / "ann.json"), images=str(folder))


def boxes_by_name(dataset, index):
    """Return {name: box} of an item, by the data set's own list."""
    target = dataset[index][1]
    pairs = zip(target.labels.tolist(), target.boxes.tolist(), strict=True)
    return {dataset.classes[label]: box for label, box in pairs}


def test_the_same_names_under_other_ids_have_the_same_labels(tmp_path):
    train = coco(tmp_path / "a", ["cat", "dog"])
    other = coco(tmp_path / "b", ["cat", "dog"], ids={"cat": 9, "dog": 3})
    assert other.classes == ("dog", "cat")
    same = relabelled(other, train.classes)
    assert same.classes == train.classes
    assert boxes_by_name(same, 1) == boxes_by_name(train, 1)
    assert same.labels_of(0) == {0, 1}
    assert torch.equal(same[0][1].labels, train[0][1].labels)
    assert relabelled(train, ["cat", "dog"]) is train
    assert (same.keys, same.names) == (other.keys, other.names)


def test_classes_without_objects_are_left_out(tmp_path):
    root = coco(tmp_path / "a", ["animals", "cat", "dog"])
    same = relabelled(root, ("cat", "dog"))
    assert same.classes == ("cat", "dog")
    assert boxes_by_name(same, 0) == {k: [x, y, x + w, y + h] for k, (x, y, w, h) in BOXES.items()
                                      if k != "cow"}  # fmt: skip


def test_a_list_may_have_more_unless_it_must_be_complete(tmp_path):
    part = coco(tmp_path / "a", ["dog", "cat"])
    assert relabelled(part, ("cow", "cat", "dog")).labels_of(0) == {1, 2}
    with pytest.raises(DataError, match=r"lacks \['cow'\].*\['dog', 'cat'\] against \['cow', "):
        relabelled(part, ("cow", "cat", "dog"), complete=True)


def test_objects_of_another_class_are_refused_with_both_lists(tmp_path):
    cows = coco(tmp_path / "a", ["cat", "dog", "cow"], used=("cat", "cow"))
    with pytest.raises(DataError, match=r"data.val has objects of \['cow'\]") as caught:
        relabelled(cows, ("dog", "cat"), name="data.val")
    assert "['cat', 'dog', 'cow'] against ['dog', 'cat']" in str(caught.value)
    with pytest.raises(DataError, match="did you mean 'Cow'"):
        relabelled(cows, ("dog", "cat", "Cow"))


def test_parts_repeats_and_subsets(tmp_path):
    one = coco(tmp_path / "a", ["cat", "dog"])
    two = coco(tmp_path / "b", ["dog", "cat"])
    joined = ConcatDataset(datasets=[one, RepeatDataset(dataset=two, times=2).subset([3, 0])])
    assert joined.classes == ("cat", "dog")
    expected = boxes_by_name(one, 0)
    assert [boxes_by_name(joined, index) for index in range(4)] == [expected] * 4
    [batch] = build_loader(relabelled(joined, ("dog", "cat")), batch_size=4, training=False)
    assert [t.labels.tolist() for t in batch.targets] == [[1, 0]] * 4
    cows = coco(tmp_path / "c", ["cow", "cat"], used=("cat",))
    with pytest.raises(DataError, match=r"same classes: number 2 lacks \['dog'\]"):
        ConcatDataset(datasets=[one, cows])


def test_class_folders(tmp_path):
    for name, level in {"cat": 10, "dog": 200}.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / name / "a.png")
    given = ImageFolderDataset(root=str(tmp_path), classes=["dog", "cat"])
    same = relabelled(given, ImageFolderDataset(root=str(tmp_path)).classes)
    assert {int(image[0, 0, 0]): label for image, label in same} == {10: 0, 200: 1}
    assert [same.labels_of(index) for index in range(2)] == [{1}, {0}]


def test_records_have_the_labels_and_ids_of_the_items(tmp_path):
    """What is counted, divided and written is what training sees."""
    one = coco(tmp_path / "a", ["cat", "dog"])
    two = coco(tmp_path / "b", ["dog", "cat"], used=("cat",))
    joined = ConcatDataset(datasets=[one, RepeatDataset(dataset=two, times=2)])
    records = records_of(joined.subset([4, 0, 5]))
    for record, (_, target) in zip(records, joined.subset([4, 0, 5]), strict=True):
        assert record.labels.tolist() == target.labels.tolist()
        assert record.image_id == target.image_id
    assert count_objects(joined).objects == {"cat": 6, "dog": 2}
