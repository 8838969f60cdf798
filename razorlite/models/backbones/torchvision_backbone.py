"""Any of torchvision's classifiers as a backbone."""

from torch import nn
from torchvision import models as zoo

from razorlite.core.errors import ConfigError
from razorlite.core.registry import register, suggestion
from razorlite.models.backbones.node_backbone import NodeBackbone
from razorlite.models.pretrained import load_pretrained


@register()
class TorchvisionBackbone(NodeBackbone):
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
        super().__init__(_build(name), name, nodes, frozen, norm_eval)
        if pretrained:
            load_pretrained(self.body, pretrained)
        self.train()


def _build(name: str) -> nn.Module:
    names = zoo.list_models(module=zoo)
    if name not in names:
        raise ConfigError(
            f"TorchvisionBackbone.name: torchvision has no classifier {name!r}"
            f"{suggestion(name, names)}"
        )
    model: nn.Module = zoo.get_model(name, weights=None)
    return model
