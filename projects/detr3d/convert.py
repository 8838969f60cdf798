"""Checkpoints of the original DETR3D repository (2021) for this model.

    python -m projects.detr3d.convert OLD.pth NEW.pth

Its boxes have w before l and another yaw, -yaw - pi / 2 of ours, so that sine and cosine change
places and signs. Checkpoints of MMDetection3D's own model zoo need nothing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.core.files import atomic_write
from razorlite.core.tensor_files import named_tensors, read_tensor_file

_ROWS = [0, 1, 3, 2, 4, 5, 7, 6, 8, 9]  # where each number of a code comes from
_SIGNS = [1, 1, 1, 1, 1, 1, -1, -1, 1, 1]
_LAST = (".4.weight", ".4.bias")  # of a regression branch


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the original repository as this model has them; its own stay as they were.

    Args:
        state: by name.

    Raises:
        CheckpointError: there is no last layer of a regression branch with 10 outputs.
    """
    last = [k for k in state if "reg_branches." in k and k.endswith(_LAST)]
    if not last or any(len(state[name]) != len(_ROWS) for name in last):
        raise CheckpointError(
            f"no DETR3D: expected layers reg_branches.N.4 with {len(_ROWS)} outputs, got "
            f"{ {name: tuple(state[name].shape) for name in last[:2]} or list(state)[:3] }"
        )
    return {**state, **{name: _turned(state[name]) for name in last}}


def _turned(value: Tensor) -> Tensor:
    """Return a (10, …) weight or bias with its rows in our order."""
    signs = value.new_tensor(_SIGNS).view(-1, *[1] * (value.dim() - 1))
    return value[_ROWS] * signs


def convert_file(source: str | Path, target: str | Path) -> None:
    """Write a checkpoint of the original repository as one of ours.

    Raises:
        CheckpointError: it cannot be read, is none, or was converted before.
    """
    content = read_tensor_file(source)
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if isinstance(meta, Mapping) and {"detr3d_converted", "detr3d_convert_tag"} & meta.keys():
        raise CheckpointError(f"{source} has been converted already; take it as it is")
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    made = {"state_dict": converted(named_tensors(state, str(source)))}
    with atomic_write(target) as file:
        torch.save({**made, "meta": {"detr3d_converted": True}}, file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise ConfigError("usage: python -m projects.detr3d.convert OLD.pth NEW.pth")
    convert_file(*sys.argv[1:])
