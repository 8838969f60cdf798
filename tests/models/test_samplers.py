import torch
from torch import tensor

from razorlite.models.tasks.samplers import RandomSampler
from razorlite.ops.assigning import BACKGROUND, IGNORED


def _count(assigned: torch.Tensor) -> tuple[int, int, int]:
    return tuple(
        int(n) for n in ((assigned >= 0).sum(), (assigned == -1).sum(), (assigned == -2).sum())
    )


def test_objects_are_held_to_their_share_and_background_fills_up():
    assigned = torch.cat((torch.arange(30), torch.full((70,), BACKGROUND)))
    assert _count(RandomSampler(num=40, pos_fraction=0.25)(assigned)) == (10, 30, 60)
    assert _count(RandomSampler(num=80, pos_fraction=0.5)(assigned)) == (30, 50, 20)


def test_too_few_candidates_are_all_kept():
    assigned = tensor([0, BACKGROUND, IGNORED, 2])
    assert RandomSampler(num=10)(assigned).tolist() == assigned.tolist()


def test_sampling_is_random_seeded_and_leaves_the_input():
    assigned = torch.full((1000,), BACKGROUND)
    sampler = RandomSampler(num=10)
    torch.manual_seed(3)
    first, second = sampler(assigned), sampler(assigned)
    torch.manual_seed(3)
    assert torch.equal(sampler(assigned), first)
    assert not torch.equal(first, second)
    assert (assigned == BACKGROUND).all()
