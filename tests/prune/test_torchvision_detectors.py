"""Detectors of torchvision behind our face are pruned as ours are."""

import pytest
import torch
from torch.testing import assert_close

from razorlite.cost import count
from razorlite.models.detectors.torchvision_detector import TorchvisionDetector
from razorlite.prune import Channels
from razorlite.structures import Batch
from tests.models.torchvision_zoo import KINDS, torchvision_model
from tests.prune.test_slim import random_subnet

SHAPE = (64, 96)


@pytest.mark.parametrize("kind", KINDS)
def test_slim_detectors_find_what_masked_ones_do(kind):
    channels = Channels(TorchvisionDetector.of(torchvision_model(kind)), SHAPE)
    assert any("backbone.first" in group.name for group in channels.graph.prunable)
    subnet = random_subnet(channels)
    slim, masked = channels.slim(subnet), channels.masked(subnet)
    assert count(slim, SHAPE).macs < 0.7 * count(channels.model, SHAPE).macs
    batch = Batch(torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(1)))
    for ours, theirs in zip(slim.predict(batch), masked.predict(batch), strict=True):
        assert len(ours) == len(theirs) > 0
        assert_close(ours.scores, theirs.scores)
