"""Transforms and loaders on tiny, long and empty images: what comes out is always in good form."""

import pytest
import torch

from razorlite.data import (
    CachedMixUp,
    CachedMosaic,
    CenterCrop,
    ColourJitter,
    Dataset,
    HSVJitter,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomIoUCrop,
    RandomResizedCrop,
    RandomSizeCrop,
    Resize,
    ScaleJitter,
    TorchvisionTransform,
    build_loader,
)
from tests.data.helpers import box_masks, kinds, target

SIZE = (32, 32)
ODD = [(1, 1), (1, 2), (3, 1), (2000, 4), (4, 2000), (2, 700), (50, 70)]  # height, width
TRANSFORMS = {
    "resize": Resize(size=SIZE),
    "stretch": Resize(size=SIZE, keep_ratio=False),
    "short": Resize(short=32, long=50),
    "flip": RandomFlip(horizontal=1.0, vertical=1.0),
    "pad": Pad(size=SIZE, multiple=16),
    "scale jitter": ScaleJitter(size=SIZE),
    "tight": ScaleJitter(size=SIZE, tight=True, allow_empty=False),
    "affine": RandomAffine(degrees=20.0, shear=5.0),
    "crop": RandomCrop(size=(8, 8)),
    "padded crop": RandomCrop(size=(8, 8), padding=4, allow_empty=True),
    "centre": CenterCrop(size=(8, 8)),
    "resized crop": RandomResizedCrop(size=SIZE),
    "size crop": RandomSizeCrop(least=4, greatest=9),
    "IoU crop": RandomIoUCrop(),
    "jitter": ColourJitter(hue=0.1),
    "HSV": HSVJitter(prob=1.0),
    "erase": RandomErasing(prob=1.0),
    "zoom": TorchvisionTransform(name="RandomZoomOut"),
    "turn": TorchvisionTransform(name="RandomRotation", arguments={"degrees": 30}),
}


def seen(size, count, masks):
    """An image of random pixels with `count` objects, the first of which fills it."""
    height, width = size
    places = [
        (width * k // 9, height * k // 9, width * k // 9 + 1, height * k // 9 + 1)
        for k in range(1, count)
    ]
    boxes = [(0, 0, width, height), *places][:count]
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    painted = box_masks(boxes, size) if masks else None
    return image, target(boxes, size=size, masks=painted, area=torch.ones(count))


def check(image, shown, masks):
    """Check that all parts fit each other and lie in the image."""
    height, width = image.shape[-2:]
    assert (image.dtype, image.shape[0]) == (torch.uint8, 3)
    assert 1 <= shown.size[0] <= height
    assert 1 <= shown.size[1] <= width
    assert len(shown.labels) == len(shown.crowd) == len(shown.area) == len(shown.boxes)
    assert (shown.boxes >= 0).all()
    assert (shown.boxes[:, 2:] > shown.boxes[:, :2]).all()
    limits = shown.boxes.new_tensor(shown.size[::-1])
    assert (shown.boxes[:, 2:] <= limits + 1e-3).all()
    if masks:
        assert shown.masks.shape == (len(shown), height, width)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_on_odd_images(name):
    for number, size in enumerate(ODD):
        for count, masks in ((0, True), (0, False), (3, True), (3, False)):
            torch.manual_seed(number)
            image, start = seen(size, count, masks)
            before = image.clone()
            check(*TRANSFORMS[name](image, start), masks)
            assert torch.equal(image, before)


class Odd(Dataset):
    """An image of each odd size for each number of objects."""

    def __init__(self, counts, masks, sizes=ODD):
        self._items = [(size, count) for size in sizes for count in counts]
        self._masks, self._faults = masks, []
        self.classes = ("thing",)
        self.keys = [f"{h} x {w} with {count}" for (h, w), count in self._items]

    @property
    def faults(self):
        return self._faults

    @property
    def names(self):
        return self.keys

    def annotation_bytes(self, index):
        return b""

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return seen(*self._items[index], self._masks)


@pytest.mark.parametrize("counts", [(0,), (0, 3)])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_mosaics_of_odd_and_empty_images(counts, shuffle, masks):
    transforms = [
        Resize(size=SIZE),
        CachedMosaic(size=SIZE, cache_size=5),
        ScaleJitter(size=SIZE, fit=(64, 64), scale=(0.1, 2.0), allow_empty=False, tight=True),
        HSVJitter(),
        Pad(size=SIZE, value=114),
        CachedMixUp(size=SIZE, cache_size=3, scale=(0.5, 1.5)),
    ]
    loader = build_loader(Odd(counts, masks), transforms=transforms, batch_size=4, training=shuffle)
    found = [(one, batch) for _ in range(2) for batch in loader for one in batch.targets]
    assert len(found) == 2 * len(loader.dataset)
    for shown, batch in found:
        check(batch.images[0].to(torch.uint8), shown, masks)
        assert batch.images.isfinite().all()


def test_images_too_long_to_be_enlarged_are_left_out_by_name(monkeypatch):
    monkeypatch.setattr("razorlite.data.transforms.geometry._MOST_PIXELS", 20_000)
    dataset = Odd((1,), False, sizes=[(50, 70), (2, 700)])
    loader = build_loader(dataset, transforms=[Resize(short=64)], batch_size=1, training=False)
    assert [tuple(batch.images.shape[-2:]) for batch in loader] == [(64, 90)]
    assert kinds(dataset) == ["unreadable image"]
    assert "2 x 700 with 1" in str(dataset.faults[0])
    assert "22400 x 64 of 700 x 2 pixels" in str(dataset.faults[0])
    assert Resize(short=64, long=100)(*seen((2, 700), 1, False))[0].shape == (3, 1, 100)
