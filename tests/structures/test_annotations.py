"""Annotations of any task: moved, packed, relabelled, and as metrics see them."""

import pickle
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, tensor

from razorlite.core.errors import DataError
from razorlite.structures import (
    Annotation,
    Detections,
    Label,
    Target,
    as_annotation,
    packed,
    unpacked,
)
from tests.engine.toys import assert_same


@dataclass(frozen=True)
class Pose(Annotation):
    joints: Tensor
    labels: Tensor
    cameras: dict[str, Tensor] = field(default_factory=dict)
    sensors: tuple[tuple[str, Tensor], ...] = ()
    token: str = ""
    image_id: int = 0


def pose():
    return Pose(
        joints=tensor([[1.0, 2, 3], [4, 5, 6]]),
        labels=tensor([1, 0]),
        cameras={"front": torch.eye(3)},
        sensors=(("lidar", tensor([0.5])),),
        token="n015",
    )


def without_values(annotation):
    return [
        annotation.joints.device.type,
        annotation.cameras["front"].device.type,
        annotation.sensors[0][1].device.type,
    ]


def test_nested_tensors_move():
    assert without_values(pose().to("meta")) == ["meta"] * 3
    assert pose().to("meta").token == "n015"


def test_a_packed_record_holds_no_tensor_and_comes_back_equal():
    plain = packed([pose(), (pose().joints, 3)])
    assert b"torch" not in pickle.dumps(packed([pose().joints, {"a": pose().labels}]))
    first, (joints, number) = unpacked(pickle.loads(pickle.dumps(plain)))
    assert_same(vars(first), vars(pose()))
    assert type(first) is Pose
    assert torch.equal(joints, pose().joints)
    assert number == 3


def test_records_inside_records_come_back():
    found = Detections(torch.ones(1, 4), tensor([0.5]), tensor([2]))
    outer = Pose(pose().joints, pose().labels, sensors=(("boxes", found),))
    (_, again) = unpacked(pickle.loads(pickle.dumps(packed(outer)))).sensors[0]
    assert isinstance(again, Detections)
    assert_same(vars(again), vars(found))
    moved = outer.to("meta").sensors[0][1]
    assert moved.boxes.is_meta


def test_tuples_with_names_and_sizes_keep_their_kind():
    class Ray(NamedTuple):
        start: Tensor
        length: float

    plain = packed({"ray": Ray(torch.ones(3), 2.0), "size": torch.Size([3, 4])})
    assert not isinstance(plain["ray"].start, Tensor)
    again = unpacked(plain)
    assert torch.equal(again["ray"].start, torch.ones(3))
    assert again["size"] == (3, 4)
    assert type(again["size"]) is torch.Size


def test_labels_make_an_annotation_countable_and_relabelled():
    assert pose().objects() == 2
    assert pose().class_labels() == {0, 1}
    assert pose().relabelled(tensor([5, 7])).labels.tolist() == [7, 5]
    assert pose().renumbered(9).image_id == 9
    assert pose().original() is not None
    assert_same(vars(pose().original()), vars(pose()))


def test_an_annotation_without_labels_counts_as_one():
    @dataclass(frozen=True)
    class Depth(Annotation):
        depth: Tensor

    depth = Depth(torch.zeros(2, 2))
    assert (depth.objects(), depth.class_labels()) == (1, set())
    assert depth.relabelled(tensor([0])) is depth
    assert depth.renumbered(3) is depth


def test_a_label_is_a_number_and_an_annotation():
    label = Label(2)
    assert label == 2
    assert (label.objects(), label.class_labels()) == (1, {2})
    assert label.relabelled(tensor([0, 0, 4])) == 4
    assert label.to("meta") == 2
    again = unpacked(pickle.loads(pickle.dumps(packed([label]))))
    assert again == [2]
    assert isinstance(again[0], Label)


def test_bare_numbers_are_labels_and_anything_else_is_told():
    assert isinstance(as_annotation(3), Label)
    assert as_annotation(tensor(3)) == 3
    assert as_annotation(pose()).token == "n015"
    with pytest.raises(DataError, match=r"gives a dict with an image.*structures\.Annotation"):
        as_annotation({"boxes": 3})


def test_a_target_counts_no_crowd_and_keeps_its_masks_for_evaluation():
    crowd = tensor([True, False])
    masks = torch.ones(2, 3, 5, dtype=torch.bool)
    target = Target(torch.zeros(2, 4), tensor([0, 1]), crowd=crowd, masks=masks)
    assert target.objects() == 1
    assert target.for_evaluation().original_masks is masks
    padded = target.padded((4, 8)).masks
    assert padded.shape == (2, 4, 8)
    assert padded.sum() == masks.sum()


def test_an_annotation_that_is_no_dataclass_is_told_so():
    class Plain(Annotation):
        pass

    for use in (lambda: Plain().to("cpu"), lambda: Plain().pack()):
        with pytest.raises(DataError, match="Plain is no dataclass, whose fields"):
            use()
