"""Heads in parts: what assigns, what the losses are, what is decoded."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from razorlite.models.heads.assignment import Assignment, labels_of
from razorlite.models.heads.atss_head import ATSSHead
from razorlite.models.heads.dense import DenseHead, sizes_in, sizes_of
from razorlite.models.heads.detr_head import DETRHead
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.gfl_head import GFLHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.rtmdet_head import RTMDetSepBNHead
from razorlite.models.tasks.anchors import AnchorGenerator
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.ops.assigning import BACKGROUND, IGNORED
from razorlite.structures import Frame, Target

SIZE = (64, 96)
SHARED = {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1, "norm": "GN"}
SQUARES = AnchorGenerator(strides=(8, 16), ratios=(1.0,), scales=(4.0,))
HEADS = {
    "retina": lambda keep: RetinaHead(
        anchor_generator=AnchorGenerator(strides=(8, 16), scales=(2.0, 4.0)),
        post_process=keep,
        **SHARED,
    ),
    "fcos": lambda keep: FCOSHead(strides=(8, 16), post_process=keep, **SHARED),
    "atss": lambda keep: ATSSHead(anchor_generator=SQUARES, post_process=keep, **SHARED),
    "gfl": lambda keep: GFLHead(anchor_generator=SQUARES, post_process=keep, **SHARED),
    "rtmdet": lambda keep: RTMDetSepBNHead(strides=(8, 16), post_process=keep, **SHARED),
}
KEEP = PostProcess(score_thr=0.6, nms_pre=50, iou_threshold=None, max_per_img=10**6)


def _head(name: str, keep: PostProcess = KEEP) -> DenseHead:
    torch.manual_seed(0)
    return HEADS[name](keep).eval()


def _raw(head: DenseHead, images: int = 2) -> tuple[tuple[Tensor, ...], ...]:
    """Return raw maps of which many class logits are large."""
    torch.manual_seed(1)
    raw = head((torch.randn(images, 8, 8, 12), torch.randn(images, 8, 4, 6)))
    noise = tuple(torch.randn_like(level) for level in raw[0])
    return noise, *raw[1:]


def _targets() -> list[Target]:
    boxes = tensor([[4.0, 4, 30, 34], [40, 10, 90, 60]])
    full = Target(boxes=boxes, labels=tensor([2, 0]), size=SIZE, original_size=SIZE)
    return [full, Target(boxes=boxes[:0], labels=tensor([], dtype=torch.int64), size=(60, 80))]


def test_an_assignment_looks_up_its_objects_by_hand():
    index = tensor([[1, BACKGROUND, 0, IGNORED], [BACKGROUND] * 4])
    found = Assignment.of(index, _targets(), [SIZE, (60, 80)], 3, quality=torch.rand(2, 4))
    assert found.labels.tolist() == [[0, 3, 2, -1], [3, 3, 3, 3]]
    assert (found.image.tolist(), found.row.tolist()) == ([0, 0], [0, 2])
    assert found.boxes.tolist() == [[40, 10, 90, 60], [4, 4, 30, 34]]
    assert found.sizes == (SIZE, (60, 80))
    assert found.quality is not None
    assert len(found.quality) == 2


def test_labels_without_objects():
    index = tensor([BACKGROUND, IGNORED])
    assert labels_of(index, tensor([], dtype=torch.int64), 5).tolist() == [5, -1]


@pytest.mark.parametrize("name", HEADS)
def test_losses_of_the_assignment_are_the_loss(name):
    head = _head(name)
    raw, targets = _raw(head), _targets()
    parts = head.losses(raw, targets, head.assign(raw, targets, sizes_in(SIZE, targets)))
    assert parts.keys() == head.loss(raw, targets, sizes_in(SIZE, targets)).keys()
    for key, value in head.loss(raw, targets, sizes_in(SIZE, targets)).items():
        assert_close(parts[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", HEADS)
def test_an_assignment_that_is_changed_changes_the_loss(name):
    head = _head(name)
    raw, targets = _raw(head), _targets()
    whole = head.assign(raw, targets, sizes_in(SIZE, targets))
    none = torch.full_like(whole.index, BACKGROUND)
    quality = None if whole.quality is None else torch.zeros(whole.index.shape)
    empty = Assignment.of(none, targets, whole.sizes, head.num_classes, quality)
    assert len(whole.row) > 0
    assert head.losses(raw, targets, empty)["loss_bbox"] == 0


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_decoding_has_fixed_shapes_and_is_what_is_predicted(name):
    """Without suppression every full slot is a detection, best first over all levels."""
    head = _head(name)
    raw, frames = _raw(head), [Frame(SIZE, SIZE), Frame((60, 80), (60, 80))]
    boxes, scores, labels = head.decode(raw, sizes_of(frames))
    slots = 50 * len(raw[0])
    assert (boxes.shape, scores.shape, labels.shape) == ((2, slots, 4), (2, slots), (2, slots))
    assert boxes[1, :, 2].max() <= 80
    assert boxes[1, :, 3].max() <= 60
    for i, found in enumerate(head.predict(raw, frames)):
        sides = boxes[i, :, 2:] - boxes[i, :, :2]
        full = (scores[i] > 0) & (sides > 0).all(1)
        order = scores[i, full].argsort(descending=True, stable=True)
        assert len(found) == full.sum() > 0
        assert_close(found.boxes, boxes[i, full][order], rtol=0, atol=0)
        assert_close(found.scores, scores[i, full][order], rtol=0, atol=0)
        assert torch.equal(found.labels, labels[i, full][order])


@pytest.mark.parametrize("limit", [7, 5000])
@torch.no_grad()
def test_no_more_candidates_of_a_level_are_decoded_than_go_into_suppression(limit):
    head = RetinaHead(num_classes=3, in_channels=4, feat_channels=4, stacked_convs=0)
    head.post_process = replace(head.post_process, nms_pre=limit, score_thr=0.0)
    raw = tuple(
        tuple(maps) for maps in head(tuple(torch.rand(1, 4, n, n) for n in (4, 2, 1, 1, 1)))
    )
    boxes, scores, _ = head.decode(raw, tensor([[32, 32]]))
    assert boxes.shape[1] == scores.shape[1] == 5 * min(limit, 4096)


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_decoding_equals_a_loop_over_all_entries(name):
    """Every anchor, cell and class in turn, as slow as it can be."""
    head = _head(name, PostProcess(score_thr=0.8, nms_pre=3000, iou_threshold=None))
    raw = _raw(head, images=1)
    boxes, scores, labels = (x[0] for x in head.decode(raw, sizes_of([Frame(SIZE, SIZE)])))
    expected = []
    for level, priors in enumerate(head.priors(raw[0])):
        logits, codes = raw[0][level][0], raw[1][level][0]
        anchors = len(logits) // head.num_classes
        width = len(codes) // anchors
        for y, x in torch.cartesian_prod(*map(torch.arange, logits.shape[1:])).tolist():
            for anchor in range(anchors):
                prior = priors[(y * logits.shape[2] + x) * anchors + anchor]
                code = codes[anchor * width : (anchor + 1) * width, y, x]
                box = head.boxes_of(prior[None], code[None])[0]
                for label in range(head.num_classes):
                    score = logits[anchor * head.num_classes + label, y, x].sigmoid()
                    if score > 0.8:
                        factor = raw[2][level][0, anchor, y, x].sigmoid() if len(raw) > 2 else 1.0
                        expected.append((float(score * factor), label, box))
    full = scores > 0
    assert int(full.sum()) == len(expected) > 0
    got = sorted(
        zip(scores[full].tolist(), labels[full].tolist(), boxes[full], strict=True),
        key=lambda row: row[:2],
    )
    for mine, theirs in zip(got, sorted(expected, key=lambda row: row[:2]), strict=True):
        assert mine[0] == pytest.approx(theirs[0], rel=1e-5)
        assert mine[1] == theirs[1]
        limits = tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
        assert_close(mine[2], torch.minimum(theirs[2].clamp(min=0), limits), atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_a_set_of_queries_is_assigned_decoded_and_learnt_in_parts():
    torch.manual_seed(0)
    head = DETRHead(num_classes=3, embed_dims=8)
    raw = head(torch.randn(2, 2, 5, 8))
    targets, sizes = _targets(), [SIZE, (60, 80)]
    layers = head.assign(raw, targets, sizes)
    assert [len(layer.row) for layer in layers] == [2, 2]
    assert all((layer.index[1] == BACKGROUND).all() for layer in layers)
    for key, value in head.loss(raw, targets, sizes).items():
        assert_close(head.losses(raw, targets, layers)[key], value, rtol=0, atol=0)
    boxes, scores, labels = head.decode(raw, tensor(sizes))
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 5, 4), (2, 5), (2, 5))
    found = head.predict(raw, [Frame(SIZE, SIZE), Frame((60, 80), (60, 80))])
    best = scores[1].argmax()
    assert_close(found[1].boxes[0], boxes[1, best])
    assert boxes[1, :, 2].max() <= 80
