"""Processes with images of their own drop the same parts as one that has them all."""

from types import SimpleNamespace

import pytest
import torch

from razorlite.prune import Budget, Pruner, Trial
from tests.engine.test_processes import both
from tests.prune.test_parts import SHAPE, chain


def dropped(numbers):
    """Return what goes by the losses on images of these numbers."""
    generator, batches = torch.Generator().manual_seed(0), []
    for images in torch.randn(2, 1, 3, *SHAPE, generator=generator)[numbers]:
        batches.append(SimpleNamespace(inputs=images, targets=images.mean()))

    def loss(model, batch):
        return (model(batch.inputs) - batch.targets).square().mean()

    settings = {"parts": ["channels", "blocks"], "round_to": 1, "trial": Trial(batches, loss=loss)}
    subnet = Pruner(budget=Budget(macs="60%"), **settings).plan(chain(), SHAPE)
    kept = {name: list(units) for name, units in subnet.channels.items()}
    return {"dropped": list(subnet.dropped.get("blocks", ())), "kept": kept}


def own_part(rank, folder):
    return dropped([rank])


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    found = both(own_part, tmp_path)
    assert found[0] == found[1] == dropped([0, 1])
    assert found[0]["dropped"]
