"""Transforms by hand, and what must hold for any image: boxes follow what they surround."""

import colorsys
import itertools

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.data import (
    CenterCrop,
    ColourJitter,
    HSVJitter,
    Pad,
    RandomAffine,
    RandomChoice,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomIoUCrop,
    RandomResizedCrop,
    RandomSizeCrop,
    Resize,
    ScaleJitter,
    TorchvisionTransform,
)
from razorlite.data.transforms.colour import shift_hsv
from razorlite.structures import Target
from tests.data.helpers import box_masks, target


def picture(height=20, width=30):
    """Every pixel of an image its own value, as far as 256 values go."""
    return torch.arange(3 * height * width).remainder(251).to(torch.uint8).view(3, height, width)


def flipped(boxes, **kwargs):
    return RandomFlip(**kwargs)(picture(), target(boxes))


class TestFlip:
    def test_left_to_right_by_hand(self):
        # the image is 30 wide: x of 2..7 becomes 30 - 7 = 23 .. 30 - 2 = 28
        image, result = flipped([[2, 3, 7, 11]], horizontal=1.0)
        assert result.boxes.tolist() == [[23, 3, 28, 11]]
        assert torch.equal(image, picture().flip(2))

    def test_top_to_bottom_by_hand(self):
        # 20 high: y of 3..11 becomes 9..17
        image, result = flipped([[2, 3, 7, 11]], horizontal=0.0, vertical=1.0)
        assert result.boxes.tolist() == [[2, 9, 7, 17]]
        assert torch.equal(image, picture().flip(1))

    def test_masks_follow(self):
        boxes = [[2, 3, 7, 11]]
        start = target(boxes, masks=box_masks(boxes, (20, 30)))
        _, result = RandomFlip(horizontal=1.0, vertical=1.0)(picture(), start)
        assert torch.equal(result.masks, box_masks([[23, 9, 28, 17]], (20, 30)))

    def test_half_of_the_images_are_flipped(self):
        flips = sum(flipped([[2, 3, 7, 11]])[1].boxes[0, 0] == 23 for _ in range(400))
        assert 150 < flips < 250

    def test_labels_pass(self):
        image, label = RandomFlip(horizontal=1.0)(picture(), 4)
        assert label == 4
        assert torch.equal(image, picture().flip(2))


class TestResize:
    @pytest.mark.parametrize(
        ("kwargs", "expected"),
        [
            ({"size": (10, 60)}, (10, 15)),  # fits inside: the factor is 10 / 20
            ({"size": (10, 60), "keep_ratio": False}, (10, 60)),
            ({"short": 40}, (40, 60)),
            ({"short": 40, "long": 45}, (30, 45)),
            ({"short": [40], "scales": [0.5]}, (20, 30)),
            ({"size": (2, 3)}, (2, 3)),
        ],
    )
    def test_sizes(self, kwargs, expected):
        image, result = Resize(**kwargs)(picture(), target([[3, 2, 15, 10]]))
        assert image.shape == (3, *expected)
        assert image.dtype == torch.uint8
        assert result.size == expected
        assert result.original_size == (20, 30)
        y, x = expected[0] / 20, expected[1] / 30
        assert_close(result.boxes, tensor([[3 * x, 2 * y, 15 * x, 10 * y]]))

    def test_masks_keep_in_step(self):
        boxes = [[4, 2, 16, 10]]
        start = target(boxes, masks=box_masks(boxes, (20, 30)))
        _, result = Resize(size=(10, 15))(picture(), start)
        assert torch.equal(result.masks, box_masks([[2, 1, 8, 5]], (10, 15)))

    def test_several_scales_are_all_drawn(self):
        resize = Resize(short=[10, 20], scales=[1.0, 2.0])
        seen = {tuple(resize(picture(), 0)[0].shape[1:]) for _ in range(60)}
        assert seen == {(10, 15), (20, 30), (40, 60)}

    @pytest.mark.parametrize(
        "kwargs", [{}, {"size": (1, 2), "short": 3}, {"size": (0, 2)}, {"short": -1}]
    )
    def test_wrong_arguments(self, kwargs):
        with pytest.raises(ConfigError, match="Resize"):
            Resize(**kwargs)


class TestCrop:
    def test_the_middle_by_hand(self):
        # 10 x 10 of 20 x 30 starts at y 5, x 10
        boxes = [[8, 4, 14, 9], [0, 0, 5, 5], [15, 10, 40, 40]]
        start = target(boxes, labels=[0, 1, 2], masks=box_masks(boxes, (20, 30)))
        image, result = CenterCrop(size=(10, 10))(picture(), start)
        assert torch.equal(image, picture()[:, 5:15, 10:20])
        assert result.boxes.tolist() == [[0, 0, 4, 4], [5, 5, 10, 10]]
        assert result.labels.tolist() == [0, 2]
        assert torch.equal(result.masks, box_masks([[0, 0, 4, 4], [5, 5, 10, 10]], (10, 10)))
        assert result.crowd.shape == (2,)
        assert result.size == (10, 10)

    def test_slivers_are_dropped(self):
        # half a pixel of the box is left, which is no object
        _, result = CenterCrop(size=(10, 10))(picture(), target([[1, 5, 10.5, 15]]))
        assert len(result) == 0

    def test_random_crop_keeps_what_is_visible_enough(self):
        torch.manual_seed(1)
        for _ in range(50):
            start = target([[10, 5, 20, 15], [0, 0, 4, 4]])
            image, result = RandomCrop(size=(12, 14), min_visible=0.5)(picture(), start)
            assert image.shape == (3, 12, 14)
            assert 1 <= len(result) <= 2
            sides = result.boxes[:, 2:] - result.boxes[:, :2]
            # of the 10 x 10 box at least 50 pixels stay, of the 4 x 4 box at least 8
            assert sides.prod(1).max() >= 50 or (sides <= 4).all()
            assert sides.prod(1).min() >= 8

    def test_pixels_stay_under_their_boxes(self):
        # the box is painted; wherever it goes, its pixels go
        image = torch.zeros(3, 40, 50, dtype=torch.uint8)
        image[:, 12:22, 17:31] = 255
        for transform in (
            RandomCrop(size=(30, 30)),
            RandomIoUCrop(),
            RandomFlip(vertical=0.5),
            CenterCrop(size=(25, 35)),
            RandomAffine(degrees=0, fill=0),
            RandomResizedCrop(size=(40, 40)),
            RandomSizeCrop(least=20, greatest=30),
            ScaleJitter(size=(30, 30), fit=(60, 60), scale=(0.5, 1.5)),
            ScaleJitter(size=(40, 50), scale=(0.5, 1.5)),
        ):
            for _ in range(10):
                cut, result = transform(image, target([[17, 12, 31, 22]], size=(40, 50)))
                for box in result.boxes:
                    ys, xs = torch.nonzero(cut[0] > 127, as_tuple=True)
                    painted = tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                    assert (painted - box).abs().max() <= 1.5, type(transform)

    def test_iou_crop_reaches_its_threshold(self):
        crop = RandomIoUCrop(thresholds=[0.5], min_scale=0.3, trials=200)
        small = 0
        for _ in range(20):
            image, result = crop(picture(), target([[5, 5, 20, 18]]))
            area = image.shape[1] * image.shape[2]
            sides = result.boxes[:, 2:] - result.boxes[:, :2]
            inside = float(sides.prod(1).max())
            assert inside / (area + 15 * 13 - inside) >= 0.5 or area == 600
            small += area < 600
        assert small > 10

    def test_images_without_objects_can_be_cropped(self):
        for transform in (RandomCrop(size=(8, 8)), RandomIoUCrop(), RandomResizedCrop(size=(8, 8))):
            _, result = transform(picture(), target([]))
            assert result.boxes.shape == (0, 4)

    def test_cifar_crop_keeps_the_size(self):
        image, label = RandomCrop(size=(20, 30), padding=4)(picture(), 3)
        assert image.shape == (3, 20, 30)
        assert label == 3


class TestSizeCrop:
    def test_sides_are_drawn_in_their_range(self):
        sizes = [
            tuple(RandomSizeCrop(least=5, greatest=24)(picture(), 0)[0].shape[1:])
            for _ in range(400)
        ]
        heights, widths = zip(*sizes, strict=True)
        assert set(heights) == set(range(5, 21))  # the image is 20 high
        assert set(widths) == set(range(5, 25))

    def test_smaller_images_stay_whole(self):
        image, result = RandomSizeCrop()(picture(), target([[2, 3, 7, 11]]))
        assert torch.equal(image, picture())
        assert result.boxes.tolist() == [[2, 3, 7, 11]]

    def test_objects_that_leave_are_dropped(self):
        crop = RandomSizeCrop(least=4, greatest=4)
        seen = {len(crop(picture(), target([[2, 3, 7, 11]]))[1]) for _ in range(60)}
        assert seen == {0, 1}


class TestScaleJitter:
    def jitter(self, factor, **kwargs):
        return ScaleJitter(scale=(factor, factor), **kwargs)

    def test_small_images_are_left_small(self):
        # 20 x 30 fits 60 x 60 at a factor of 2; a quarter of it is 10 x 15
        boxes = [[4, 2, 16, 10]]
        start = target(boxes, masks=box_masks(boxes, (20, 30)))
        image, result = self.jitter(0.25, size=(60, 60))(picture(), start)
        assert image.shape == (3, 10, 15)
        assert result.boxes.tolist() == [[2, 1, 8, 5]]
        assert torch.equal(result.masks, box_masks([[2, 1, 8, 5]], (10, 15)))
        assert result.size == (10, 15)

    def test_a_window_of_a_large_image(self):
        # 20 x 30 becomes 80 x 120; the window of 40 x 40 is 10 x 10 of it, four times as large
        image = torch.arange(600).view(1, 20, 30).remainder(251).to(torch.uint8).expand(3, -1, -1)
        jitter = self.jitter(2.0, size=(40, 40), fit=(60, 60), mode="nearest")
        places = set()
        for _ in range(60):
            cut, result = jitter(image, target([[0, 0, 30, 20]]))
            assert cut.shape == (3, 40, 40)
            assert result.boxes.tolist() == [[0, 0, 40, 40]]
            small = cut[0, ::4, ::4]
            assert torch.equal(small.repeat_interleave(4, 0).repeat_interleave(4, 1), cut[0])
            windows = image[0].unfold(0, 10, 1).unfold(1, 10, 1)
            places |= {tuple(p) for p in (windows == small).all(-1).all(-1).nonzero().tolist()}
        assert len(places) > 30

    @pytest.mark.parametrize("allow_empty", [True, False])
    def test_windows_without_objects(self, allow_empty):
        jitter = self.jitter(2.0, size=(20, 30), allow_empty=allow_empty)
        kept = [len(jitter(picture(), target([[0, 0, 12, 9]]))[1]) for _ in range(40)]
        assert (sum(kept) == 40) == (not allow_empty)
        assert len(jitter(picture(), target([]))[1]) == 0

    def test_tight_boxes_are_those_of_the_masks(self):
        mask = box_masks([[2, 2, 6, 6]], (20, 30))
        start = target([[0, 0, 30, 20]], masks=mask)
        _, result = self.jitter(1.0, size=(20, 30), tight=True)(picture(), start)
        assert result.boxes.tolist() == [[2, 2, 6, 6]]
        _, result = self.jitter(1.0, size=(20, 30))(picture(), start)
        assert result.boxes.tolist() == [[0, 0, 30, 20]]
        gone = target([[0, 0, 30, 20]], masks=torch.zeros_like(mask))
        assert len(self.jitter(1.0, size=(20, 30), tight=True)(picture(), gone)[1]) == 0


class TestPad:
    def test_size_and_boxes_stay(self):
        image, result = Pad(multiple=16, value=114)(picture(), target([[2, 3, 7, 11]]))
        assert image.shape == (3, 32, 32)
        assert torch.equal(image[:, :20, :30], picture())
        assert (image[:, 20:] == 114).all()
        assert result.boxes.tolist() == [[2, 3, 7, 11]]
        assert result.size == (20, 30)

    def test_to_a_size(self):
        assert Pad(size=(25, 10))(picture(), 0)[0].shape == (3, 25, 30)


class TestAffine:
    def test_no_change_is_no_change(self):
        still = RandomAffine(degrees=0, translate=0, scale=(1, 1))
        boxes = [[2, 3, 7, 11]]
        start = target(boxes, masks=box_masks(boxes, (20, 30)))
        image, result = still(picture(), start)
        assert torch.equal(image, picture())
        assert_close(result.boxes, start.boxes)
        assert torch.equal(result.masks, start.masks)

    def test_scaling_is_about_the_middle(self):
        # the middle is x 15, y 10; twice as large, a side at 13 goes to 15 - 2 * 2 = 11
        double = RandomAffine(translate=0, scale=(2, 2))
        _, result = double(picture(), target([[13, 7, 18, 12]]))
        assert_close(result.boxes, tensor([[11.0, 4, 21, 14]]))

    @pytest.mark.parametrize("min_visible", [0.0, 0.5])
    def test_objects_that_leave_are_clipped_or_dropped(self, min_visible):
        # 4 wide at the left border of an image 30 wide, shifted by up to 3, by up to 2 in height
        shift = RandomAffine(translate=0.1, scale=(1, 1), min_visible=min_visible)
        widths = []
        for _ in range(200):
            boxes = shift(picture(), target([[0, 2, 4, 18]]))[1].boxes
            widths += (boxes[:, 2] - boxes[:, 0]).tolist()
            assert (boxes >= 0).all()
        assert max(widths) == pytest.approx(4)
        assert (min(widths) < 1.6) == (min_visible == 0)
        assert min(widths) >= (1 if min_visible == 0 else 1.4)

    def test_turned_boxes_hold_their_pixels(self):
        image = torch.zeros(3, 60, 60, dtype=torch.uint8)
        image[:, 20:35, 15:45] = 255
        turn = RandomAffine(degrees=90, shear=20, translate=0, scale=(0.7, 1), fill=0)
        for _ in range(20):
            turned, result = turn(image, target([[15, 20, 45, 35]], size=(60, 60)))
            ys, xs = torch.nonzero(turned[0] > 127, as_tuple=True)
            painted = tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (painted - result.boxes[0]).abs().max() <= 2


class TestColour:
    def test_boxes_stay_and_the_input_too(self):
        image, start = picture(), target([[2, 3, 7, 11]])
        for transform in (ColourJitter(hue=0.1), RandomErasing(prob=1.0)):
            changed, result = transform(image, start)
            assert changed.dtype == torch.uint8
            assert not torch.equal(changed, image)
            assert torch.equal(image, picture())
            assert result is start

    def test_never_is_never(self):
        assert torch.equal(ColourJitter(prob=0.0)(picture(), 0)[0], picture())


def colour(*values):
    return tensor(values, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5)


class TestHSV:
    @pytest.mark.parametrize(
        ("start", "shift", "expected"),
        [
            ((255, 0, 0), (120, 0, 0), (0, 255, 0)),  # a third of the circle: red to green
            ((255, 0, 0), (-120, 0, 0), (0, 0, 255)),  # and back over zero: red to blue
            ((100, 100, 100), (0, 0, 30), (130, 130, 130)),
            ((250, 250, 250), (0, 0, 30), (255, 255, 255)),
            ((10, 10, 10), (0, 0, -30), (0, 0, 0)),
            # saturation 255 * (1 - 100 / 200) = 127; 157 leaves 200 * (1 - 157 / 255) = 77
            ((200, 100, 100), (0, 30, 0), (200, 77, 77)),
            ((200, 190, 190), (0, -30, 0), (200, 200, 200)),
            ((200, 100, 100), (0, 0, 0), (200, 100, 100)),
            # red to half way to yellow; a sixth further is half way from yellow to green
            ((200, 100, 100), (30, 0, 0), (200, 150, 100)),
            ((200, 150, 100), (60, 0, 0), (150, 200, 100)),
            ((100, 120, 240), (360, 0, 0), (100, 120, 240)),
            ((100, 100, 100), (0, 51, 0), (100, 80, 80)),  # a fifth of full saturation, in red
            ((0, 0, 0), (50, 20, 0), (0, 0, 0)),
        ],
    )
    def test_by_hand(self, start, shift, expected):
        changed = shift_hsv(colour(*start), *shift)
        assert changed.dtype == torch.uint8
        assert (changed.int() - colour(*expected).int()).abs().max() <= 1

    def test_against_the_standard_library(self):
        image = torch.randint(0, 256, (3, 9, 8), dtype=torch.uint8)
        changed = shift_hsv(image, 33.0, 20.0, -12.0)
        for y, x in itertools.product(range(9), range(8)):
            h, s, v = colorsys.rgb_to_hsv(*(image[:, y, x] / 255).tolist())
            s, v = min(s + 20 / 255, 1), max(v - 12 / 255, 0)
            expected = tensor(colorsys.hsv_to_rgb((h + 33 / 360) % 1, s, v)) * 255
            assert (changed[:, y, x] - expected).abs().max() < 0.51

    def test_ranges(self):
        # only the value changes: it is the greatest channel
        jitter = HSVJitter(hue=0, saturation=0, value=20, prob=0.5)
        seen = [int(jitter(colour(120, 120, 120), 0)[0].max()) for _ in range(400)]
        assert (min(seen), max(seen)) == (100, 140)
        assert 170 < seen.count(120) < 240  # half, and a fortieth of the rest

    def test_each_is_changed_in_half_of_the_images(self):
        jitter = HSVJitter(hue=30, saturation=60, value=60)
        start = colour(180, 90, 90)
        same = sum(torch.equal(jitter(start, 0)[0], start) for _ in range(400))
        assert 25 < same < 80  # an eighth

    def test_never_is_never(self):
        image = picture()
        assert HSVJitter(prob=0)(image, 0)[0] is image


class TestChoice:
    def test_lists_are_drawn_by_weight(self):
        small, large = [Resize(size=(10, 15))], [Resize(size=(40, 60)), CenterCrop(size=(30, 30))]
        choice = RandomChoice(choices=[small, large, []], weights=[1, 2, 1])
        sizes = [tuple(choice(picture(), 0)[0].shape[1:]) for _ in range(400)]
        assert set(sizes) == {(10, 15), (30, 30), (20, 30)}
        assert 160 < sizes.count((30, 30)) < 240

    def test_boxes_go_along(self):
        choice = RandomChoice(choices=[[Resize(size=(40, 60)), RandomFlip(horizontal=1.0)]])
        _, result = choice(picture(), target([[2, 3, 7, 11]]))
        assert result.boxes.tolist() == [[46, 6, 56, 22]]

    @pytest.mark.parametrize(
        "kwargs",
        [
            {"choices": []},
            {"choices": [[], []], "weights": [1.0]},
            {"choices": [[], []], "weights": [-1.0, 2.0]},
            {"choices": [[]], "weights": [0.0]},
        ],
    )
    def test_wrong_arguments(self, kwargs):
        with pytest.raises(ConfigError, match=r"^RandomChoice\.(choices|weights)"):
            RandomChoice(**kwargs)


class TestTorchvision:
    def test_any_transform_by_name(self):
        flip = TorchvisionTransform(name="RandomHorizontalFlip", arguments={"p": 1.0})
        boxes = [[2, 3, 7, 11]]
        start = target(boxes, masks=box_masks(boxes, (20, 30)))
        image, result = flip(picture(), start)
        expected = RandomFlip(horizontal=1.0)(picture(), start)
        assert torch.equal(image, expected[0])
        assert type(image) is torch.Tensor
        assert torch.equal(result.boxes, expected[1].boxes)
        assert type(result.boxes) is torch.Tensor
        assert torch.equal(result.masks, expected[1].masks)
        assert torch.equal(flip(picture(), 2)[0], image)

    def test_wrong_names_and_arguments(self):
        with pytest.raises(ConfigError, match="did you mean 'RandomHorizontalFlip'"):
            TorchvisionTransform(name="RandomHorizontalFlipp")
        with pytest.raises(ConfigError, match="refuses the arguments"):
            TorchvisionTransform(name="RandomHorizontalFlip", arguments={"q": 1.0})


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomFlip(horizontal=1.5),
        lambda: RandomCrop(size=(0, 5)),
        lambda: RandomResizedCrop(size=(4, 4), scale=(0.5, 0.1)),
        lambda: RandomIoUCrop(min_scale=0),
        lambda: ColourJitter(hue=0.7),
        lambda: RandomErasing(prob=-0.1),
        lambda: Pad(multiple=0),
        lambda: ScaleJitter(size=(8, 8), scale=(0, 1)),
        lambda: ScaleJitter(size=(8, 8), fit=(0, 8)),
        lambda: RandomSizeCrop(least=10, greatest=9),
        lambda: HSVJitter(hue=200),
        lambda: HSVJitter(value=-1),
    ],
)
def test_values_out_of_range(make):
    with pytest.raises(ConfigError, match=r"got|takes"):
        make()


def test_crowd_and_area_stay_with_their_boxes():
    start = Target(
        boxes=tensor([[0.0, 0, 3, 3], [12, 7, 18, 12]]),
        labels=tensor([4, 5]),
        crowd=tensor([False, True]),
        area=tensor([9.0, 25.0]),
        size=(20, 30),
    )
    _, result = CenterCrop(size=(10, 10))(picture(), start)
    assert isinstance(result, Target)
    assert (result.labels.tolist(), result.crowd.tolist(), result.area.tolist()) == (
        [5],
        [True],
        [25],
    )
    assert len(result.without_crowd().area) == 0
