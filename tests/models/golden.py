"""Golden values: outputs of reference detectors whose weights are drawn from tensor names."""

import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.models.backbones.resnet import ResNet
from razorlite.models.detectors.single_stage import ATSS, FCOS, GFL, RetinaNet
from razorlite.models.detectors.two_stage import CascadeRCNN, FasterRCNN, MaskRCNN
from razorlite.models.heads.atss_head import ATSSHead
from razorlite.models.heads.cascade_roi_head import CascadeRoIHead
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.gfl_head import GFLHead
from razorlite.models.heads.region_heads import FCNMaskHead, Shared2FCBBoxHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.heads.roi_head import StandardRoIHead
from razorlite.models.heads.rpn_head import RPNHead
from razorlite.models.necks.fpn import FPN
from razorlite.models.necks.pafpn import PAFPN
from razorlite.models.tasks.losses import SmoothL1Loss
from razorlite.models.tasks.samplers import RandomSampler
from razorlite.structures import Target

FOLDER = Path(__file__).resolve().parents[1] / "golden"
MAP_TOLERANCE = 1e-3  # of the map's largest magnitude
LOSS_TOLERANCE = 2e-4  # relative
BOX_TOLERANCE = 0.1  # pixels
SCORE_TOLERANCE = 3e-4

_OUTPUT_LAYERS = {
    *("retina_cls", "retina_reg", "conv_cls", "conv_reg", "conv_centerness"),
    *("atss_cls", "atss_reg", "atss_centerness", "gfl_cls", "gfl_reg"),
    *("rpn_cls", "rpn_reg", "fc_cls", "fc_reg"),
}


def keys(name: str, folder: Path = FOLDER) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the reference's state dict."""
    rows = [line.split(" ", 1) for line in (folder / f"{name}.keys.txt").read_text().splitlines()]
    return [(key, tuple(int(n) for n in shape.strip("(),").split(",") if n)) for key, shape in rows]


def metrics(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    """Return the recorded arrays."""
    with np.load(folder / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def fill(
    model: nn.Module, known: dict[str, np.ndarray], draw: Callable[..., np.ndarray] | None = None
) -> None:
    """Set every weight from its own name, and batch-norm statistics from the recorded ones."""
    draw = draw or _draw
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.as_tensor(draw(name, tuple(tensor.shape))))
    for key, value in known.items():
        if key.startswith("state."):
            state[key.removeprefix("state.")].copy_(torch.from_numpy(value).float())


@cache
def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = np.asarray(rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(noise)
    if name.endswith("running_mean"):
        return 0.1 * noise
    if name.endswith("embedding.weight"):
        return noise
    if len(shape) >= 2:
        gain = 0.05 if name.split(".")[-2] in _OUTPUT_LAYERS else 1
        return (noise * (2 / np.prod(shape[1:])) ** 0.5 * gain).astype(np.float32)
    return 1 + 0.1 * noise if name.endswith(("weight", "scale")) else 0.1 * noise


def image() -> Tensor:
    """Return the (2, 3, 192, 256) golden images."""
    rng = np.random.default_rng(20)
    return torch.from_numpy(rng.standard_normal((2, 3, 192, 256)).astype(np.float32))


def targets(known: dict[str, np.ndarray]) -> list[Target]:
    """Return what the golden images show."""
    return [
        Target(
            boxes=torch.from_numpy(known[f"gt.{i}.boxes"]),
            labels=torch.from_numpy(known[f"gt.{i}.labels"]),
            masks=_full_boxes(known[f"gt.{i}.boxes"]),
            size=(192, 256),
            original_size=(192, 256),
        )
        for i in range(2)
    ]


def _full_boxes(boxes: np.ndarray) -> Tensor:
    masks = torch.zeros(len(boxes), 192, 256, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def map_errors(maps: dict[str, Tensor], known: dict[str, np.ndarray]) -> dict[str, float]:
    """Return per recorded `PREFIX.L` map the largest error over the map's largest magnitude."""
    errors = {}
    for name, value in maps.items():
        got, want = value.detach().numpy(), known.get(name)
        stride = next((k for k in known if k.startswith(f"{name}@stride")), None)
        if want is None:
            assert stride is not None, name
            assert tuple(known[f"{name}@shape"]) == got.shape
            want, got = known[stride], got.flatten()[:: int(stride.split("@stride")[1])]
        assert got.shape == want.shape, (name, got.shape, want.shape)
        errors[name] = float(np.abs(got - want).max() / np.abs(want).max())
    return errors


def feature_maps(features: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return a neck's outputs as the golden files record them."""
    maps = {}
    for i, x in enumerate(features):
        maps[f"feat.{i}.mean"] = x.mean((0, 2, 3))[:64]
        maps[f"feat.{i}.corner"] = x[:, :8, :3, :3]
    return maps


def raw_maps(raw: tuple[tuple[Tensor, ...], ...], prefix: str = "raw") -> dict[str, Tensor]:
    """Return a head's outputs as the golden files record them."""
    return {f"{prefix}.{k}.{i}": x for k, kind in enumerate(raw) for i, x in enumerate(kind)}


def recorded_losses(known: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the losses, those given per level summed; accuracy is not one."""
    losses: dict[str, float] = {}
    for key, value in known.items():
        if key.startswith("loss.") and key != "loss.acc":
            name = key.split(".")[1]
            losses[name] = losses.get(name, 0.0) + float(value.sum())
    return losses


def unmatched(detections: Any, known: dict[str, np.ndarray], i: int) -> list[str]:
    """Return the recorded detections of image `i` that have no equal among `detections`."""
    missing = []
    boxes, scores = detections.boxes.numpy(), detections.scores.numpy()
    rows = (known[f"pred.{i}.{k}"] for k in ("boxes", "scores", "labels"))
    for box, score, label in zip(*rows, strict=True):
        close = np.abs(boxes - box).max(1) <= BOX_TOLERANCE
        close &= np.abs(scores - score) <= SCORE_TOLERANCE
        if not (close & (detections.labels.numpy() == label)).any():
            missing.append(f"{label} {score:.4f} {box.round(1)}")
    return missing


def retinanet_r50(depth: int = 50) -> RetinaNet:
    """The reference's RetinaNet with 4 classes."""
    channels = [256, 512, 1024, 2048] if depth >= 50 else [64, 128, 256, 512]
    return RetinaNet(
        backbone=ResNet(depth=depth, frozen_stages=1, norm_eval=True),
        neck=FPN(
            in_channels=channels,
            out_channels=256,
            start_level=1,
            add_extra_convs="on_input",
            num_outs=5,
        ),
        bbox_head=RetinaHead(num_classes=4, in_channels=256),
    )


def fcos_r50() -> FCOS:
    """The reference's FCOS (caffe, group norm) with 4 classes."""
    return FCOS(
        backbone=ResNet(depth=50, frozen_stages=1, norm_eval=True, norm_frozen=True, style="caffe"),
        neck=FPN(
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            start_level=1,
            add_extra_convs="on_output",
            num_outs=5,
            relu_before_extra_convs=True,
        ),
        bbox_head=FCOSHead(num_classes=4, in_channels=256),
    )


def atss_r50() -> ATSS:
    """The reference's ATSS with 4 classes."""
    return ATSS(bbox_head=ATSSHead(num_classes=4, in_channels=256), **_dense_pyramid())


def gfl_r50() -> GFL:
    """The reference's GFL with 4 classes."""
    return GFL(bbox_head=GFLHead(num_classes=4, in_channels=256), **_dense_pyramid())


def _dense_pyramid() -> dict[str, nn.Module]:
    return {
        "backbone": ResNet(depth=50, frozen_stages=1, norm_eval=True),
        "neck": FPN(
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            start_level=1,
            add_extra_convs="on_output",
            num_outs=5,
        ),
    }


def _pyramid(neck: type[FPN] = FPN, **backbone: Any) -> dict[str, nn.Module]:
    options = {"depth": 50, "frozen_stages": 1, "norm_eval": True, **backbone}
    return {
        "backbone": ResNet(**options),
        "neck": neck(in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    }


def every_candidate(proposals: bool) -> RandomSampler:
    """Return the sampler that keeps all, as the golden values were made."""
    return RandomSampler(num=10**6, pos_fraction=1.0, add_gt_as_proposals=proposals)


def faster_rcnn_r50(**pyramid: Any) -> FasterRCNN:
    """The reference's Faster R-CNN with 4 classes."""
    return FasterRCNN(
        rpn_head=RPNHead(in_channels=256, sampler=every_candidate(False)),
        roi_head=StandardRoIHead(
            bbox_head=Shared2FCBBoxHead(num_classes=4, in_channels=256),
            sampler=every_candidate(True),
        ),
        **_pyramid(**pyramid),
    )


def faster_rcnn_r50_pafpn() -> FasterRCNN:
    """Faster R-CNN with path aggregation."""
    return faster_rcnn_r50(neck=PAFPN)


def faster_rcnn_x101() -> FasterRCNN:
    """Faster R-CNN on ResNeXt-101 32x4d."""
    return faster_rcnn_r50(depth=101, groups=32, base_width=4)


def cascade_rcnn_r50() -> CascadeRCNN:
    """The reference's Cascade R-CNN with 4 classes."""
    stds = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
    heads = [
        Shared2FCBBoxHead(
            num_classes=4,
            in_channels=256,
            reg_class_agnostic=True,
            target_stds=std,
            loss_bbox=SmoothL1Loss(beta=1.0),
        )
        for std in stds
    ]
    return CascadeRCNN(
        rpn_head=RPNHead(
            in_channels=256,
            sampler=every_candidate(False),
            loss_bbox=SmoothL1Loss(beta=1 / 9),
        ),
        roi_head=CascadeRoIHead(bbox_head=heads, sampler=every_candidate(True)),
        **_pyramid(),
    )


def mask_rcnn_r50(**pyramid: Any) -> MaskRCNN:
    """The reference's Mask R-CNN with 4 classes."""
    return MaskRCNN(
        rpn_head=RPNHead(in_channels=256, sampler=every_candidate(False)),
        roi_head=StandardRoIHead(
            bbox_head=Shared2FCBBoxHead(num_classes=4, in_channels=256),
            mask_head=FCNMaskHead(num_classes=4, in_channels=256),
            sampler=every_candidate(True),
        ),
        **_pyramid(**pyramid),
    )
