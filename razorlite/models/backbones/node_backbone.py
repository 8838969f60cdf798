"""A classifier of another library as a backbone, cut at named nodes of its graph."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion
from razorlite.models.backbones.base import FrozenByName


class NodeBackbone(FrozenByName):
    """The maps at named nodes of a model; what comes after them is cut off.

    Attributes:
        body: the model up to its last node, its modules under their own names.
        out_channels: channels of each returned map.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        nodes: Sequence[str],
        frozen: Sequence[str] | None,
        norm_eval: bool,
        tracer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Cut the model.

        Args:
            model: to cut.
            name: of the model, for messages.
            nodes: layers whose outputs to return, finest first.
            frozen: modules that do not learn, by name.
            norm_eval: keep the batch norms' statistics while training.
            tracer_kwargs: of `torch.fx.Tracer`.

        Raises:
            ConfigError: no such node or module, a node that gives no map, or a model that
                torch.fx cannot trace.
        """
        super().__init__()
        self.body = self._extractor(model, name, nodes, tracer_kwargs)
        self.out_channels = self._channels(name, nodes)
        self.freeze_by_name(frozen, f"{name} up to its last node", norm_eval)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) images to the maps of `nodes`."""
        return tuple(self.body(images).values())

    def named_part(self) -> nn.Module:
        """Return the body."""
        return self.body

    def __deepcopy__(self, memo: dict[int, Any]) -> "NodeBackbone":
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        for graph in ("train_graph", "eval_graph"):  # which PyTorch 2.4 forgets
            setattr(copied.body, graph, copy.deepcopy(getattr(self.body, graph), memo))
        return copied

    def _extractor(
        self, model: nn.Module, name: str, nodes: Sequence[str], options: dict[str, Any] | None
    ) -> nn.Module:
        quiet = {"tracer_kwargs": options, "suppress_diff_warning": True}
        try:
            _, known = get_graph_node_names(model, **quiet)
        except Exception as error:  # the model's own code runs, with stand-ins for tensors
            raise ConfigError(
                f"{type(self).__name__}: {name} cannot be traced by torch.fx ({error}); choose "
                f"another model"
            ) from error
        for node in nodes:
            if not any(n == node or n.startswith(f"{node}.") for n in known):
                raise ConfigError(
                    f"{type(self).__name__}.nodes: {name} has no node {node!r}"
                    f"{suggestion(node, _with_parents(known))}"
                )
        expected = {node: str(i) for i, node in enumerate(nodes)}
        extractor: nn.Module = create_feature_extractor(model, expected, **quiet)
        return extractor

    def _channels(self, name: str, nodes: Sequence[str]) -> tuple[int, ...]:
        shadow = copy.deepcopy(self).body.to("meta").eval()
        outs = shadow(torch.empty(1, 3, 224, 224, device="meta"))
        for node, out in zip(nodes, outs.values(), strict=True):
            # of a square image: channels in the last place show
            if not isinstance(out, Tensor) or out.dim() != 4 or out.shape[2] != out.shape[3]:
                raise ConfigError(
                    f"{type(self).__name__}.nodes: {node!r} of {name} gives no (N, C, H, W) map"
                )
        return tuple(out.shape[1] for out in outs.values())


def _with_parents(nodes: Sequence[str]) -> set[str]:
    """Return the names of nodes and of all modules around them."""
    parts = [node.split(".") for node in nodes]
    return {".".join(p[:count]) for p in parts for count in range(1, len(p) + 1)}
