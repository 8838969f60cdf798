"""What OpenMMLab's checkpoints and names of files tell of preprocessing."""

import pytest

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes.foreign import stated_preprocess, warn_of_caffe
from tests.recipes.test_classes import plain

THREE = """model = dict(data_preprocessor=dict(
    type='DetDataPreprocessor', mean=[103.53,
        116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False, pad_size_divisor=32),
    bbox_head=dict(bbox_coder=dict(target_means=[0., 0., 0., 0.], target_stds=[1., 1., 1., 1.])))"""
TWO = """img_norm_cfg = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train = dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
    to_rgb=True)"""
CAFFE = Preprocess(mean=(103.53, 116.28, 123.675), std=(1, 1, 1), channels="bgr")


def test_configurations_of_both_versions():
    assert stated_preprocess({"cfg": THREE}) == CAFFE
    assert stated_preprocess({"config": TWO}) == Preprocess()


@pytest.mark.parametrize(
    "meta",
    [
        None,
        {},
        {"cfg": 3},
        {"cfg": "model = dict()"},
        {"cfg": THREE + TWO},
        {"cfg": "mean=[a, b, c], std=[1, 1, 1], to_rgb=True"},
        {"cfg": "mean=[1, 1, 1], std=[0, 1, 1], to_rgb=True"},
    ],
)
def test_what_is_not_stated_once_is_not_known(meta):
    assert stated_preprocess(meta) is None


def test_weights_of_bgr_images_are_refused(tmp_path):
    weights = recipes.build_model(plain()).state_dict()
    path = tmp_path / "a.pth"
    save_checkpoint(path, {"state_dict": weights, "meta": {"cfg": THREE}})
    with pytest.raises(ConfigError, match=r"trained on images of channels bgr.*set data.channels"):
        recipes.train(plain(), tmp_path / "run", [f"load_from={path}"])
    with pytest.raises(ConfigError, match="channels bgr"):
        recipes.test(plain(), path, as_json=True)


def test_names_of_caffes_weights_are_told_once(caplog):
    source = "https://somewhere/resnet50_msra-5891d200.pth"
    warn_of_caffe(source, CAFFE)
    warn_of_caffe("weights/caffe/resnet50.pth", Preprocess())
    warn_of_caffe(source, None)
    assert not caplog.messages
    warn_of_caffe(source, Preprocess())
    assert "set data.channels=bgr" in caplog.messages[0]
