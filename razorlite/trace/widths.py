"""Widths that known modules keep as attributes, and layers that have them."""

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from razorlite.trace.sizes import Size

# of a class: the attribute and the layer whose number of outputs it is
_WIDTHS: dict[type[nn.Module], tuple[str, str]] = {VisionTransformer: ("hidden_dim", "conv_proj")}


def remember_widths(model: nn.Module) -> nn.Module:
    """Let the attributes count as sizes that follow from shapes; return the model."""
    for module in model.modules():
        for kind, (name, _) in _WIDTHS.items():
            if isinstance(module, kind):
                setattr(module, name, Size(getattr(module, name)))
    return model


def update_widths(model: nn.Module) -> None:
    """Set the attributes to what the layers have."""
    for module in model.modules():
        for kind, (name, layer) in _WIDTHS.items():
            if isinstance(module, kind):
                setattr(module, name, module.get_submodule(layer).out_channels)
