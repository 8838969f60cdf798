"""Running a model: modes, scaling to the original image, ranks."""

from dataclasses import replace

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import EvaluationError
from razorlite.evaluation import Accuracy, CocoMetric, Metric, evaluate
from razorlite.structures import Batch, Detections, Frame, Target
from tests.engine.test_processes import both


class Oracle(nn.Module):
    """Finds one box in the top left quarter of every image, and says in which mode it ran."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.BatchNorm2d(1).eval()
        self.modes = []

    def predict(self, batch):
        self.modes.append((self.training, torch.is_grad_enabled()))
        height, width = batch.images.shape[-2:]
        box = tensor([[0.0, 0.0, width / 2, height / 2]]) * self.scale
        boxes = [frame.to_original(box) for frame in batch.frames()]
        return [Detections(b, tensor([0.9]), tensor([0])) for b in boxes]


class Spy(Metric):
    def update(self, predictions, targets):
        self.items += list(zip(predictions, targets, strict=True))

    def compute(self):
        return {"count": float(len(self.need_items()))}


def batch_of(*targets, size=(32, 64)):
    return Batch(torch.zeros(len(targets), 3, *size), list(targets))


def test_boxes_come_back_to_the_original_image_and_are_clipped():
    # the image is 100 x 50 (h, w) and went in as 20 x 10
    target = Target(torch.zeros(0, 4), tensor([]).long(), size=(20, 10), original_size=(100, 50))
    boxes = tensor([[1.0, 2, 5, 8], [-3, 0, 12, 30]])
    expected = tensor([[5.0, 10, 25, 40], [0, 0, 50, 100]])
    assert_close(target.frame((32, 32)).to_original(boxes), expected)


def test_unknown_sizes_leave_the_batch_as_it_is():
    target = Target(torch.zeros(0, 4), tensor([]).long())
    assert target.frame((32, 64)) == Frame((32, 64), (32, 64))
    assert replace(target, size=(20, 30)).frame((32, 64)) == Frame((20, 30), (20, 30))


def test_masks_of_targets_come_back_to_the_original_image():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :2, :2] = True
    target = Target(torch.zeros(1, 4), tensor([0]), masks=mask, size=(4, 4), original_size=(16, 16))
    masks = target.original().masks
    assert masks.shape == (1, 16, 16)
    assert masks[0, :7, :7].all()
    assert not masks[0, 9:].any()
    annotated = torch.rand(1, 16, 16) > 0.5
    kept = replace(target, original_masks=annotated)
    assert torch.equal(kept.original().masks, annotated)


def test_targets_are_scaled_like_detections():
    target = Target(tensor([[0.0, 0, 32, 16]]), tensor([0]), size=(32, 64), original_size=(64, 128))
    spy = Spy()
    evaluate(Oracle(), [batch_of(target)], spy)
    found, evaluated = spy.items[0]
    assert_close(found.boxes, tensor([[0.0, 0, 64, 32]]))
    assert_close(evaluated.boxes, tensor([[0.0, 0, 64, 32]]))
    assert evaluated.size == (64, 128)


def test_perfect_detector_gets_perfect_metrics():
    target = Target(tensor([[0.0, 0, 32, 16]]), tensor([0]), size=(32, 64), original_size=(48, 96))
    metrics = evaluate(Oracle(), [batch_of(target, target)], CocoMetric())
    assert metrics["AP"] == pytest.approx(1.0)


def test_modes_are_put_back():
    model = Oracle().train()
    model.frozen.eval()
    target = Target(torch.zeros(0, 4), tensor([]).long())
    evaluate(model, [batch_of(target)], Spy())
    assert model.modes == [(False, False)]
    assert model.training
    assert not model.frozen.training


def test_modes_are_put_back_after_an_error():
    model = Oracle().train()
    with pytest.raises(AttributeError):
        evaluate(model, [None], Spy())
    assert model.training


def test_classification_passes_tensors():
    class Constant(nn.Module):
        def predict(self, batch):
            return tensor([[0.1, 0.9]]).expand(len(batch), 2)

    batches = [Batch(torch.zeros(3, 3, 4, 4), tensor([1, 1, 0]))]
    assert evaluate(Constant(), batches, Accuracy(topk=(1,)))["top1"] == pytest.approx(2 / 3)


class TestWhatCannotBeJudged:
    empty = Target(torch.zeros(0, 4), tensor([]).long())

    @pytest.mark.parametrize("name", ["scale", "frozen.weight", "frozen.running_var"])
    def test_weights_and_statistics_of_nan(self, name):
        class Blind(Oracle):
            def predict(self, batch):
                return [found[:0] for found in super().predict(batch)]

        model = Blind()
        with torch.no_grad():
            dict([*model.named_parameters(), *model.named_buffers()])[name].fill_(torch.nan)
        with pytest.raises(EvaluationError, match=f"the model's {name} holds NaN"):
            evaluate(model, [batch_of(self.empty)], Spy())

    def test_infinite_buffers_are_fine(self):
        model = Oracle()
        model.register_buffer("mask", tensor([torch.inf, -torch.inf, 0.0]))
        evaluate(model, [batch_of(self.empty)], Spy())

    def test_results_of_other_images(self):
        class Forgetful(Oracle):
            def predict(self, batch):
                return super().predict(batch)[:1]

        with pytest.raises(EvaluationError, match="returned 1 results for 2 images"):
            evaluate(Forgetful(), [batch_of(self.empty, self.empty)], Spy())


def test_more_objects_than_the_model_finds_are_told_once(caplog):
    class Limited(Oracle):
        max_detections = 2

    crowd = tensor([False, False, True])
    few = Target(torch.zeros(3, 4), torch.zeros(3).long(), crowd=crowd)
    many = Target(torch.zeros(7, 4), torch.zeros(7).long())
    spy = Spy()
    evaluate(Limited(), [batch_of(few)], spy)
    assert not caplog.records
    for _ in range(2):
        evaluate(Limited(), [batch_of(few, many)], spy)
    (line,) = caplog.records
    assert "1 of 2 images show more objects (up to 7) than the 2 that the model finds" in (
        line.getMessage()
    )


class Named(Spy):
    """Returns the order in which it saw the images."""

    def compute(self):
        return {str(place): float(target.image_id) for place, (_, target) in enumerate(self.items)}


def one_of_two(rank, folder):
    mine = [Target(torch.zeros(0, 4), torch.zeros(0).long(), image_id=i) for i in range(5)][rank::2]
    alone = evaluate(Oracle(), [batch_of(*mine)], Named(), gather=False)
    assert list(alone.values()) == [float(t.image_id) for t in mine]
    return evaluate(Oracle(), [batch_of(*mine)], Named())


def test_ranks_judge_all_images_in_order(tmp_path):
    everything = {str(i): float(i) for i in range(5)}
    assert both(one_of_two, tmp_path) == [everything, everything]
