"""Models that torch.fx cannot follow are slimmed as exactly as others."""

import pytest
import torch
import torchvision

from razorlite.cost import count
from razorlite.prune import Budget, Channels, Pruner
from tests.models.learning import marked
from tests.prune.oracle import third, zeroed
from tests.prune.test_slim import assert_same
from tests.trace.test_watching import IMAGES, Loop
from tests.trace.zoo import stirred

SMALL = {"weights": None, "weights_backbone": None, "num_classes": 4}
SIZES = {"min_size": 64, "max_size": 96}
# every proposal stays, so that their number does not depend on weights
REGIONS = {"rpn_nms_thresh": 1.0, "rpn_pre_nms_top_n_test": 12, "rpn_post_nms_top_n_test": 12}
DETECTORS = {
    "fasterrcnn_resnet50_fpn": {**SIZES, **REGIONS, "box_score_thresh": 0.0},
    "maskrcnn_resnet50_fpn": {**SIZES, **REGIONS, "box_score_thresh": 0.0},
    "retinanet_resnet50_fpn": {**SIZES, "score_thresh": 0.0},
    "fcos_resnet50_fpn": {**SIZES, "score_thresh": 0.0},
    "ssd300_vgg16": {"score_thresh": 0.0},
}
HEADS = {
    "fasterrcnn_resnet50_fpn": ["rpn.head.conv.0.0", "roi_heads.box_head.fc6"],
    "maskrcnn_resnet50_fpn": ["roi_heads.mask_head.0.0", "roi_heads.mask_predictor.conv5_mask"],
    "retinanet_resnet50_fpn": ["head.regression_head.conv.3.0"],
    "fcos_resnet50_fpn": ["head.classification_head.conv.9"],
    "ssd300_vgg16": ["backbone.extra.4.0"],
}


def detected(model, images):
    """All boxes, scores, labels and masks that a model gives in float64."""
    with torch.no_grad():
        detections = model.double().eval()([image.double() for image in images])
    return [x for found in detections for x in found.values()]


# Those two are also compared with zeroed channels in test_zeroed_channels.
@pytest.mark.parametrize("name", marked(DETECTORS, ("maskrcnn_resnet50_fpn", "ssd300_vgg16")))
def test_torchvision_detectors_shrink_in_all_their_parts(name):
    torch.manual_seed(0)
    build = getattr(torchvision.models.detection, name)
    model = stirred(build(**SMALL, **DETECTORS[name]).eval())
    channels = Channels(model, (64, 64))
    free = {group.name for group in channels.graph.prunable}
    assert free.issuperset(HEADS[name])
    subnet = third(channels)
    slim = channels.slim(subnet)
    images = [torch.rand(3, 64, 80, generator=torch.manual_seed(1)) for _ in range(2)]
    expected, given = detected(zeroed(channels, subnet), images), detected(slim, images)
    assert all(len(x) for x in expected)
    assert_same(expected, given)
    kept = subnet.channels[HEADS[name][0]]
    assert slim.get_submodule(HEADS[name][0]).weight.shape[0] >= len(kept)


@pytest.mark.slow
def test_budget_of_a_torchvision_detector():
    build = torchvision.models.detection.fasterrcnn_resnet50_fpn
    model = stirred(build(**SMALL, **DETECTORS["fasterrcnn_resnet50_fpn"]).eval())
    torch.nn.init.zeros_(model.rpn.head.bbox_pred.weight)  # all proposals are anchors, and many
    channels = Channels(model, (64, 64))
    plan = Pruner(budget=Budget(macs="60%")).plan(channels)
    slim = count(channels.slim(plan), (64, 64))
    assert plan.cost == {"macs": slim.macs, "params": slim.params}
    assert slim.macs <= 0.6 * count(model, (64, 64)).macs


def test_lists_loops_and_branches():
    torch.manual_seed(0)
    channels = Channels(Loop().eval(), IMAGES)
    subnet = third(channels)
    slim = channels.slim(subnet)
    with torch.no_grad():
        pairs = zip(zeroed(channels, subnet)(*IMAGES), slim(*IMAGES), strict=True)
        for expected, given in pairs:
            torch.testing.assert_close(given["score"], expected["score"])
        with channels.masks(subnet):
            masked = channels.model(*IMAGES)
        torch.testing.assert_close(masked[1]["score"], slim(*IMAGES)[1]["score"])
    plan = Pruner(budget=Budget(params="60%"), round_to=1).plan(channels)
    cost = count(channels.slim(plan), IMAGES)
    assert plan.cost == {"macs": cost.macs, "params": cost.params}
