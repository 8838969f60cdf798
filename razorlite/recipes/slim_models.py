"""A user's own module made slim again from its subnet file."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from razorlite.core.errors import SubnetError
from razorlite.engine.checkpoint import load_weights
from razorlite.prune import Channels
from razorlite.space import Subnet

State = Mapping[str, Tensor]


def load_slim(
    model: nn.Module,
    subnet: str | Path | Subnet | Sequence[str | Path | Subnet],
    state: str | Path | State | None = None,
    *,
    example: Any = (224, 224),
    leaves: Sequence[str] = (),
) -> nn.Module:
    """Return the slim model that a subnet file stands for, of any module.

    Args:
        model: the whole model, built as it was before pruning; not changed.
        subnet: what was kept, or its file; several, the first pruning's first, where each was
            planned for the model that the one before gave.
        state: weights of the slim model: a checkpoint file, or tensors by name. Without them the
            whole model's own are cut.
        example: (height, width) in pixels, or another example of what the model is called with, as
            for `razorlite.prune.Channels`.
        leaves: module paths that are not looked into, as in planning.

    Raises:
        CheckpointError: the file cannot be read or is of another model.
        SubnetError: the subnet does not fit the model, or the tensors do not fit the subnet.
        ExportError: the model cannot be traced.
    """
    slim = model
    for one in [subnet] if isinstance(subnet, str | Path | Subnet) else subnet:
        chosen = one if isinstance(one, Subnet) else Subnet.load(one)
        slim = Channels(slim, example, leaves=leaves).slim(chosen)
    slim = copy.deepcopy(model) if slim is model else slim
    if isinstance(state, Mapping):
        _fill(slim, state)
    elif state is not None:
        load_weights(slim, state)
    return slim


def _fill(slim: nn.Module, state: State) -> None:
    try:
        slim.load_state_dict(dict(state))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise SubnetError(
            f"the tensors are not of the model that the subnet gives: {first}; give the slim "
            f"model's own state_dict()"
        ) from error
