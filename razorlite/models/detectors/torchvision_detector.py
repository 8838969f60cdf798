"""torchvision's own detectors with the face of ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models import detection

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register, suggestion
from razorlite.models.backbones.base import FrozenByName
from razorlite.models.detectors.single_stage import Detector
from razorlite.models.detectors.torchvision_dense import DenseKind, FCOSKind, RetinaKind
from razorlite.models.detectors.torchvision_regions import RegionKind
from razorlite.models.heads.dense import sizes_in, sizes_of
from razorlite.models.heads.region_masks import to_original
from razorlite.models.pretrained import mark_pretrained, read_detector_weights
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.structures import Batch, Detections, Target

_log = logging.getLogger("razorlite")
_BUILDERS = (
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn"),
    "maskrcnn_resnet50_fpn_v2",
)
_CLASSES = (  # modules whose weights are those of single classes
    "head.classification_head.cls_logits",
    *("roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits"),
)


@register()
class TorchvisionDetector(Detector, FrozenByName):
    """A detector of `torchvision.models.detection`: RetinaNet, FCOS, Faster R-CNN or Mask R-CNN.

    Backbone, heads, matching and losses are torchvision's, under torchvision's names, so that its
    weights are this module's. Its transform is left out: images come normalised, resized and padded
    to a multiple of 32 as `data` says, as to every detector here. Labels count from 0 without
    background. What is found is what torchvision finds in the same pixels, and the same function of
    tensors is written to files for other runtimes.

    Attributes:
        num_classes: how many classes there are, without background.
        settings: what is kept of the detections.
    """

    def __init__(
        self,
        *,
        name: str,
        num_classes: Count,
        pretrained: str | None = None,
        post_process: PostProcess | None = None,
        frozen: list[str] | None = None,
        norm_eval: bool = False,
    ) -> None:
        """Build the detector.

        Args:
            name: of torchvision's function, such as "retinanet_resnet50_fpn".
            num_classes: how many classes there are, without background.
            pretrained: path, URL or torchvision name of weights for the whole detector. What
                belongs to classes is left at its initialisation if there are others.
            post_process: what to keep of the detections; torchvision's settings by default.
            frozen: modules that do not learn, such as "backbone.body.layer1".
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: no such detector or module.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        self._adopt(_built(name, num_classes), post_process)
        self.freeze_by_name(frozen, name, norm_eval)
        if pretrained is not None:
            self._start_from(pretrained)
        self.train()

    @classmethod
    def of(cls, model: nn.Module, post_process: PostProcess | None = None) -> TorchvisionDetector:
        """Return a detector that consists of the modules of one built by torchvision.

        Args:
            model: a `RetinaNet`, `FCOS`, `FasterRCNN` or `MaskRCNN`; its parts are shared.
            post_process: what to keep of the detections; its own settings by default.

        Raises:
            ConfigError: it is none of these.
        """
        detector = cls.__new__(cls)
        nn.Module.__init__(detector)
        detector._adopt(model, post_process)
        detector.freeze_by_name(None, type(model).__name__, False)
        return detector

    def _adopt(self, model: nn.Module, post_process: PostProcess | None) -> None:
        for name, child in model.named_children():
            if name != "transform":
                self.add_module(name, child)
        self.kind = _kind_of(model)
        self.num_classes = self.kind.num_classes
        self.settings = post_process or self.kind.settings

    def named_part(self) -> nn.Module:
        """Return this module: names are torchvision's."""
        return self

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the (N, C, H, W) maps of (N, 3, H, W) images that the heads see, by name."""
        maps: dict[str, Tensor] = self.get_submodule("backbone")(images)
        return maps

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Return what the heads give for (N, 3, H, W) images.

        Of one stage (N, P, C) logits, (N, P, 4) codes and, of FCOS, (N, P, 1) centre-ness per
        level; of two stages the proposals' (N, A, H, W) logits and (N, 4 * A, H, W) deltas per
        level, then (R, C + 1) logits, background first, (R, 4 * (C + 1)) deltas and mask logits.
        """
        return self.kind.raw(self, self.features(images), _size(images))

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return torchvision's losses of (N, 3, H, W) images; crowd boxes do not count."""
        targets = [t.without_crowd() for t in targets]
        losses = self.kind.loss(self, images, targets, sizes_in(_size(images), targets))
        return {_loss_name(name): value for name, value in losses.items()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """Return the detections of each image, in pixels of the original images."""
        frames, maps = batch.frames(), self.features(batch.images)
        parts = self._candidates(maps, _size(batch.images), sizes_of(frames))
        found = [
            self.post_process.finish(boxes[score > 0], score[score > 0], labels[score > 0])
            for boxes, score, labels in zip(*parts, strict=True)
        ]
        heads = self.kind.mask_heads(self)
        return to_original(self.kind.pool, heads, tuple(maps.values()), found, frames)

    def decode(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return candidates: (N, K, 4) boxes, (N, K) scores and (N, K) labels."""
        return self._candidates(self.features(images), _size(images), sizes)

    def detect(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and, with masks, those (N, M, H, W), see `Detector`."""
        maps, size = self.features(images), _size(images)
        found = self.post_process.keep_fixed(*self._candidates(maps, size, sizes))
        return *found, *self.kind.masks(self, maps, found, size)

    @property
    def post_process(self) -> PostProcess:
        """The settings."""
        return self.settings

    @property
    def max_detections(self) -> int:
        """How many detections of an image `predict` returns at most."""
        return self.settings.max_per_img

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `detect` returns."""
        return (*super().outputs, *(["masks"] if self.kind.mask_heads(self) else []))

    def _candidates(
        self, maps: dict[str, Tensor], size: tuple[int, int], sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.kind.candidates(self, maps, size, sizes)

    def _start_from(self, source: str) -> None:
        """Fill the modules from weights; other classes' rows are left out and told."""
        weights, own = read_detector_weights(source), self.state_dict()
        others = [
            name
            for name, tensor in weights.items()
            if name.startswith(_CLASSES) and name in own and own[name].shape != tensor.shape
        ]
        fitting = {name: weights[name] for name in weights if name not in others}
        _check_fit(fitting, own, others, source)
        self.load_state_dict(fitting, strict=False)
        mark_pretrained(self, source)
        if others:
            _log.info("%s is of other classes: %s are drawn anew", source, ", ".join(others))


def _check_fit(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], left: Sequence[str], source: str
) -> None:
    """Refuse weights that lack something or have another shape."""
    for name, tensor in own.items():
        if name in left or name.endswith("num_batches_tracked"):
            continue
        have = tuple(weights[name].shape) if name in weights else None
        if have != tuple(tensor.shape):
            came = "is missing" if have is None else f"has shape {have}"
            raise CheckpointError(
                f"weights {source!r}: {name} {came}, expected {tuple(tensor.shape)}; are they of "
                f"another detector?"
            )


def _built(name: str, num_classes: int) -> nn.Module:
    if name not in _BUILDERS:
        raise ConfigError(
            f"TorchvisionDetector.name: {name!r} is none of {', '.join(_BUILDERS)}"
            f"{suggestion(name, _BUILDERS)}"
        )
    background = int("rcnn" in name)
    model: nn.Module = zoo.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes + background
    )
    return model


def _kind_of(model: nn.Module) -> DenseKind | RegionKind:
    """Return how a model of torchvision computes what we ask for."""
    kinds: dict[type[nn.Module], Any] = {
        detection.RetinaNet: RetinaKind,
        detection.FCOS: FCOSKind,
        detection.FasterRCNN: RegionKind,
        detection.MaskRCNN: RegionKind,
    }
    for kind, taken in kinds.items():
        if isinstance(model, kind):
            known: DenseKind | RegionKind = taken.of(model)
            return known
    raise ConfigError(
        f"TorchvisionDetector takes torchvision's RetinaNet, FCOS, FasterRCNN and MaskRCNN, got "
        f"{type(model).__name__}"
    )


def _loss_name(name: str) -> str:
    return name if name.startswith("loss") else f"loss_{name}"


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
