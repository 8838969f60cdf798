import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.models.heads.region_heads import Shared2FCBBoxHead
from razorlite.models.heads.region_samples import Proposals
from razorlite.models.heads.roi_head import StandardRoIHead
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.models.tasks.samplers import OHEMSampler, PseudoSampler, RandomSampler
from razorlite.ops.assigning import BACKGROUND, IGNORED
from razorlite.structures import Target


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


def test_pseudo_sampler_keeps_all():
    assigned = torch.cat((torch.arange(30), torch.full((7000,), BACKGROUND), tensor([IGNORED])))
    assert PseudoSampler()(assigned).tolist() == assigned.tolist()
    assert PseudoSampler(add_gt_as_proposals=True).add_gt_as_proposals


def test_sampling_is_random_seeded_and_leaves_the_input():
    assigned = torch.full((1000,), BACKGROUND)
    sampler = RandomSampler(num=10)
    torch.manual_seed(3)
    first, second = sampler(assigned), sampler(assigned)
    torch.manual_seed(3)
    assert torch.equal(sampler(assigned), first)
    assert not torch.equal(first, second)
    assert (assigned == BACKGROUND).all()


def test_hard_examples_are_kept_objects_and_background_apart():
    assigned = tensor([0, 1, 2, BACKGROUND, BACKGROUND, BACKGROUND, IGNORED])
    losses = tensor([0.1, 0.9, 0.5, 3.0, 1.0, 2.0, 9.0])
    kept = OHEMSampler(num=4, pos_fraction=0.5)(assigned, losses)
    assert kept.tolist() == [-2, 1, 2, BACKGROUND, IGNORED, BACKGROUND, IGNORED]


def test_hard_examples_without_losses_say_where_they_belong():
    with pytest.raises(ConfigError, match="use RandomSampler in rpn_head"):
        OHEMSampler(num=2)(torch.full((5,), BACKGROUND))


def test_a_roi_head_learns_from_the_background_it_finds_hardest():
    """The head calls everything an object the more, the brighter it is."""
    head = Shared2FCBBoxHead(num_classes=1, in_channels=1, fc_out_channels=1, roi_feat_size=1)
    for layer in (*head.shared_fcs, head.fc_cls):
        nn.init.zeros_(layer.bias)
        nn.init.ones_(layer.weight)
    head.fc_cls.weight.data[1] = -1
    sampler = OHEMSampler(num=2, pos_fraction=0.5)
    roi_head = StandardRoIHead(bbox_head=head, sampler=sampler, strides=(1,))
    image = torch.arange(40.0).repeat(40, 1)[None, None]
    proposals = tensor([[0.0, 0, 4, 4], [30, 0, 34, 4], [10, 0, 14, 4], [0, 30, 8, 38]])
    target = Target(boxes=tensor([[0.0, 30, 8, 38]]), labels=tensor([0]))
    raw = Proposals((image,), [proposals])
    assignment = roi_head.assign(raw, [target], [(40, 40)])
    (chosen,) = assignment.samples
    assert chosen.boxes.tolist() == [[0, 30, 8, 38], [30, 0, 34, 4]]
    assert chosen.labels.tolist() == [0, 1]
    assert assignment.index.tolist() == [[0, BACKGROUND]]
    assert assignment.labels.tolist() == [[0, 1]]
    assert torch.equal(assignment.regions[0], chosen.boxes)
    assert torch.equal(assignment.boxes, target.boxes)
    losses = roi_head.losses(raw, [target], assignment)
    assert losses["loss_cls"].requires_grad
    assert_close(losses, roi_head.loss(raw, [target], [(40, 40)]))


def test_soft_suppression_is_a_setting_of_detection():
    boxes = tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [20, 20, 30, 30]])
    scores, labels = tensor([0.9, 0.8, 0.5]), torch.zeros(3, dtype=torch.long)
    assert len(PostProcess().finish(boxes, scores, labels)) == 2
    found = PostProcess(soft_nms="linear").finish(boxes, scores, labels)
    assert found.boxes[:, 2].tolist() == [10, 30, 10]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.8 * 0.4])
    assert len(PostProcess(soft_nms="gaussian", max_per_img=1).finish(boxes, scores, labels)) == 1
