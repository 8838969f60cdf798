"""From a model and a subnet to a smaller plain model, or to the same model with channels zeroed.

Each call finds the channel groups anew; `Channels` finds them once for several jobs.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from razorlite.prune.channels import Channels
from razorlite.space.subnet import Subnet


def apply(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: Any = (224, 224),
    leaves: Sequence[str] = (),
) -> nn.Module:
    """Return a smaller plain copy of the model: what the subnet drops is gone from every layer.

    Layers, names and weights are the model's own; channels that a convolution reads, its norms
    and the like shrink together. The model is not changed. Of a group that the subnet does not
    name, everything stays. Slim and masked model are run on noise, in evaluation and in training
    mode, and compared.

    Args:
        model: the whole model, as the subnet was planned for.
        subnet: its `channels` name the units to keep in each group.
        shape: (height, width) in pixels of images that the model takes, or another example of
            what it is called with, as for `Channels`.
        leaves: module paths that are not looked into, as in planning.

    Raises:
        SubnetError: the subnet does not fit the model.
        ExportError: the model cannot be traced, would not fit together when slim, or would
            compute something else; names the first module where it does.
    """
    return Channels(model, shape, leaves=leaves).slim(subnet)


def slim_weights(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: Any = (224, 224),
    leaves: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Return the weights of the slim model by name, for a subnet that was planned for the model.

    Nothing is checked, as loading them into what `apply` gives does that. Arguments: as for
    `apply`.
    """
    return Channels(model, shape, leaves=leaves).slim_weights(subnet)


def mask(
    model: nn.Module,
    subnet: Subnet,
    *,
    shape: Any = (224, 224),
    leaves: Sequence[str] = (),
) -> nn.Module:
    """Return a copy of the model with every weight that touches a dropped channel set to zero.

    These are the weights, biases and norm parameters that make the channel and the weights that
    read it. So a dropped channel has no influence, whatever activations make of it, and the copy
    computes what the slim model computes. Arguments, errors: as for `apply`.
    """
    return Channels(model, shape, leaves=leaves).masked(subnet)
