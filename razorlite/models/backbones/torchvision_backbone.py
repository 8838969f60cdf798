"""Any of torchvision's classifiers as a backbone."""

import copy

import torch
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register, suggestion
from razorlite.models.layers import freeze, freeze_norm_statistics
from razorlite.models.pretrained import load_pretrained


@register()
class TorchvisionBackbone(nn.Module):
    """The maps at named nodes of a torchvision classifier; what comes after them is cut off.

    Attributes:
        out_channels: channels of each returned map.
    """

    def __init__(
        self,
        *,
        name: str,
        nodes: list[str],
        pretrained: str | None = None,
        frozen: list[str] | None = None,
        norm_eval: bool = False,
    ) -> None:
        """Build the network.

        Args:
            name: of a torchvision classifier, such as "regnet_y_400mf".
            nodes: layers whose outputs to return, finest first, as
                `torchvision.models.feature_extraction.get_graph_node_names` names them.
            pretrained: torchvision name, path or URL of weights.
            frozen: modules that do not learn, by name.
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: no such model, node or module, or a node that gives no map.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        self.body = _extractor(name, nodes)
        self.out_channels = _out_channels(self.body, name, nodes)
        self.norm_eval, self.frozen = norm_eval, list(frozen or [])
        known = dict(self.body.named_modules())
        for wanted in self.frozen:
            if wanted not in known:
                raise ConfigError(
                    f"TorchvisionBackbone.frozen: {name} has no module {wanted!r} up to its nodes"
                    f"{suggestion(wanted, known)}"
                )
        if pretrained:
            load_pretrained(self.body, pretrained)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to the maps of `nodes`."""
        return tuple(self.body(images).values())

    def train(self, mode: bool = True) -> "TorchvisionBackbone":
        """Switch between training and evaluation; what is frozen stays as it is."""
        super().train(mode)
        freeze(self.body.get_submodule(name) for name in self.frozen)
        if self.norm_eval:
            freeze_norm_statistics(self)
        return self


def _extractor(name: str, nodes: list[str]) -> nn.Module:
    names = zoo.list_models(module=zoo)
    if name not in names:
        raise ConfigError(
            f"TorchvisionBackbone.name: torchvision has no classifier {name!r}"
            f"{suggestion(name, names)}"
        )
    model = zoo.get_model(name, weights=None)
    _, known = get_graph_node_names(model)
    for node in nodes:
        if not any(n == node or n.startswith(f"{node}.") for n in known):
            raise ConfigError(
                f"TorchvisionBackbone.nodes: {name} has no node {node!r}{suggestion(node, known)}"
            )
    return create_feature_extractor(model, {node: str(i) for i, node in enumerate(nodes)})


def _out_channels(body: nn.Module, name: str, nodes: list[str]) -> tuple[int, ...]:
    shadow = copy.deepcopy(body).to("meta").eval()
    outs = shadow(torch.empty(1, 3, 224, 224, device="meta"))
    for node, out in zip(nodes, outs.values(), strict=True):
        if not isinstance(out, Tensor) or out.dim() != 4:
            raise ConfigError(
                f"TorchvisionBackbone.nodes: {node!r} of {name} gives no (N, C, H, W) map"
            )
    return tuple(out.shape[1] for out in outs.values())
