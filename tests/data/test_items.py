"""Items that hold others: what a cache holds, and that nothing but (seed, epoch, index) counts."""

import random

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from razorlite.data import (
    CachedMixUp,
    CachedMosaic,
    CocoDataset,
    HSVJitter,
    Pad,
    RandomCrop,
    RandomFlip,
    Resize,
    ScaleJitter,
    ShapesDataset,
    build_loader,
)
from razorlite.data._items import IndexCache, ItemMaker, global_order
from tests.data.helpers import coco, ids, kinds, same

SIZE = (48, 48)
MIXED = [
    Resize(size=SIZE),
    CachedMosaic(size=SIZE, cache_size=5),
    ScaleJitter(size=SIZE, fit=(96, 96), scale=(0.5, 2.0), allow_empty=False, tight=True),
    HSVJitter(),
    RandomFlip(),
    Pad(size=SIZE, value=114),
    CachedMixUp(size=SIZE, cache_size=3, prob=0.7),
]
LAST = [RandomCrop(size=(40, 40)), RandomFlip()]


def mixed(count=18, **kwargs):
    dataset = ShapesDataset(num_images=count, size=(48, 64), seed=1, masks=True)
    return build_loader(dataset, transforms=MIXED, seed=5, **{"batch_size": 4, **kwargs})


class TestIndexCache:
    def test_the_oldest_leaves_by_hand(self):
        cache = IndexCache([3, 1, 4, 0, 2], 2, random_pop=False, seed=0)
        held = [cache.held(position) for position in range(5)]
        assert held == [[2, 3], [3, 1], [1, 4], [4, 0], [0, 2]]  # 0 and 2 had just passed

    @pytest.mark.parametrize("random_pop", [False, True])
    def test_as_a_list_that_items_enter_and_leave(self, random_pop):
        order, size = torch.randperm(300).tolist(), 7
        slots = np.random.default_rng(4).integers(size, size=300)
        expected, held = [], order[-size:]
        for index, slot in zip(order, slots, strict=True):
            if index not in held:
                held = [*held]
                held.pop(slot if random_pop else 0)
            else:
                held = [one for one in held if one != index]
            held = [*held, index]
            expected.append(held)
        cache = IndexCache(order, size, random_pop, seed=4)
        for position in random.Random(0).sample(range(300), 300):  # in any order
            assert cache.held(position) == expected[position]
            assert len(set(expected[position])) == size
        assert cache.held(299) == expected[299]

    def test_random_pop_keeps_some_for_long(self):
        order = list(range(400))

        def greatest_age(random_pop):
            cache = IndexCache(order, 10, random_pop, seed=1)
            return max(p - min(cache.held(p)) for p in range(50, 390))

        assert greatest_age(False) == 9
        assert 30 < greatest_age(True) < 200

    def test_fewer_items_than_it_could_hold(self):
        cache = IndexCache([1, 0], 40, random_pop=True, seed=0)
        assert sorted(cache.held(0)) == sorted(cache.held(1)) == [0, 1]


class Greys(ShapesDataset):
    """Image i is of grey i with one object; remembers which were read."""

    def __init__(self, count):
        super().__init__(num_images=count, size=(16, 16), cache=False)
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        image, target = super().__getitem__(index)
        return torch.full_like(image, index), target


def test_partners_are_those_that_the_cache_holds():
    dataset, epoch = Greys(100), 3
    mosaic = CachedMosaic(size=(16, 16), cache_size=6, fill=255, centre=(1.0, 1.0))
    items = ItemMaker(dataset=dataset, transforms=[mosaic], switch=None, seed=9, training=True)
    order = global_order(100, seed=9, epoch=epoch, shuffle=True)
    for position, index in enumerate(order):
        image, _ = items.make(epoch, index, [])
        assert (image[:, :16, :16] == index).all()
        shown = set(image.unique().tolist())
        assert shown <= set(items._caches[0].held(position))


def test_a_hit_costs_nothing_and_memory_is_bounded():
    dataset, size = Greys(120), 8
    transforms = [
        CachedMosaic(size=(16, 16), cache_size=size),
        CachedMixUp(size=(32, 32), cache_size=3, random_pop=False),
    ]
    items = ItemMaker(dataset=dataset, transforms=transforms, switch=None, seed=2, training=True)
    most = [0, 0]
    for index in global_order(120, seed=2, epoch=0, shuffle=True):
        items.make(0, index, [])
        most = [max(m, len(memory)) for m, memory in zip(most, items._memories, strict=True)]
    assert most == [size, 3]
    # every image once; what had passed before the first item, and its own others, again
    assert len(dataset.read) <= 1.25 * 120
    items.make(1, 0, [])
    assert max(len(memory) for memory in items._memories) <= 5  # an epoch starts empty


def test_mixup_takes_items_as_they_look_before_it():
    before = [Resize(size=SIZE), CachedMosaic(size=SIZE), ScaleJitter(size=SIZE), RandomFlip()]
    before.append(Pad(size=SIZE))
    mix = CachedMixUp(size=SIZE, flip=0.0, cache_size=4)
    dataset = ShapesDataset(num_images=30, size=(48, 64))
    makers = [
        ItemMaker(dataset=dataset, transforms=transforms, switch=None, seed=1, training=True)
        for transforms in (before, [*before, mix])
    ]
    alone = {index: makers[0].make(0, index, [])[0].int() for index in range(30)}
    changed = 0
    for index in range(30):
        image, _ = makers[1].make(0, index, [])
        means = {other: (alone[index] + alone[other]) // 2 for other in range(30)}
        partners = [other for other, mean in means.items() if torch.equal(mean, image.int())]
        assert len(partners) >= 1
        assert set(partners) & set(makers[1]._caches[1].held(makers[1]._position[index]))
        changed += index not in partners
    assert changed > 15


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers):
    here, there = mixed(), mixed(num_workers=workers)
    for _ in range(2):
        same(list(here), list(there))
    there.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_resuming_in_the_middle_gives_the_rest(workers):
    loader = mixed(num_workers=workers)
    list(loader)
    second = list(loader)
    loader.close()
    fresh = mixed(num_workers=workers)
    for start in (3, 1):
        fresh.set_position(1, start)
        same(list(fresh), second[start:])
    fresh.close()


@pytest.mark.parametrize("count", [16, 10, 1])
def test_ranks_joined_are_one_process(count):
    whole = list(mixed(count, batch_size=4))
    ranks = [list(mixed(count, batch_size=2, rank=r, world_size=2)) for r in range(2)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        for place, image in enumerate(batch.images):
            assert torch.equal(parts[place % 2].images[place // 2], image)


def test_epochs_have_other_mosaics():
    loader = mixed()
    first, second = ({t.image_id: t for b in loader for t in b.targets} for _ in range(2))
    assert sum(len(first[key]) != len(second[key]) for key in first) > 5


def assert_tight(batches):
    """Check that each box is the one around its mask."""
    count = 0
    for one in (one for batch in batches for one in batch.targets):
        assert len(one.masks) == len(one)
        for box, mask in zip(one.boxes, one.masks, strict=True):
            ys, xs = mask.nonzero().unbind(1)
            painted = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert_close(box, painted.float())
            count += 1
    assert count > 2 * sum(len(batch) for batch in batches)


def test_masks_and_boxes_agree():
    assert_tight(list(mixed(40, batch_size=20)))


class TestSwitch:
    def loader(self, **kwargs):
        return mixed(12, switch=(2, LAST), **kwargs)

    def test_other_transforms_from_an_epoch_on(self):
        switched, first, last = self.loader(), mixed(12), mixed(12)
        last = build_loader(first.dataset, transforms=LAST, seed=5, batch_size=4)
        for epoch in range(4):
            for loader in (switched, first, last):
                loader.set_position(epoch, 0)
            same(list(switched), list(first if epoch < 2 else last))

    def test_with_workers_and_resumed(self):
        here, there = self.loader(), self.loader(num_workers=2)
        epochs = [list(here) for _ in range(4)]
        for batches in epochs:
            same(list(there), batches)
        for epoch, start in ((2, 1), (1, 2), (3, 0)):
            there.set_position(epoch, start)
            same(list(there), epochs[epoch][start:])
        there.close()


def test_an_unreadable_partner_is_replaced_and_told_once(tmp_path):
    boxes = [(i, 5, 5, 20, 20) for i in range(1, 6)]
    dataset = CocoDataset(**coco(tmp_path, boxes, images=5))
    (tmp_path / "images" / "3.jpg").unlink()
    transforms = [CachedMosaic(size=(40, 60), cache_size=5)]
    loader = build_loader(dataset, transforms=transforms, batch_size=5)
    (batch,) = loader
    assert sorted(ids([batch])) == [1, 2, 4, 4, 5]
    assert all(len(one) >= 2 for one in batch.targets)
    assert set(kinds(dataset)) == {"unreadable image"}
    assert len(kinds(dataset)) == 1


def test_real_images(test_data):
    folder = test_data / "coco_permissive"
    dataset = CocoDataset(
        annotation=str(folder / "annotations" / "instances_train2017.json"),
        images=str(folder / "images" / "train2017"),
        masks=True,
    ).subset(range(8))
    here = build_loader(dataset, transforms=MIXED, seed=0, batch_size=4)
    there = build_loader(dataset, transforms=MIXED, seed=0, batch_size=4, num_workers=2)
    batches = list(here)
    same(batches, list(there))
    there.close()
    assert_tight(batches)
