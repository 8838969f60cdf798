"""Masks as COCO writes them: what is read, what is refused, and that pycocotools agrees."""

import math
import re

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from razorlite.data._segments import SegmentError, box_around, decode_segments, read_segment

SIZE = (48, 64)
SQUARE = [8, 10, 32, 10, 32, 26, 8, 26]  # x from 8 to 32, y from 10 to 26
PAIRS = [[8, 10], [32, 10], [32, 26], [8, 26]]


def columns(first, last):
    """Run lengths of the columns from `first` up to `last`."""
    return {"size": [48, 64], "counts": [48 * first, 48 * (last - first), 48 * (64 - last)]}


def compressed(mask):
    coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": coded["counts"].decode()}


def decoded(*values):
    return decode_segments([read_segment(value, SIZE) for value in values], SIZE)


def square():
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[10:26, 8:32] = True
    return mask


@pytest.mark.parametrize(
    "value",
    [
        [SQUARE],
        SQUARE,
        PAIRS,
        [PAIRS],
        [[SQUARE]],
        [[[SQUARE]]],
        [[str(x) for x in SQUARE]],
        [SQUARE, [1, 2, 3, 4], [5, 6]],  # lines and points have no area
        [[], SQUARE],
        compressed(square().numpy()),
        [compressed(square().numpy())],
        [compressed(square().numpy()), SQUARE],
    ],
)
def test_ways_to_write_a_square(value):
    assert torch.equal(decoded(value)[0], square())
    assert box_around(read_segment(value, SIZE), SIZE) == (8, 10, 32, 26)


def test_a_figure_of_eight_has_area():
    assert decoded([[8, 8, 24, 8, 8, 24, 24, 24]]).sum() > 100


def test_uncompressed_run_lengths_by_themselves_and_in_a_list():
    value = columns(3, 5)
    both = decoded(value, [value, columns(60, 64)])
    assert both.flatten(1).sum(1).tolist() == [2 * 48, 6 * 48]
    assert both[0, :, 3:5].all()
    floats = {"size": [48.0, "64"], "counts": [float(count) for count in value["counts"]]}
    assert torch.equal(decoded(floats)[0], both[0])
    assert box_around(read_segment(value, SIZE), SIZE) == (3, 0, 5, 48)


@pytest.mark.parametrize("seed", range(5))
def test_compressed_run_lengths_are_understood_as_pycocotools_does(seed):
    mask = np.random.default_rng(seed).random(SIZE) < [0.5, 0.02, 0.98, 0.2, 0.9][seed]
    assert torch.equal(decoded(compressed(mask))[0], torch.from_numpy(mask))


GOOD_TEXT = compressed(square().numpy())["counts"]
REFUSED = {
    "nothing": ([], "object without a mask"),
    "empty lists": ([[], [[]]], "object without a mask"),
    "text": ("polygon", "malformed mask"),
    "a number": (5, "malformed mask"),
    "deep lists": ([[[[[[SQUARE]]]]]], "malformed mask"),
    "a word among numbers": ([[8, 10, "x", 10, 32, 26]], "malformed mask"),
    "true among numbers": ([[8, 10, True, 10, 32, 26]], "malformed mask"),
    "null among numbers": ([[8, 10, None, 10, 32, 26]], "malformed mask"),
    "two points": ([[8, 10, 32, 26]], "not three or more points"),
    "two pairs": ([[8, 10], [32, 26]], "not three or more points"),
    "a line there and back": ([[8, 10, 32, 26, 8, 10]], "polygon without area: 3 points"),
    "an odd number": ([[8, 10, 32, 10, 32, 26, 8]], "not three or more points"),
    "NaN": ([[8, 10, math.nan, 10, 32, 26]], "NaN or infinity"),
    "infinity": ([[8, 10, math.inf, 10, 32, -math.inf]], "NaN or infinity"),
    "a whole number beyond floats": ([[8, 10, 10**400, 10, 32, 26.5]], "NaN or infinity"),
    "far away": ([[8, 10, 1e9, 10, 1e9, 26]], "far outside"),
    "far on the other side": ([[8, 10, -5000, 10, 8, 26]], "far outside"),
    "a million times to and fro": ([[0, 0, 64, 48] * 20_000 + [5, 5]], "too long"),
    "the turned image": ({"size": [64, 48], "counts": [0, 80, 2992]}, "another size"),
    "no size": ({"counts": [0, 80, 2992]}, "another size"),
    "sizes that are none": ({"size": ["a", None], "counts": [0, 3072]}, "another size"),
    "an early end": ({"size": [48, 64], "counts": [0, 100]}, "fill.* sum 100, expected .* 3072"),
    "a late end": ({"size": [48, 64], "counts": [0, 4000]}, "do not fill"),
    "a negative run": ({"size": [48, 64], "counts": [0, 3173, -101]}, "some below 0"),
    "no runs": ({"size": [48, 64], "counts": []}, "do not fill"),
    "half runs": ({"size": [48, 64], "counts": [0.5, 3071.5]}, "malformed run lengths"),
    "runs of NaN": ({"size": [48, 64], "counts": [math.nan, 3072]}, "malformed run lengths"),
    "huge runs": ({"size": [48, 64], "counts": [10**400]}, "malformed run lengths"),
    "runs of text": ({"size": [48, 64], "counts": ["0", "3072"]}, "malformed run lengths"),
    "no counts": ({"size": [48, 64]}, "malformed run lengths"),
    "background alone": ({"size": [48, 64], "counts": [3072]}, "without a pixel"),
    "empty text": ({"size": [48, 64], "counts": ""}, "malformed run lengths"),
    "cut text": ({"size": [48, 64], "counts": GOOD_TEXT[:-4]}, "run lengths|do not fill"),
    "text that goes on": ({"size": [48, 64], "counts": GOOD_TEXT + "5"}, "do not fill"),
    "text that stops in a number": ({"size": [48, 64], "counts": "Z"}, "malformed run lengths"),
    "text of other letters": ({"size": [48, 64], "counts": "Z<`0P1 é~"}, "malformed run"),
    "text with an accent": ({"size": [48, 64], "counts": f"é{GOOD_TEXT}"}, "malformed run"),
    "text of one endless number": ({"size": [48, 64], "counts": "o" * 40 + "0"}, "malformed run"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mask_is_refused(name):
    value, message = REFUSED[name]
    with pytest.raises(SegmentError) as error:
        read_segment(value, SIZE)
    line = f"{error.value.kind}: {error.value.detail}"
    assert re.search(message, line)
    assert "\n" not in line
    assert len(line) < 250
