"""RTMDet and RTMDet-Ins give the reference's values, and stop doing so when a part is wrong."""

from typing import Any

import pytest
import torch

import razorlite
import razorlite.cost
from razorlite.models.csp import ChannelAttention
from razorlite.structures import Batch
from tests.models import golden

pytestmark = pytest.mark.rounding

CONFIGS = {
    "rtmdet_tiny": "rtmdet/rtmdet_tiny_8xb32-300e_coco",
    "rtmdet_s": "rtmdet/rtmdet_s_8xb32-300e_coco",
    "rtmdet_ins_tiny": "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco",
}
NAMES = ["rtmdet_tiny", "rtmdet_ins_tiny"]


def _build(name: str) -> Any:
    """Return the shipped config's model for the golden values' 4 classes."""
    path = golden.FOLDER.parents[1] / "configs" / f"{CONFIGS[name]}.yaml"
    return razorlite.build_model(path, overrides=["model.bbox_head.num_classes=4"])


def _golden(name: str) -> tuple[Any, dict[str, Any]]:
    known, model = golden.metrics(name), _build(name)
    golden.fill(model, known)
    return model.eval(), known


def _map_errors(model: Any, known: dict[str, Any]) -> dict[str, float]:
    features = model.features(golden.image())
    raw = model.bbox_head(features)
    maps = golden.feature_maps(features) | golden.raw_maps(raw[:3])
    return golden.map_errors(maps | ({"raw.3": raw[3]} if len(raw) > 3 else {}), known)


def _losses(model: Any, known: dict[str, Any]) -> dict[str, float]:
    losses = model.train().loss(golden.image(), golden.targets(known))
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_names_and_shapes(name):
    with torch.device("meta"):
        state = _build(name).state_dict()
    assert [(key, tuple(value.shape)) for key, value in state.items()] == golden.keys(name)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_maps(name):
    model, known = _golden(name)
    errors = _map_errors(model, known)
    recorded = {key.split("@")[0] for key in known if key.startswith(("feat.", "raw."))}
    assert set(errors) == recorded
    assert max(errors.values()) < golden.MAP_TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_detections(name):
    model, known = _golden(name)
    for i, detections in enumerate(model.predict(Batch(golden.image()))):
        assert golden.unmatched(detections, known, i) == []
        if detections.masks is not None:
            areas = detections.masks[:20].sum((1, 2)).tolist()
            assert areas == pytest.approx(known[f"pred.{i}.mask_area"], rel=0.01, abs=2)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_losses(name):
    model, known = _golden(name)
    want = golden.recorded_losses(known)
    assert _losses(model, known) == pytest.approx(want, rel=golden.LOSS_TOLERANCE)


def _another_activation(model: Any) -> None:
    model.bbox_head.cls_convs[1][0].activate = torch.nn.ReLU()


def _swapped_output_layers(model: Any) -> None:
    first, second = model.bbox_head.rtm_cls, model.bbox_head.rtm_reg
    model.bbox_head.rtm_cls, model.bbox_head.rtm_reg = second, first


def _no_channel_attention(model: Any) -> None:
    model.backbone.stage3[1].attention = None


def _no_shortcut(model: Any) -> None:
    model.backbone.stage2[1].blocks[0].add_identity = False


def _swapped_ways(model: Any) -> None:
    layer = model.neck.top_down_blocks[0]
    layer.main_conv, layer.short_conv = layer.short_conv, layer.main_conv


def _another_epsilon(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3


def _one_block_less(model: Any) -> None:
    model.backbone.stage3[1].blocks = model.backbone.stage3[1].blocks[1:]


def _one_weight_a_percent_off(model: Any) -> None:
    model.backbone.stage3[0].conv.weight.mul_(1.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "spoil",
    [
        _another_activation,
        _swapped_output_layers,
        _no_channel_attention,
        _no_shortcut,
        _swapped_ways,
        _another_epsilon,
        _one_block_less,
        _one_weight_a_percent_off,
    ],
)
@torch.no_grad()
def test_maps_leave_the_tolerance_when_a_part_is_wrong(name, spoil):
    model, known = _golden(name)
    spoil(model)
    assert max(_map_errors(model, known).values()) > 2 * golden.MAP_TOLERANCE


@pytest.mark.parametrize(("option", "value"), [("iou_weight", 1.0), ("soft_center_radius", 0.0)])
@torch.no_grad()
def test_losses_leave_the_tolerance_with_another_assigner(option, value):
    model, known = _golden("rtmdet_tiny")
    setattr(model.bbox_head.assigner, option, value)
    want = golden.recorded_losses(known)
    assert _losses(model, known) != pytest.approx(want, rel=golden.LOSS_TOLERANCE)


@torch.no_grad()
def test_mask_loss_leaves_the_tolerance_with_shifted_masks():
    model, known = _golden("rtmdet_ins_tiny")
    targets = golden.targets(known)
    for target in targets:
        target.masks.copy_(target.masks.roll(8, -1))
    got = model.train().loss(golden.image(), targets)["loss_mask"].item()
    want = golden.recorded_losses(known)["loss_mask"]
    assert got != pytest.approx(want, rel=golden.LOSS_TOLERANCE)


# Millions of parameters and 1e9 operations at 640 x 640, as published.
SIZES = {
    "tiny": (4.8, 8.1),
    "s": (8.89, 14.8),
    "m": (24.71, 39.27),
    "l": (52.3, 80.23),
    "x": (94.86, 141.67),
}


@pytest.mark.parametrize("size", SIZES)
def test_published_size(size):
    """The published operations are the MACs and what else OpenMMLab's counter counts.

    Three digits after the point (m, l, x) are met with 3 operations for every value that a norm
    gives, one for each that channel attention pools and one for each that the neck upsamples.
    """
    model = _sized(size)
    params, operations = SIZES[size]
    cost = razorlite.cost.count(model, (640, 640))
    norms, rest = _other_operations(model)
    assert cost.params / 1e6 == pytest.approx(params, rel=0.021 if size == "tiny" else 0.001)
    assert 0.99 * operations < cost.macs / 1e9 < operations
    tolerance = 0.005 if size in "mlx" else 0.1
    assert (cost.macs + 3 * norms + rest) / 1e9 == pytest.approx(operations, abs=tolerance)


def test_operations_of_s_as_counted_part_by_part():
    """MMYOLO's documentation has them with 2 operations for each value that a norm gives."""
    model = _sized("s")
    modules = razorlite.cost.count(model, (640, 640)).modules
    parts = {"backbone.stem.0": 0.047514, "backbone.stem": 0.765, "bbox_head": 5.053}
    for part, published in {**parts, "neck": 4.366, "backbone": 5.416}.items():
        norms, rest = _other_operations(model, part)
        counted = (modules[part].macs + 2 * norms + rest) / 1e9
        assert counted == pytest.approx(published, abs=6e-4)


def _sized(size: str) -> Any:
    path = golden.FOLDER.parents[1] / f"configs/rtmdet/rtmdet_{size}_8xb32-300e_coco.yaml"
    with torch.device("meta"):
        return razorlite.build_model(path).eval()


@torch.no_grad()
def _other_operations(model: Any, part: str = "") -> tuple[int, int]:
    """Return how many values norms give, and how many are pooled or upsampled."""
    norms, rest = [], []
    hooks = []
    for name, module in model.named_modules():
        if not f"{name}.".startswith(f"{part}." if part else ""):
            continue
        if isinstance(module, torch.nn.BatchNorm2d):
            hooks.append(module.register_forward_hook(lambda _, __, out: norms.append(out.numel())))
        elif isinstance(module, ChannelAttention):
            hooks.append(module.register_forward_hook(lambda _, x, __: rest.append(x[0].numel())))
        elif "neck.reduce_layers." in name and name.count(".") == 2:
            hooks.append(module.register_forward_hook(lambda _, __, x: rest.append(4 * x.numel())))
    model(torch.empty(1, 3, 640, 640, device="meta"))
    for hook in hooks:
        hook.remove()
    return sum(norms), sum(rest)
