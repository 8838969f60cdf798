"""Names of tensors in public checkpoints: what is no weight, and what was renamed since.

OpenMMLab's detectors have been renamed over the years, and its own code reads the old names. Here
they are rules that apply only where the model lacks the old name and has the new one.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_COUNTERS = ("steps", "n_averaged")  # of averaged models: OpenMMLab's and PyTorch's
_NORMALISATION = "data_preprocessor."  # mean and std; here they belong to the data

_RENAMED = [
    # FCOS before MMDetection 2.2
    (r"\bfcos_(cls|reg|centerness)\.", r"conv_\1."),
    # RetinaNet up to MMDetection 0.5.3: towers of plain convolutions
    (r"\b((?:cls|reg)_convs\.\d+)\.(weight|bias)$", r"\1.conv.\2"),
    # Deformable convolutions before version 2
    (r"(\w)_offset\.(weight|bias)$", r"\1.conv_offset.\2"),
    # DETR of MMDetection 2 had its transformer inside the head, ...
    (r"\bbbox_head\.transformer\.", ""),
    (r"\bbbox_head\.input_proj\.", "neck.convs.0.conv."),
    (r"\bbbox_head\.query_embedding\.", "query_embedding."),
    # ... its layers' parts in lists, ...
    (r"(coder\.layers\.\d+)\.attentions\.0\.", r"\1.self_attn."),
    (r"(coder\.layers\.\d+)\.attentions\.1\.", r"\1.cross_attn."),
    (r"(coder\.layers\.\d+)\.ffns\.0\.", r"\1.ffn."),
    # ... and before that other names of these.
    (r"(coder\.layers\.\d+)\.multihead_attn\.", r"\1.cross_attn."),
    (r"\bdecoder\.norm\.", "decoder.post_norm."),
]


def without_bookkeeping(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's weights without what training kept beside them.

    Cut off is `module.` of wrapped models. Left out are counters of averaged models and the copies
    that MMDetection 2 stored as `ema_…`: like MMDetection 3, it has the average under the plain
    names and the weights that were trained in the copies.
    """
    state = dict(state)
    while any(key.startswith("module.") for key in state) and all(
        key.startswith("module.") or key in _COUNTERS for key in state
    ):
        inside = {key: value for key, value in state.items() if key.startswith("module.")}
        state = {key.removeprefix("module."): value for key, value in inside.items()}
    copies = {f"ema_{key.replace('.', '_')}" for key in state}
    return {key: value for key, value in state.items() if key not in copies}


def own_names(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Return a file's weights under the names that a model has.

    Args:
        state: tensors by the file's names.
        expected: the model's names.
    """
    names = {key: key if key in expected else _new_name(key) for key in state}
    return {
        new if new in expected and (new == key or new not in state) else key: state[key]
        for key, new in names.items()
        if key in expected or not key.startswith(_NORMALISATION)
    }


def _new_name(key: str) -> str:
    for old, new in _RENAMED:
        key = re.sub(old, new, key)
    return key
