"""A teacher's outputs kept for images that come again."""

import logging

import pytest
import torch
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.distill import Distiller, DistillPair, FeatureMSE, LessonCache
from razorlite.structures import Batch
from tests.distill.toys import Toy


def taught(images=None, gigabytes=1.0, taps=("neck", "head")):
    teacher = Toy().to(memory_format=torch.channels_last)
    pairs = [DistillPair(student=name, loss=FeatureMSE) for name in taps]
    return teacher, Distiller(teacher=teacher, pairs=pairs, cache=LessonCache(gigabytes, images))


def images(count, seed=0):
    drawn = torch.randn(count, 3, 8, 12, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


def test_known_images_are_not_looked_at_again_and_equal_to_the_bit():
    teacher, distiller = taught()
    four = images(4)
    first = distiller.teach(Batch(four)).taps
    again = distiller.teach(Batch(four[[2, 0, 3, 1]].contiguous(memory_format=torch.channels_last)))
    assert teacher.calls == 1
    for name in ("neck", "head"):
        for old, new in zip(first[name], again.taps[name], strict=True):
            assert torch.equal(old[[2, 0, 3, 1]], new)
            assert old.stride() == new.stride()
    assert again.taps.calls("neck")[0][1].shape == (4, 4, 2, 3)  # as it was returned, in a tuple
    assert_close(distiller.teach(Batch(four[1:3])).taps["neck"][0], first["neck"][0][1:3])
    assert teacher.calls == 1


def test_a_new_image_is_looked_at():
    teacher, distiller = taught()
    distiller.teach(Batch(images(2)))
    other = images(2)
    other[1, 0, 0, 0] += 1e-6
    distiller.teach(Batch(other))
    assert teacher.calls == 2
    wider = torch.cat([images(2), torch.zeros(2, 3, 8, 4)], 3)
    distiller.teach(Batch(wider))
    assert teacher.calls == 3


def test_where_the_images_have_no_room_nothing_is_kept(caplog):
    # neck: 4 x 4 x 6 and 4 x 2 x 3 numbers of 4 bytes: 480 bytes an image
    teacher, distiller = taught(images=1000, gigabytes=4e-4, taps=("neck",))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            distiller.teach(Batch(images(2)))
    assert teacher.calls == 3
    [line] = [record.message for record in caplog.records]
    assert "for 1000 images need 0.00048 GB, more than the 0.0004 GB given" in line
    teacher, distiller = taught(images=800, gigabytes=4e-4, taps=("neck",))
    for _ in range(3):
        distiller.teach(Batch(images(2)))
    assert teacher.calls == 1


def test_what_has_no_row_for_each_image_is_refused():
    distiller = taught()[1]
    distiller.teacher.head.register_forward_hook(lambda module, given, maps: maps[0])
    with pytest.raises(ConfigError, match="has no row for each of 2 images; leave cache out"):
        distiller.teach(Batch(images(2)))
