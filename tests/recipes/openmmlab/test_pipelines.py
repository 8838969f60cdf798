"""Sizes and resizing of pipelines, which MMDetection 2.x and 3.x write in two ways."""

import pytest

from razorlite.recipes.openmmlab import converted
from tests.recipes.openmmlab.dialects import PREPROCESSOR, RETINANET, write_2, write_3


def retinanet(folder, change):
    return write_3(folder, RETINANET + PREPROCESSOR + change)


WINDOWS = [
    ("dict(type='RandomCrop', crop_size=(300, 200))", "size"),
    ("dict(type='Pad', size=(300, 200))", "size"),
    (
        "dict(type='Resize', img_scale=(640, 640), ratio_range=(0.1, 2.0), keep_ratio=True),"
        "dict(type='RandomCrop', crop_size=(300, 200))",
        "size",
    ),
]


@pytest.mark.parametrize(("transforms", "key"), WINDOWS)
@pytest.mark.parametrize("release", [2, 3])
def test_sizes_of_windows_are_width_first_in_3_x_alone(tmp_path, transforms, key, release):
    if release == 2:
        change = f"data = dict(train=dict(pipeline=[{transforms}]))"
        source = write_2(tmp_path, RETINANET + change)
    else:
        change = f"train_dataloader = dict(dataset=dict(pipeline=[{transforms}]))"
        source = retinanet(tmp_path, change)
    [found] = converted(source).tree["data"]["train"]["transforms"]
    assert found[key] == ([300, 200] if release == 2 else [200, 300])


def test_windows_within_alternatives_and_tests_of_2_x(tmp_path):
    crop, pad = "dict(type='RandomCrop', crop_size=(300, 200))", "dict(type='Pad', size=(64, 32))"
    train = f"pipeline=[dict(type='AutoAugment', policies=[[{crop}]])]"
    val = "pipeline=[dict(type='MultiScaleFlipAug', img_scale=(64, 32), flip=False, "
    val += f"transforms=[dict(type='Resize', keep_ratio=False), {pad}])]"
    change = f"data = dict(train=dict({train}), val=dict({val}))"
    data = converted(write_2(tmp_path, RETINANET + change)).tree["data"]
    assert data["train"]["transforms"][0]["choices"][0][0]["size"] == [300, 200]
    resize, padding = data["val"]["transforms"]
    assert (resize["size"], padding["size"]) == ([32, 64], [64, 32])


WITHOUT_RATIO = [
    "dict(type='RandomResize', scale=[(300, 200), (300, 250)])",
    "dict(type='RandomResize', scale=(300, 300), ratio_range=(0.1, 2.0)), "
    "dict(type='RandomCrop', crop_size=(300, 200))",
]


@pytest.mark.parametrize("transforms", WITHOUT_RATIO)
def test_a_random_resizing_without_keep_ratio_is_left_out_and_named(tmp_path, transforms):
    """It is false by default in 3.x."""
    change = f"train_dataloader = dict(dataset=dict(pipeline=[{transforms}]))"
    made = converted(retinanet(tmp_path, change))
    types = [tree["type"] for tree in made.tree["data"]["train"]["transforms"]]
    assert types in ([], ["RandomCrop"])
    assert "without their ratio, have no counterpart; left out" in made.remarks[0]


def test_jitter_of_an_oblong_size_says_what_differs(tmp_path):
    resize = "dict(type='RandomResize', scale=(600, 400), ratio_range=(0.1, 2.0), keep_ratio=True)"
    pipeline = f"[{resize}, dict(type='RandomCrop', crop_size=(300, 200))]"
    change = f"train_dataloader = dict(dataset=dict(pipeline={pipeline}))"
    made = converted(retinanet(tmp_path, change))
    assert made.tree["data"]["train"]["transforms"][0]["fit"] == [400, 600]
    assert "images in portrait" in made.remarks[0]


def test_padding_to_a_square_is_named(tmp_path):
    pad = "dict(type='Pad', pad_to_square=True, pad_val=114)"
    made = converted(retinanet(tmp_path, f"val_dataloader = dict(dataset=dict(pipeline=[{pad}]))"))
    assert made.tree["data"]["val"]["transforms"] == []
    assert "pad_to_square: True has no counterpart; left out" in made.remarks[0]
