"""Python configurations become YAML whose model, data and training are the shipped ones'."""

import pytest
import torch

from razorlite import cli, recipes
from razorlite.core import config as core_config
from razorlite.core.errors import ConfigError, RunFolderError
from razorlite.recipes.building import untrained
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.openmmlab import convert_config, converted
from tests.recipes.openmmlab.dialects import (
    DETR_2,
    DETR_3,
    FASTER_RCNN,
    FCOS,
    PREPROCESSOR,
    RETINANET,
    RTMDET,
    RTMDET_TINY,
    write,
    write_2,
    write_3,
)


def shipped(name):
    return core_config.load(name).tree


def shapes(block):
    """Return names and shapes of all tensors of the model that a `model` block builds."""
    model = recipes.build_model({"model": untrained(block)})
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def same_models(tree, name):
    """Return whether parameters have the same names and shapes; their values are not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("normal_", "uniform_"):
            patch.setattr(torch.Tensor, method, lambda tensor, *_, **__: tensor)
        return shapes(tree["model"]) == shapes(shipped(name)["model"])


def retinanet(folder, change="", **more):
    return write_3(folder, RETINANET + PREPROCESSOR + change, **more)


MODELS = {
    "retinanet-2": (RETINANET, write_2, "retinanet/retinanet_r50_fpn_1x_coco"),
    "fcos-3": (FCOS + PREPROCESSOR, write_3, "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco"),
    "faster_rcnn-2": (FASTER_RCNN, write_2, "faster_rcnn/faster_rcnn_r50_fpn_1x_coco"),
    "detr-2": (DETR_2, write_2, "detr/detr_r50_150e_coco"),
    "detr-3": (DETR_3, write_3, "detr/detr_r50_150e_coco"),
}


@pytest.mark.parametrize("case", MODELS)
def test_parameters_are_those_of_the_shipped_configuration(case, tmp_path):
    text, write_in, name = MODELS[case]
    assert same_models(converted(write_in(tmp_path, text)).tree, name)


def test_rtmdet_tiny_over_rtmdet_l(tmp_path):
    tree = converted(write_3(tmp_path, RTMDET, "rtmdet_l", tiny=RTMDET_TINY)).tree
    ours = shipped("rtmdet/rtmdet_tiny_8xb32-300e_coco")
    assert same_models(tree, "rtmdet/rtmdet_tiny_8xb32-300e_coco")
    for key in ("mean", "std", "channels"):
        assert tree["data"][key] == ours["data"][key]
    assert tree["data"]["val"]["transforms"] == ours["data"]["val"]["transforms"]
    large = shipped("rtmdet/rtmdet_l_8xb32-300e_coco")
    assert tree["data"]["train"]["last_epochs"] == large["data"]["train"]["last_epochs"]
    # theirs resizes inside the mosaic; ours keeps small images in its cache
    assert tree["data"]["train"]["transforms"] == large["data"]["train"]["transforms"][1:]
    assert tree["train"]["ema"] == ours["train"]["ema"]
    assert tree["train"]["schedule"] == ours["train"]["schedule"]
    assert tree["train"]["optimizer"] == ours["train"]["optimizer"]


def test_both_dialects_come_to_the_same(tmp_path):
    (tmp_path / "old").mkdir()
    old = converted(write_2(tmp_path / "old", RETINANET)).tree
    new = converted(retinanet(tmp_path)).tree
    for split in ("val", "test"):  # 2.x has one size of batches for all splits
        assert (old["data"][split].pop("batch_size"), new["data"][split].pop("batch_size")) == (
            2,
            1,
        )
    assert old == new


def test_training_of_detr(tmp_path):
    train = converted(write_3(tmp_path, DETR_3)).tree["train"]
    ours = shipped("detr/detr_r50_150e_coco")["train"]
    for key in ("max_epochs", "optimizer", "schedule", "clip_grad_norm"):
        assert train[key] == ours[key]
    assert train["param_options"]["patterns"] == {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}}


def test_transforms_of_detr(tmp_path):
    tree = converted(write_3(tmp_path, DETR_3)).tree["data"]["train"]["transforms"]
    assert tree == shipped("detr/detr_r50_150e_coco")["data"]["train"]["transforms"]


def test_the_file_passes_the_check(tmp_path):
    remarks = convert_config(retinanet(tmp_path), tmp_path / "ours.yaml")
    assert [r for r in remarks if "model.py" in r or "coco.py" in r] == []
    assert recipes.load_config(tmp_path / "ours.yaml").get("train.max_epochs") == 12


def test_the_command_names_what_is_left_out(tmp_path, capsys):
    change = "model['bbox_head']['beta_of_mine'] = 3\nmodel.update(dict(neck=dict(type='FPN',\n"
    change += "    in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5, end_level=2,\n"
    change += "    start_level=1, add_extra_convs='on_input')))\n"
    source = retinanet(tmp_path, change)
    assert cli.main(["config", "convert", str(source), "--out", str(tmp_path / "o.yaml")]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"wrote {tmp_path / 'o.yaml'}\n"
    lines = (tmp_path / "model.py").read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "beta_of_mine" in line)
    left = f"model.py:{number}: model.bbox_head.beta_of_mine: 3 has no counterpart; left out"
    assert left in shown.err
    assert left in (tmp_path / "o.yaml").read_text()
    assert f"model.py:{number + 2}: model.neck.end_level: 2 has no counterpart" in shown.err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.update(dict(type='SOLO'))", "the model SOLO has no counterpart; there are ATSS,"),
        ("model['backbone'] = dict(type='Swin')", "model.backbone: the backbone Swin has no"),
        ("model['bbox_head'] = dict(type='YOLOHead')", "model.bbox_head: the head YOLOHead has no"),
        ("model['neck'] = [dict(type='FPN'), dict(type='DyHead')]", "model.neck: expected a dict"),
    ],
)
def test_no_file_without_a_model(tmp_path, change, expected):
    source = retinanet(tmp_path, change)
    with pytest.raises(ConfigError, match=expected):
        convert_config(source, tmp_path / "ours.yaml")
    assert not (tmp_path / "ours.yaml").exists()


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "ours.yaml").write_text("mine")
    with pytest.raises(RunFolderError, match="is there already"):
        convert_config(retinanet(tmp_path), tmp_path / "ours.yaml")


def test_losses_left_out_are_those_of_theirs(tmp_path):
    # theirs takes smooth L1 with beta 1/9 where a RetinaHead names no loss of boxes, ours L1
    made = converted(retinanet(tmp_path, "del model.bbox_head.loss_bbox\n"))
    head = made.tree["model"]["bbox_head"]
    assert any("del model.bbox_head.loss_bbox is not followed" in one for one in made.remarks)
    assert head["loss_bbox"]["type"] == "L1Loss"  # `del` is not followed, and is told
    change = "model['bbox_head'].update(dict(loss_bbox=None))\n"
    head = converted(retinanet(tmp_path, change)).tree["model"]["bbox_head"]
    assert head["loss_bbox"] == {"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0}


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("model.backbone.update(dict(norm_eval=False))", "backbone.norm_eval", None),
        ("model.backbone.update(dict(type='ResNeXt', groups=32))", "backbone.base_width", 4),
        ("model.backbone.update(dict(type='ResNetV1d'))", "backbone.avg_down", True),
        ("model.backbone.update(dict(base_channels=64))", "backbone.base_channels", None),
        (
            "model.backbone.update(dict(base_channels=32, stem_channels=32))",
            "backbone.base_channels",
            32,
        ),
        (
            "model.backbone.update(dict(dcn=dict(type='DCNv2', deform_groups=1),\n"
            "    stage_with_dcn=(False, True, True, True)))",
            "backbone.deform",
            {"stages": [False, True, True, True], "modulated": True},
        ),
        ("model.bbox_head.update(dict(norm_cfg=dict(type='SyncBN')))", "bbox_head.norm", "BN"),
        (
            "model.test_cfg.update(dict(nms=dict(type='soft_nms', iou_threshold=0.3, sigma=0.4)))",
            "bbox_head.post_process.soft_nms_sigma",
            0.4,
        ),
        ("model.neck.update(dict(norm_cfg=dict(type='GN', num_groups=32)))", "neck.norm", "GN"),
    ],
)
def test_arguments(tmp_path, option, key, value):
    made = converted(retinanet(tmp_path, option))
    assert core_config.load(made.tree).get(f"model.{key}") == value
    assert made.remarks == []


CASCADE = """
old = model['roi_head']['bbox_head']
heads = [dict(old, reg_class_agnostic=True) for one in range(3)]
rcnn = model['train_cfg']['rcnn']
model.update(dict(type='CascadeRCNN'))
model['roi_head'].update(dict(
    type='CascadeRoIHead', num_stages=3, stage_loss_weights=[1, 0.5, 0.25], bbox_head=heads))
model['train_cfg'].update(dict(rcnn=[
    dict(rcnn, assigner=dict(
        type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou,
        match_low_quality=False)) for iou in (0.5, 0.6, 0.7)]))
"""
MASKS = """
model.update(dict(type='MaskRCNN'))
model['roi_head'].update(dict(
    mask_roi_extractor=dict(
        type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=14),
        out_channels=256, featmap_strides=[4, 8, 16, 32]),
    mask_head=dict(
        type='FCNMaskHead', num_convs=4, in_channels=256, conv_out_channels=256, num_classes=80,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))))
model['train_cfg']['rcnn'].update(dict(mask_size=28))
model['test_cfg']['rcnn'].update(dict(mask_thr_binary=0.5))
"""


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (CASCADE, "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco"),
        (MASKS, "mask_rcnn/mask_rcnn_r50_fpn_1x_coco"),
    ],
)
def test_other_two_stage_detectors(tmp_path, change, name):
    made = converted(write_3(tmp_path, FASTER_RCNN + PREPROCESSOR + change))
    assert made.remarks == []
    assert same_models(made.tree, name)


TRANSFORMS = [
    ("Resize', scale=(1333, 800), keep_ratio=False", {"type": "Resize", "size": [800, 1333]}),
    ("Resize', img_scale=[(1333, 640), (1333, 644)], keep_ratio=True", [640, 641, 642, 643, 644]),
    ("RandomChoiceResize', scales=[(800, 480), (640, 800)], keep_ratio=True", [480, 640]),
    ("RandomFlip', prob=0.5, direction='vertical'", {"horizontal": 0.0, "vertical": 0.5}),
    ("RandomCrop', crop_size=(300, 200)", {"type": "RandomCrop", "size": [200, 300]}),
    ("YOLOXHSVRandomAug', hue_delta=10", {"type": "HSVJitter", "hue": 20.0}),
    ("MinIoURandomCrop', min_ious=(0.4, 0.8)", {"thresholds": [1.0, 0.4, 0.8, 0.0]}),
]


@pytest.mark.parametrize(("transform", "expected"), TRANSFORMS)
def test_transforms(tmp_path, transform, expected):
    change = f"train_dataloader.update(dict(batch_size=2))\npipeline = [dict(type='{transform})]\n"
    source = retinanet(
        tmp_path, change + "train_dataloader = dict(dataset=dict(pipeline=pipeline))"
    )
    [found] = converted(source).tree["data"]["train"]["transforms"]
    expected = expected if isinstance(expected, dict) else {"short": expected}
    assert expected.items() <= found.items()


def test_a_transform_without_counterpart_is_named(tmp_path):
    change = (
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Corrupt', corruption='fog')]))"
    )
    made = converted(retinanet(tmp_path, change))
    assert made.tree["data"]["train"]["transforms"] == []
    assert (
        "train_dataloader.dataset.pipeline.0: Corrupt has no counterpart; left out"
        in made.remarks[0]
    )


VOC = """
train_dataloader = dict(dataset=dict(
    _delete_=True, type='RepeatDataset', times=3,
    dataset=dict(
        type='VOCDataset', data_root='data/VOCdevkit/', metainfo=dict(classes=('cat', 'dog')),
        ann_file='VOC2007/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2007/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=[])))
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='11points')
"""


def test_voc(tmp_path):
    made = converted(retinanet(tmp_path, VOC))
    assert made.tree["data"]["train"]["dataset"] == {
        "type": "RepeatDataset",
        "times": 3,
        "dataset": {
            "type": "VocDataset",
            "root": "data/VOCdevkit/VOC2007/",
            "split": "ImageSets/Main/trainval.txt",
            "classes": ["cat", "dog"],
            "one_based": True,
            "keep_empty": False,
            "check_images": False,
        },
    }
    assert made.tree["metric"] == {"type": "VocMetric", "points": "11", "pixel_offset": 1.0}
    assert "min_size: images are trained on whatever their size; left out" in made.remarks[0]


OLD_VOC = "evaluation = dict(interval=1, metric='mAP')\ndata = dict(val=dict(img_prefix='{}'))\n"


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP')", "11"),
        ("val_evaluator = dict(_delete_=True, type='VOCMetric', eval_mode='area')", None),
        (OLD_VOC.format("data/VOC2007/"), "11"),
        (OLD_VOC.format("data/VOC2012/"), None),
    ],
)
def test_precision_of_voc_is_counted_as_theirs_does_by_default(tmp_path, text, points):
    assert converted(retinanet(tmp_path, text)).tree["metric"].get("points") == points


def test_a_cosine_that_begins_at_a_step(tmp_path):
    scheduler = "dict(type='CosineAnnealingLR', begin=300, end=400, T_max=100, by_epoch=False)"
    loop = "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=400)"
    made = converted(retinanet(tmp_path, f"param_scheduler = [{scheduler}]\n{loop}"))
    expected = {"type": "FlatCosine", "flat": 0.75, "min_factor": 0.0}
    assert made.tree["train"]["schedule"] == expected


@pytest.mark.parametrize("kind", ["CosineAnnealingLR", "PolyLR"])
def test_a_schedule_in_other_units_than_the_run_is_told(tmp_path, kind):
    scheduler = f"dict(type='{kind}', begin=300, end=400, by_epoch=False)"
    made = converted(retinanet(tmp_path, f"param_scheduler = [{scheduler}]"))
    assert made.tree["train"]["schedule"]["type"] in ("Cosine", "Poly")
    assert f"{kind} from 300 to 400, in steps, which" in made.remarks[0]


SCHEDULES = [
    (
        "dict(type='CosineAnnealingLR', eta_min=0.002, begin=0, end=12, T_max=12, by_epoch=True)",
        {"type": "Cosine", "min_factor": 0.1},
    ),
    ("dict(type='PolyLR', power=0.9, end=12)", {"type": "Poly", "power": 0.9, "min_factor": 0.0}),
    (
        "dict(type='MultiStepLR', milestones=[100, 200], by_epoch=False, gamma=0.5)",
        {"type": "MultiStep", "milestones": [100, 200], "gamma": 0.5, "unit": "step"},
    ),
    (
        "dict(type='MultiStepLR', begin=10, milestones=[100, 200], by_epoch=False)",
        {"type": "MultiStep", "milestones": [110, 210], "unit": "step"},
    ),
    (
        "dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50)",
        {"type": "Constant", "warmup_steps": 50, "warmup_factor": 0.1},
    ),
]


@pytest.mark.parametrize(("scheduler", "expected"), SCHEDULES)
def test_schedules(tmp_path, scheduler, expected):
    made = converted(retinanet(tmp_path, f"param_scheduler = [{scheduler}]"))
    assert made.tree["train"]["schedule"] == expected
    assert made.remarks == []


def test_a_warm_up_of_epochs_is_told(tmp_path):
    """Which is what one without `by_epoch` is."""
    change = "param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=5)]"
    made = converted(retinanet(tmp_path, change))
    assert "schedule" not in made.tree["train"]
    assert "a warm-up counted in epochs has no counterpart; left out" in made.remarks[0]


SEVERAL = """
data = dict(train=dict(
    _delete_=True, type='RepeatDataset', times=2,
    dataset=dict(
        type='CocoDataset', ann_file=['a.json', 'b.json'], img_prefix=['a/', 'b/'],
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True)])))
"""


def test_several_annotation_files(tmp_path):
    made = converted(write_2(tmp_path, RETINANET + SEVERAL)).tree["data"]["train"]["dataset"]
    assert (made["type"], made["dataset"]["type"]) == ("RepeatDataset", "ConcatDataset")
    parts = [(one["annotation"], one["images"]) for one in made["dataset"]["datasets"]]
    assert parts == [("a.json", "a/"), ("b.json", "b/")]
    assert all(one["masks"] for one in made["dataset"]["datasets"])


def test_nothing_is_evaluated_without_images_for_it(tmp_path):
    made = converted(retinanet(tmp_path, "val_dataloader = None\nval_evaluator = None\n")).tree
    assert "val" not in made["data"]
    assert "eval_every" not in made["train"]


def test_biases_at_twice_the_rate(tmp_path):
    change = "optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0))"
    options = converted(retinanet(tmp_path, change)).tree["train"]["param_options"]
    [(pattern, rule)] = options["patterns"].items()
    assert rule == {"lr_mult": 2.0, "decay_mult": 0.0}
    import re

    found = re.compile(pattern.removeprefix("re:"))
    assert found.search("bbox_head.retina_cls.bias")
    assert found.search("neck.fpn_convs.0.conv.bias")
    for norm in ("backbone.bn1.bias", "backbone.layer1.0.downsample.1.bias", "x.gn.bias"):
        assert not found.search(norm)


def test_python_style_configurations_of_3_x(tmp_path):
    (tmp_path / "_base_").mkdir()
    write(tmp_path / "_base_", coco=(retinanet(tmp_path)).with_name("coco.py").read_text())
    text = """
from mmengine.config import read_base
from mmdet.models import RetinaNet, FPN
import torch.nn as nn
with read_base():
    from ._base_.coco import *
    from .schedule import *
"""
    text += RETINANET.replace("type='RetinaNet'", "type=RetinaNet").replace(
        "type='FPN'", "type=FPN"
    )
    text += PREPROCESSOR + "train_dataloader.merge(dict(batch_size=4))\n"
    made = converted(write(tmp_path, lazy=text))
    assert made.remarks == []
    assert same_models(made.tree, "retinanet/retinanet_r50_fpn_1x_coco")
    assert made.tree["train"]["max_epochs"] == 12
    recipes.load_config(made.tree)


def test_a_converted_block_is_typed(tmp_path):
    tree = converted(retinanet(tmp_path)).tree
    built = core_config.build(
        core_config.load({**tree, "model": untrained(tree["model"])}), Experiment
    )
    assert built.data.train.batch_size == 16
    assert built.shape == (800, 1312)
