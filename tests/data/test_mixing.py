"""Mosaic and MixUp by hand: where every pixel, box and mask of the others goes."""

from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError, DataError
from razorlite.data import CachedMixUp, CachedMosaic, RandomChoice, build_loader
from tests.data.helpers import box_masks, target
from tests.data.test_loader import Labelled


def plain(grey, height, width, boxes, labels=None, **kwargs):
    """An image of one grey with masks that fill its boxes, and its target."""
    size = (height, width)
    masks = box_masks(boxes, size)
    image = torch.full((3, height, width), grey, dtype=torch.uint8)
    return image, target(boxes, labels=labels, size=size, masks=masks, **kwargs)


def others():
    """Images of 20 x 30 after fitting: as it is, 10 x 30; as it is, 20 x 15; halved, 20 x 15."""
    return [
        plain(2, 10, 30, [[1, 2, 5, 6]], [1]),
        plain(3, 20, 15, [[1, 2, 5, 6]], [2]),
        plain(4, 40, 30, [[2, 4, 10, 12]], [3]),
    ]


def mosaic(point, own=None, rest=None, **kwargs):
    transform = CachedMosaic(size=(20, 30), centre=(point, point), **kwargs)
    return transform.mix(*(own or plain(1, 20, 30, [[0, 0, 30, 20]], [0])), rest or others())


class TestMosaic:
    def test_places_by_hand(self):
        # a canvas of 40 x 60; the point is y 20, x 30
        image, result = mosaic(1.0)
        assert image.shape == (3, 40, 60)
        expected = torch.full((40, 60), 114, dtype=torch.uint8)
        expected[0:20, 0:30] = 1
        expected[10:20, 30:60] = 2
        expected[20:40, 15:30] = 3
        expected[20:40, 30:45] = 4
        assert torch.equal(image, expected.expand(3, -1, -1))
        assert result.boxes.tolist() == [
            [0, 0, 30, 20],
            [31, 12, 35, 16],  # 1 + 30, 2 + 10
            [16, 22, 20, 26],  # 1 + 15, 2 + 20
            [31, 22, 35, 26],  # 2 / 2 + 30, 4 / 2 + 20
        ]
        assert result.labels.tolist() == [0, 1, 2, 3]
        assert result.size == (40, 60)
        assert result.original_size == (20, 30)
        assert torch.equal(result.masks, box_masks(result.boxes.int().tolist(), (40, 60)))

    def test_what_lies_beyond_the_canvas_is_cut_off(self):
        # the point is y 10, x 15: this image starts at y -10, x -15
        own = plain(1, 20, 30, [[0, 0, 12, 9], [10, 5, 30, 20]], [5, 6])
        image, result = mosaic(0.5, own)
        assert (image[:, :10, :15] == 1).all()
        assert result.labels.tolist() == [6, 1, 2, 3]
        assert result.boxes[0].tolist() == [0, 0, 15, 10]  # 10 - 15, 5 - 10, 30 - 15, 20 - 10
        assert torch.equal(result.masks, box_masks(result.boxes.int().tolist(), (40, 60)))

    def test_beyond_the_lower_right(self):
        # the point is y 30, x 45: below it are 10 rows, to its right 15 columns
        image, result = mosaic(1.5)
        assert (image[:, 30:, 45:] == 4).all()
        assert result.boxes[3].tolist() == [46, 32, 50, 36]
        assert torch.equal(result.masks, box_masks(result.boxes.int().tolist(), (40, 60)))

    def test_points_are_drawn_all_over_the_middle(self):
        transform = CachedMosaic(size=(20, 30))
        own = plain(1, 20, 30, [[0, 0, 30, 20]])
        corners = []
        for _ in range(200):
            image, _ = transform.mix(*own, [plain(2, 20, 30, [])] * 3)
            ys, xs = (image[0] == 1).nonzero().unbind(1)
            corners.append((int(ys.max()) + 1, int(xs.max()) + 1))
        ys, xs = zip(*corners, strict=True)
        assert (min(ys), min(xs)) >= (10, 15)
        assert min(ys) < 13 < 26 < max(ys) < 30
        assert min(xs) < 18 < 41 < max(xs) < 45

    def test_crowds_and_areas_go_along(self):
        def stated(item):
            return item[0], replace(item[1], crowd=tensor([True]), area=tensor([7.0]))

        own = stated(plain(1, 20, 30, [[0, 0, 30, 20]]))
        _, result = mosaic(1.0, own)
        assert result.crowd.tolist() == [True, False, False, False]
        assert result.area is None  # the others state none
        _, result = mosaic(1.0, own, [stated(item) for item in others()])
        assert result.area.tolist() == [7.0] * 4

    def test_images_without_objects(self):
        _, result = mosaic(1.0, plain(1, 20, 30, []), [plain(2, 20, 30, [])] * 3)
        assert result.boxes.shape == (0, 4)
        assert result.masks.shape == (0, 40, 60)

    def test_inputs_stay(self):
        own, rest = plain(1, 20, 30, [[0, 0, 30, 20]]), others()
        mosaic(0.7, own, rest)
        assert (own[0] == 1).all()
        assert [item[1].boxes.tolist() for item in rest] == [
            item[1].boxes.tolist() for item in others()
        ]


def mixup(own, other, **kwargs):
    return CachedMixUp(**{"size": (20, 30), "flip": 0.0, **kwargs}).mix(*own, [other])


class TestMixUp:
    def test_means_by_hand(self):
        # the other image is 10 x 30: ten rows of it, ten rows of padding
        own = plain(100, 20, 30, [[3, 4, 20, 19]], [0])
        image, result = mixup(own, plain(51, 10, 30, [[1, 2, 5, 6]], [1]))
        assert (image[:, :10] == 75).all()  # (100 + 51) / 2, rounded down
        assert (image[:, 10:] == 107).all()  # (100 + 114) / 2
        assert result.boxes.tolist() == [[3, 4, 20, 19], [1, 2, 5, 6]]
        assert result.labels.tolist() == [0, 1]
        assert torch.equal(result.masks, box_masks(result.boxes.int().tolist(), (20, 30)))
        assert result.size == (20, 30)

    def test_mirrored(self):
        own = plain(100, 20, 30, [], [])
        _, result = mixup(own, plain(51, 10, 30, [[1, 2, 5, 6]]), flip=1.0)
        assert result.boxes.tolist() == [[25, 2, 29, 6]]
        assert torch.equal(result.masks, box_masks([[25, 2, 29, 6]], (20, 30)))

    def test_the_other_is_fitted(self):
        own = plain(100, 20, 30, [])
        _, result = mixup(own, plain(51, 40, 30, [[2, 4, 10, 12]]))
        assert result.boxes.tolist() == [[1, 2, 5, 6]]

    def test_a_larger_image_gets_a_padded_other(self):
        own = plain(100, 32, 40, [])
        image, result = mixup(own, plain(50, 20, 30, [[1, 2, 5, 6]]))
        assert image.shape == (3, 32, 40)
        assert (image[:, :20, :30] == 75).all()
        assert (image[:, 20:] == 107).all()
        assert result.masks.shape == (1, 32, 40)

    def test_a_smaller_image_gets_a_window_of_the_other(self):
        own, places = plain(0, 12, 14, []), set()
        for _ in range(60):
            other = plain(0, 20, 30, [[8, 8, 22, 12]])
            other[0][:, 8:12, 8:22] = 200
            image, result = mixup(own, other)
            assert image.shape == (3, 12, 14)
            for box in result.boxes:
                ys, xs = (image[0] == 100).nonzero().unbind(1)
                painted = tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                assert_close(box, painted.float())
                places.add(tuple(box.tolist()))
        assert len(places) > 10

    def test_scaled(self):
        # half as large: 10 x 15, then padded to 20 x 30
        own = plain(100, 20, 30, [])
        image, result = mixup(own, plain(50, 20, 30, [[2, 4, 10, 12]]), scale=(0.5, 0.5))
        assert result.boxes.tolist() == [[1, 2, 5, 6]]
        assert (image[:, :10, :15] == 75).all()
        assert (image[:, :10, 15:] == 107).all()

    def test_one_without_objects_is_not_mixed_in(self):
        own = plain(100, 20, 30, [[3, 4, 20, 19]])
        image, result = mixup(own, plain(51, 20, 30, []))
        assert image is own[0]
        assert result is own[1]


@pytest.mark.parametrize("mixing", [CachedMosaic(), CachedMixUp()])
def test_an_image_alone_cannot_be_mixed(mixing):
    with pytest.raises(ConfigError, match=r"needs other images.*directly under `transforms`"):
        mixing(*plain(1, 20, 30, []))
    with pytest.raises(ConfigError, match=rf"RandomChoice cannot hold {type(mixing).__name__}"):
        RandomChoice(choices=[[], [mixing]])
    loader = build_loader(Labelled(), transforms=[mixing])
    with pytest.raises(DataError, match="mixes images with boxes; got a Tensor with a Label"):
        list(loader)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CachedMosaic(size=(0, 5)),
        lambda: CachedMosaic(centre=(0.5, 2.5)),
        lambda: CachedMosaic(centre=(1.5, 0.5)),
        lambda: CachedMosaic(fill=256),
        lambda: CachedMosaic(cache_size=0),
        lambda: CachedMosaic(prob=2),
        lambda: CachedMixUp(scale=(0, 1)),
        lambda: CachedMixUp(flip=-1),
        lambda: CachedMixUp(cache_size=-3),
    ],
)
def test_values_out_of_range(make):
    with pytest.raises(ConfigError, match=r"^Cached(Mosaic|MixUp)\.\w+ .*got"):
        make()
