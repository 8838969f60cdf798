"""Any of timm's encoders, vision transformers among them, as maps for images of any size."""

import sys
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.ranges import Whole
from razorlite.core.registry import register
from razorlite.models.backbones.timm_backbone import build_timm, import_timm
from razorlite.models.pretrained import mark_pretrained, read_weights

_ANY_SIZE = ("vit_", "deit_", "eva02_")  # timm fits their positions to the image where asked to


@register()
class TimmEncoder(nn.Module):
    """The map of one stage or block of a timm model: a teacher that is no detector.

    A transformer's tokens become a map of its grid; images are scaled to the next multiple of its
    patches (14 pixels of DINOv2's), positions to the grid. It has no head.

    Args:
        name: of a timm model, such as "vit_small_patch14_dinov2.lvd142m".
        index: of the stage or block whose map is given, from 0; the last one by default.
        pretrained: "timm" for timm's own weights (downloaded), or a path or URL of weights, in
            timm's names or those that timm converts, such as DINOv2's own.
        options: further arguments of `timm.create_model`, such as {depth: 6}.

    Raises:
        ConfigError: timm is not installed, or has no such model or stage.
        CheckpointError: the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        *,
        name: str,
        index: Whole | None = None,
        pretrained: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        own = pretrained == "timm"
        any_size = {"dynamic_img_size": True} if name.startswith(_ANY_SIZE) else {}
        arguments = {"num_classes": 0, **any_size, **(options or {})}
        self.body = build_timm(import_timm(), name, own, arguments)
        if not hasattr(self.body, "forward_intermediates"):
            raise ConfigError(f"TimmEncoder.name: timm gives no maps of {name}; take another model")
        self.index = 1 if index is None else [index]  # the last one, or a single one
        patch = getattr(getattr(self.body, "patch_embed", None), "patch_size", (1, 1))
        self.patch = (int(patch[0]), int(patch[1]))
        if own:
            mark_pretrained(self.body, "timm")
        elif pretrained:
            _load(self.body, pretrained)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to a map (N, C, h, w)."""
        height, width = (
            -(-side // patch) * patch
            for side, patch in zip(images.shape[-2:], self.patch, strict=True)
        )
        if (height, width) != tuple(images.shape[-2:]):
            images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        body: Any = self.body
        [*_, maps] = body.forward_intermediates(
            images, indices=self.index, norm=True, intermediates_only=True, output_fmt="NCHW"
        )
        last: Tensor = maps
        return last


def _load(body: nn.Module, source: str) -> None:
    """Fill a timm model from a file of weights, by timm's own conversion where there is one.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    weights: dict[str, Tensor] = read_weights(source)
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        weights = convert(weights, body)
    expected = body.state_dict()
    wrong = [n for n, t in expected.items() if n not in weights or weights[n].shape != t.shape]
    if wrong:
        raise CheckpointError(
            f"weights {source!r} do not fit the timm model: {len(wrong)} of {len(expected)} "
            f"tensors, first: {wrong[0]}; name the model that they are of"
        )
    body.load_state_dict({name: weights[name] for name in expected})
    mark_pretrained(body, source)
