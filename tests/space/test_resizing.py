"""Images scaled inside a model: boxes, targets, and what is refused."""

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.models.resizing import ImageScale, Resizable
from razorlite.search.spaces import ElasticQueries, InputScales
from razorlite.space import ElasticDepth, prepare
from razorlite.structures import Batch, Target
from tests.space.test_spaces import rtmdet

_SIZES = tensor([[64.0, 96.0]])


def test_sides_are_multiples():
    scale = ImageScale(0.7, multiple=32)
    assert scale.size((240, 320)) == (160, 224)  # of 168 and 224
    assert scale(torch.zeros(1, 3, 240, 320)).shape == (1, 3, 160, 224)
    images = torch.zeros(1, 3, 50, 70)
    assert ImageScale(1.0)(images) is images


def test_targets_and_frames_follow():
    model = Resizable()
    model.resize = ImageScale(0.5, multiple=4)
    masks = torch.zeros(1, 16, 24, dtype=torch.bool)
    masks[0, :8, :12] = True
    target = Target(
        boxes=tensor([[2.0, 4.0, 12.0, 8.0]]), labels=tensor([0]), masks=masks, size=(16, 20)
    )
    (small,) = model.resized_targets([target], (16, 24))
    assert_close(small.boxes, tensor([[1.0, 2.0, 6.0, 4.0]]))
    assert small.size == (8, 10)
    assert small.masks.shape == (1, 8, 12)
    assert small.masks[0, :4, :6].all()
    assert small.masks.sum() == 24
    (frame,) = model.resized_frames([target.frame((16, 24))], (16, 24))
    assert (frame.size, frame.original) == ((8, 10), (16, 20))


def test_boxes_are_in_pixels_of_the_given_images():
    torch.manual_seed(0)
    model = rtmdet().eval()
    images = torch.randn(1, 3, 64, 96)
    small = nn.functional.interpolate(images, (32, 64), mode="bilinear")
    expected, scores, _ = model.decode(small, tensor([[32.0, 64.0]]))
    model.resize = ImageScale(0.6, multiple=32)
    boxes, same, _ = model.decode(images, tensor([[64.0, 96.0]]))
    assert torch.equal(scores, same)
    assert_close(boxes, expected * tensor([1.5, 2.0, 1.5, 2.0]))
    (found,) = model.predict(Batch(images))
    assert found.boxes[:, 2].max() > 64  # beyond the scaled image


@pytest.mark.parametrize("factor", [1.0, 0.6])
def test_what_a_file_gives_is_what_predict_gives(factor):
    torch.manual_seed(0)
    model = rtmdet().eval()
    model.resize = ImageScale(factor, multiple=32)
    for parameter in model.bbox_head.parameters():
        nn.init.normal_(parameter, std=0.5)  # no two scores are equal
    images = torch.randn(1, 3, 64, 96)
    (found,) = model.predict(Batch(images))
    boxes, scores, labels = (x[0] for x in model.detect(images, _SIZES))
    assert len(found.scores) > 5
    assert_close(scores[: len(found.scores)], found.scores)
    apart = (found.boxes[:, None] - boxes).abs().amax(-1)
    same = (found.labels[:, None] == labels) & ((found.scores[:, None] - scores).abs() < 1e-5)
    assert apart.masked_fill(~same, torch.inf).amin(1).max() < 1e-3


def test_masks_are_in_pixels_of_the_given_images():
    model = Resizable()
    model.resize = ImageScale(0.5, multiple=4)
    masks = torch.zeros(1, 1, 8, 12, dtype=torch.bool)
    masks[..., :4, :6] = True
    boxes, ones = tensor([[[0.0, 0.0, 6.0, 4.0]]]), torch.ones(1, 1)
    found = model.in_given_pixels((boxes, ones, ones, masks), torch.zeros(1, 3, 16, 24))
    assert_close(found[0], tensor([[[0.0, 0.0, 12.0, 8.0]]]))
    assert found[3].shape == (1, 1, 16, 24)
    assert found[3][..., :8, :12].all()
    assert found[3].sum() == 96


def test_a_scaled_model_learns():
    model = rtmdet()
    model.resize = ImageScale(0.5, multiple=32)
    target = Target(boxes=tensor([[8.0, 8.0, 40.0, 48.0]]), labels=tensor([1]))
    sum(model.loss(torch.randn(1, 3, 128, 128), [target]).values()).backward()
    assert model.bbox_head.rtm_reg[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("preparer", "message"),
    [
        (InputScales(scales=[0.5]), "InputScales is for single-stage detectors.*a Sequential"),
        (ElasticQueries(queries=[5]), "ElasticQueries is for detectors with a table .*Sequential"),
        (ElasticDepth(stages={"1": [1]}), "'1' matches ReLU; an elastic depth needs an nn.Sequen"),
        (ElasticDepth(stages={"x": [1]}), "stages: no module matches 'x'"),
        (ElasticDepth(stages={"": [9]}), "no stack has more than one depth"),
        (ElasticDepth(stages={"": "a"}), "follows 'a', which is no dimension"),
        (ElasticDepth(stages={"": "a"}, dimensions={"a": [1, 3]}), "has 2 modules.* got 1, 3"),
    ],
)
def test_what_does_not_fit_is_refused(preparer, message):
    with pytest.raises(ConfigError, match=message):
        prepare(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), [preparer])


def test_fingerprints_tell_multiples_apart():
    def fingerprint(**more):
        return prepare(rtmdet(), [InputScales(scales=[0.5], **more)], (64, 64)).fingerprint

    assert fingerprint() == fingerprint(multiple=32) != fingerprint(multiple=16)


def test_scales_of_small_images_are_refused():
    with pytest.raises(ConfigError, match=r"0.2 of 64 x 64 pixels is less than half of 32"):
        prepare(rtmdet(), [InputScales(scales=[0.2])], (64, 64))
