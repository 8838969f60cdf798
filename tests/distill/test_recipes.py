"""Recipes: what they come to for two models, and what that costs and teaches."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.core.registry import lookup
from razorlite.distill import RECIPES, Distiller, Scene, Side, by_recipe
from razorlite.distill.expansion import Model, expand_recipe
from razorlite.recipes import build_model
from razorlite.structures import Batch, Target

SHAPE = (64, 64)
FCOS = {
    "type": "FCOS",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [1, 2]},
    "neck": {"type": "FPN", "in_channels": [96, 192], "out_channels": 8, "num_outs": 2},
    "bbox_head": {
        "type": "FCOSHead",
        "num_classes": 3,
        "in_channels": 8,
        "feat_channels": 8,
        "stacked_convs": 1,
        "norm": None,
        "strides": [16, 32],
    },
}  # fmt: skip
ANCHORS = {"ratios": [1.0], "scales": [3.0], "strides": [16, 32]}
HEAD = {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 1, "norm": None}
GFL = {
    **FCOS,
    "type": "GFL",
    "bbox_head": {"type": "GFLHead", **HEAD, "reg_max": 4, "anchor_generator": ANCHORS},
}
RETINA = {
    **FCOS,
    "type": "RetinaNet",
    "bbox_head": {"type": "RetinaHead", **HEAD, "anchor_generator": {**ANCHORS, "ratios": [1, 2]}},
}
FASTER = {
    **{key: FCOS[key] for key in ("backbone", "neck")},
    "type": "FasterRCNN",
    "rpn_head": {
        "type": "RPNHead",
        "in_channels": 8,
        "feat_channels": 8,
        "anchor_generator": {"ratios": [1.0], "scales": [4.0], "strides": [16, 32]},
    },
    "roi_head": {
        "type": "StandardRoIHead",
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "num_classes": 3,
            "in_channels": 8,
            "fc_out_channels": 8,
        },
        "strides": [16, 32],
    },
}  # fmt: skip
CLASSIFIER = {
    "type": "ImageClassifier",
    "backbone": {"type": "ShuffleNetV2", "width": 0.5, "out_indices": [2]},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearHead", "num_classes": 3, "in_channels": 192},
}
BATCH = Batch(
    torch.randn(2, 3, *SHAPE, generator=torch.Generator().manual_seed(0)),
    [Target(torch.tensor([[8.0, 8.0, 50.0, 56.0]]), torch.tensor([1]))] * 2,
)


def wide(config, channels=12):
    """Return a detector with another number of channels behind its neck."""
    heads = {k: _wider(v, channels) for k, v in config.items() if k.endswith("head")}
    return {**config, **heads, "neck": {**config["neck"], "out_channels": channels}}


def _wider(head, channels):
    if "bbox_head" in head:
        return {**head, "bbox_head": {**head["bbox_head"], "in_channels": channels}}
    return {**head, "in_channels": channels}


def made(config, seed=0):
    torch.manual_seed(seed)
    return build_model({"model": config})


def on_shapes(config, shape=SHAPE, prefix=""):
    with torch.device("meta"):
        return Model(build_model({"model": config}), torch.zeros(1, 3, *shape), prefix)


def losses_of(distiller, student, batch=BATCH):
    with distiller.recorder(student) as taps:
        student.loss(batch.inputs, batch.targets)
        return distiller.compare(Scene(batch, Side(student, taps), distiller.teach(batch)))


class TestExpansion:
    def test_channels_are_connected(self):
        found = expand_recipe("pkd", on_shapes(FCOS), on_shapes(wide(FCOS)))
        connector = {"type": "ConvConnector", "student_channels": 8, "teacher_channels": 12}
        [pair] = found["pairs"]
        assert (pair["student"], pair["loss"], pair["connector"]) == (
            "neck",
            {"type": "PKD"},
            connector,
        )
        assert "teacher" not in pair
        [equal] = expand_recipe("pkd", on_shapes(FCOS), on_shapes(RETINA))["pairs"]
        assert "connector" not in equal

    def test_levels_are_matched_by_their_sizes(self):
        three = {**FCOS["neck"], "num_outs": 3}
        found = expand_recipe("pkd", on_shapes(FCOS), on_shapes({**FASTER, "neck": three}))
        assert [(p["student"], p.get("teacher")) for p in found["pairs"]] == [
            ("neck[0]", None),
            ("neck[1]", None),
        ]

    def test_a_single_map_of_another_grid_meets_the_nearest_level(self):
        encoder = Model(nn.Conv2d(3, 5, 14, 14), torch.zeros(1, 3, 70, 70))
        [pair] = expand_recipe("at", on_shapes(FCOS), encoder)["pairs"]
        assert (pair["student"], pair["teacher"], pair["resize"]) == ("neck[0]", "[0]", True)

    def test_losses_with_layers_of_their_own_get_the_channels(self):
        [pair] = expand_recipe("mgd", on_shapes(FCOS), on_shapes(wide(FCOS)))["pairs"]
        assert pair["loss"] == {"type": "MGD", "student_channels": 8, "teacher_channels": 12}

    def test_names_of_one_of_several_teachers(self):
        [term] = expand_recipe("crosskd", on_shapes(FCOS), on_shapes(RETINA, prefix="big."))[
            "terms"
        ]
        assert (term["student"], term["teacher"]) == ("neck", "big.bbox_head")
        [pair] = expand_recipe("pkd", on_shapes(FCOS), on_shapes(FCOS, prefix="big."))["pairs"]
        assert pair["teacher"] == "big.neck"

    @pytest.mark.parametrize(
        ("name", "student", "teacher", "message"),
        [
            ("pdk", FCOS, FCOS, "no recipe 'pdk'; did you mean 'pkd'"),
            ("kd", FCOS, RETINA, r"3 channels and the teacher's 'bbox_head.retina_cls' 6"),
            ("ld", FCOS, GFL, "box sides .*the student FCOS has none"),
            ("dkd", FCOS, CLASSIFIER, "logits .*the student FCOS has none"),
            ("proposals", FASTER, FCOS, "second stage .*the teacher FCOS has none"),
        ],
    )
    def test_what_the_models_do_not_have_is_told(self, name, student, teacher, message):
        with pytest.raises(ConfigError, match=message):
            expand_recipe(name, on_shapes(student), on_shapes(teacher))

    def test_a_head_for_other_levels_cannot_take_the_maps(self):
        with pytest.raises(ConfigError, match="levels differ"):
            expand_recipe("crosskd", on_shapes(FCOS), on_shapes(FCOS, (128, 128)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_teaches_the_student_alone(name):
    kinds = {"logits": CLASSIFIER, "sides": GFL, "regions": FASTER}
    config = kinds.get(RECIPES[name].lines[0].role, FCOS)
    classifies = config is CLASSIFIER
    four = torch.cat([BATCH.inputs, BATCH.inputs.flip(3)])  # two have but one distance
    batch = Batch(four, torch.tensor([0, 2, 1, 1])) if classifies else BATCH
    student, teacher = made(config), made(config if classifies else wide(config), seed=1)
    for layer in [m for n, m in teacher.named_modules() if n.endswith("gfl_reg")]:
        nn.init.normal_(layer.weight)  # drawn with a deviation of 0.01, all sides would be uniform
    distiller = by_recipe(name, student, teacher, shape=SHAPE)
    losses = losses_of(distiller, student, batch)
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    assert total > 0
    total.backward()
    learnt = [p.grad for p in student.parameters() if p.grad is not None]
    assert any(grad.abs().sum() > 0 for grad in learnt)
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", ["pkd", "cwd", "fitnets", "at", "score_l2", "crosskd", "kd"])
def test_an_equal_teacher_has_nothing_to_teach(name):
    student, teacher = made(FCOS).eval(), made(FCOS)
    losses = losses_of(by_recipe(name, student, teacher, shape=SHAPE), student)
    assert max(losses.values()) < 1e-5


@pytest.mark.parametrize(("name", "config"), [("proposals", FASTER), ("ld", GFL)])
def test_equal_heads_have_nothing_to_teach(name, config):
    student, teacher = made(config).eval(), made(config)
    losses = losses_of(by_recipe(name, student, teacher, shape=SHAPE), student)
    assert_close(sum(losses.values()), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_crossing_maps_by_hand():
    """One cell, one class: score 0.5 against 0.8, boxes of IoU 0.5 in each other."""
    student, teacher = made(FCOS), made(FCOS, seed=1)
    term = lookup("CrossHead")(box_weight=2.0)
    logit = torch.tensor([0.8]).logit()
    raws = [
        ([x.view(1, 1, 1, 1)], [torch.tensor(d).view(1, 4, 1, 1)])
        for x, d in ((torch.zeros(1), [4.0, 4, 4, 4]), (logit, [4.0, 4, 4, 0]))
    ]
    head = teacher.bbox_head
    head.num_classes = 1
    head.priors = lambda logits: [torch.tensor([[8.0, 8.0]])]
    losses = term._losses(head, *raws)
    # quality 0.3 * BCE(0.5, 0.8) = 0.3 * ln 2, over max(1, 0.8); boxes: giou 0.5 at weight 0.8
    assert_close(losses["cls"], torch.tensor(0.3 * 0.6931472))
    assert_close(losses["box"], torch.tensor(2.0 * 0.8 * 0.5))
    assert student is not teacher


def test_scored_maps_by_hand():
    from razorlite.distill.head_terms import _scored

    ours = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    theirs, logits = torch.zeros(1, 1, 1, 2), torch.tensor([0.25, 0.75]).logit().view(1, 1, 1, 2)
    # (0.25 * 1 + 0.75 * 9) / 1
    assert_close(_scored(ours, theirs, logits), torch.tensor(7.0))


def test_a_second_stage_of_another_kind_is_refused():
    student, teacher = made(FASTER), made(FCOS)
    distiller = Distiller(teacher=teacher, terms=[lookup("SharedProposals")()])
    with pytest.raises(ConfigError, match="FCOS has nothing at 'roi_head'"):
        losses_of(distiller, student)
