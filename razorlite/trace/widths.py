"""Widths that known modules keep as attributes, and layers that have them."""

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from razorlite.trace.sizes import Size

# of a class: the attribute, the layer whose number of outputs it is, and their name there
_WIDTHS: dict[type[nn.Module], tuple[str, str, str]] = {
    VisionTransformer: ("hidden_dim", "conv_proj", "out_channels"),
    nn.Transformer: ("d_model", "decoder.layers.0.linear2", "out_features"),
}


def remember_widths(model: nn.Module) -> nn.Module:
    """Let the attributes count as sizes that follow from shapes; return the model."""
    for module in model.modules():
        for kind, (name, *_) in _WIDTHS.items():
            if isinstance(module, kind):
                setattr(module, name, Size(getattr(module, name)))
    return model


def update_widths(model: nn.Module) -> None:
    """Set the attributes to what the layers have; other layers of a user's keep them."""
    for module in model.modules():
        for kind, (name, path, width) in _WIDTHS.items():
            layers = dict(module.named_modules()) if isinstance(module, kind) else {}
            if path in layers:
                setattr(module, name, getattr(layers[path], width))
