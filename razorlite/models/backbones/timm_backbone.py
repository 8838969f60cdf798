"""Any of timm's classifiers as a backbone; needs `pip install timm`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.ranges import Indices
from razorlite.core.registry import register, suggestion
from razorlite.models.backbones.node_backbone import NodeBackbone
from razorlite.models.layers import check_indices
from razorlite.models.pretrained import load_pretrained, mark_pretrained


@register()
class TimmBackbone(NodeBackbone):
    """The maps at feature stages or named nodes of a timm classifier; the rest is cut off.

    Attributes:
        out_channels: channels of each returned map.
        strides: image pixels per cell of each map; empty where `nodes` were named.
    """

    def __init__(
        self,
        *,
        name: str,
        out_indices: Indices | None = None,
        nodes: list[str] | None = None,
        pretrained: str | None = None,
        frozen: list[str] | None = None,
        norm_eval: bool = False,
    ) -> None:
        """Build the network.

        Args:
            name: of a timm classifier, such as "mobilenetv3_small_050".
            out_indices: rising numbers of the stages that timm lists as features; the last three
                by default.
            nodes: instead of them, layers whose outputs to return, finest first, as
                `torchvision.models.feature_extraction.get_graph_node_names` names them.
            pretrained: "timm" for timm's own weights (downloaded), or a path or URL of weights.
            frozen: modules that do not learn, by name.
            norm_eval: keep the batch norms' statistics while training.

        Raises:
            ConfigError: timm is not installed; no such model, stage, node or module; both or a
                node that gives no map.
            CheckpointError: the weights cannot be had or do not fit.
        """
        timm = import_timm()
        model = build_timm(timm, name, pretrained == "timm")
        strides: tuple[int, ...] = ()
        if nodes is None:
            nodes, strides = _stages(model, out_indices)
        elif out_indices is not None:
            raise ConfigError("TimmBackbone takes out_indices or nodes, got both; leave one out")
        super().__init__(model, name, nodes, frozen, norm_eval, _tracing(timm))
        self.strides = strides
        if pretrained == "timm":
            mark_pretrained(self.body, pretrained)
        elif pretrained:
            load_pretrained(self.body, pretrained)
        self.train()


def import_timm() -> Any:
    """Return the package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "TimmBackbone needs timm, which is not installed; pip install 'razorlite[timm]'"
        ) from None
    return timm


def build_timm(
    timm: Any, name: str, pretrained: bool, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return a timm model of a name, with further arguments of `timm.create_model`.

    Raises:
        ConfigError: there is none of that name.
        CheckpointError: its own weights cannot be had.
    """
    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise ConfigError(
            f"TimmBackbone.name: timm has no classifier {name!r}{suggestion(name, known)}"
        )
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **(options or {}))
        return model
    except Exception as error:  # no network, no such tag: each hub client has errors of its own
        if not pretrained:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot have timm's weights of {name} ({reason}); give the path of a local weights "
            f"file as `pretrained`, or null to start from scratch"
        ) from None


def _stages(model: Any, indices: tuple[int, ...] | None) -> tuple[list[str], tuple[int, ...]]:
    """Return the nodes and strides of feature stages."""
    stages = [dict(stage) for stage in getattr(model, "feature_info", [])]
    if indices is None:
        indices = tuple(range(len(stages)))[-3:]
    check_indices("TimmBackbone", indices, len(stages))
    chosen = [stages[i] for i in indices]
    return [s["module"] for s in chosen], tuple(s["reduction"] for s in chosen)


def _tracing(timm: Any) -> dict[str, Any]:
    """Return what torch.fx must not look into, as timm knows it."""
    return {
        "leaf_modules": list(timm.models.get_notrace_modules()),
        "autowrap_functions": list(timm.models.get_notrace_functions()),
    }
