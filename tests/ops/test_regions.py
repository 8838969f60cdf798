import pytest
import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close
from torchvision.ops import roi_align

from razorlite.ops import regions


def test_levels_by_hand():
    sides = tensor([10.0, 56, 111, 112, 224, 5000])
    boxes = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    assert regions.region_levels(boxes, 4).tolist() == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("sparse", [True, False])
def test_pooling_keeps_the_order_of_boxes_over_images_and_levels(sparse, monkeypatch):
    monkeypatch.setattr(regions, "_sparse_is_faster", lambda boxes: sparse)
    maps = tuple(torch.randn(2, 3, 64 // 2**i, 64 // 2**i) for i in range(3))
    boxes = [
        tensor([[0.0, 0, 200, 200], [5, 5, 30, 40]]),
        tensor([[50.0, 60, 180, 190], [9, 9, 20, 20], [0, 0, 255, 255]]),
    ]
    got = regions.pool_regions(maps, boxes, (4, 8, 16), 5)
    flat = torch.cat(boxes)
    image = [0, 0, 1, 1, 1]
    for i, level in enumerate(regions.region_levels(flat, 3).tolist()):
        stride = 4 * 2**level
        row = torch.cat((tensor([float(image[i])]), flat[i]))[None]
        want = roi_align(maps[level], row, 5, 1 / stride, 0, aligned=True)
        assert_close(got[i : i + 1], want)


def test_pooling_no_boxes_or_shapes_only():
    maps = (torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4))
    assert regions.pool_regions(maps, [torch.zeros(0, 4)], (4, 8), 7).shape == (0, 3, 7, 7)
    meta = tuple(m.to("meta") for m in maps)
    boxes = [torch.zeros(6, 4, device="meta")]
    assert regions.pool_regions(meta, boxes, (4, 8), 7).shape == (6, 3, 7, 7)


def test_a_followed_graph_has_the_usual_call():
    maps = (torch.randn(1, 3, 16, 16), torch.randn(1, 3, 8, 8))
    boxes = tensor([[0.0, 0, 30, 30], [1, 1, 9, 9]])
    traced = torch.jit.trace(
        lambda a, b: regions.pool_regions((a, b), [boxes], (4, 8), 7), maps, check_trace=False
    )
    assert "torchvision::roi_align" in str(traced.graph)
    assert_close(traced(*maps), regions.pool_regions(maps, [boxes], (4, 8), 7))


def test_autocast_does_not_round_what_is_pooled():
    maps = (torch.randn(1, 3, 16, 16), torch.randn(1, 3, 8, 8))
    boxes = [tensor([[0.0, 0, 30, 30], [1, 1, 9, 9]])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = regions.pool_regions(maps, boxes, (4, 8), 7)
    assert torch.equal(got, regions.pool_regions(maps, boxes, (4, 8), 7))


def test_maps_of_bf16_are_pooled_in_float32_and_get_their_gradient():
    maps = [torch.randn(1, 3, 16, 16).bfloat16().requires_grad_() for _ in range(2)]
    boxes = [tensor([[0.0, 0, 30, 30], [1, 1, 9, 9]])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = regions.pool_regions(tuple(maps), boxes, (4, 8), 7)
    exact = [m.detach().float().requires_grad_() for m in maps]
    expected = regions.pool_regions(tuple(exact), boxes, (4, 8), 7)
    assert torch.equal(got, expected)
    got.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(maps, exact, strict=True):
        assert torch.equal(one.grad, other.grad.bfloat16())


def test_cropped_mask_of_a_full_box_is_full():
    mask = torch.zeros(2, 40, 60, dtype=torch.bool)
    mask[1, 10:30, 20:50] = True
    inside, half = tensor([20.0, 10, 50, 30]), tensor([5.0, 10, 35, 30])
    crops = regions.crop_masks(mask, tensor([1, 1, 0]), torch.stack((inside, half, inside)), 28)
    assert crops[0].min() == 1
    assert crops[1].sum(1).tolist() == [14.0] * 28
    assert crops[2].max() == 0


def test_centres_of_mass_by_hand():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 5] = True
    masks[1, 0, :2] = masks[1, 4, 7] = True  # columns 0, 1 and 7, rows 0, 0 and 4
    assert_close(regions.centres_of_mass(masks), tensor([[5, 2.5], [8 / 3, 4 / 3], [0, 0]]))


def test_pasting_equals_grid_sample():
    masks = torch.rand(5, 28, 28)
    corner = torch.rand(5, 2) * 30 - 5
    boxes = torch.cat((corner, corner + torch.rand(5, 2) * 60 + 1), 1)
    height, width = 48, 64
    got = regions.paste_masks(masks, boxes, (height, width), 0.5)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        x = ((torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1).expand(height, -1)
        y = ((torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1)[:, None].expand(-1, width)
        grid = torch.stack((x, y), -1)[None]
        want = F.grid_sample(masks[i][None, None], grid, align_corners=False)[0, 0] >= 0.5
        assert (got[i] != want).float().mean() < 1e-3
        assert want.any()


def test_pasting_in_parts_is_the_same(monkeypatch):
    masks, boxes = torch.rand(3, 14, 14), tensor([[1.0, 2, 30, 20]]).expand(3, 4)
    whole = regions.paste_masks(masks, boxes, (32, 40))
    monkeypatch.setattr(regions, "_LARGEST_PASTE", 1)
    assert torch.equal(regions.paste_masks(masks, boxes, (32, 40)), whole)
    assert regions.paste_masks(masks[:0], boxes[:0], (32, 40)).shape == (0, 32, 40)
