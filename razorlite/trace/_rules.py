"""What each kind of call does to channels.

Where a call is not understood, or would not work with fewer channels, the channels it reads are
fixed: a missing rule costs reach, never correctness.
"""

from functools import partial
from typing import Any

from torch import nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import DeformConv2d, StochasticDepth
from torchvision.ops.misc import FrozenBatchNorm2d

from razorlite.models.backbones.vit import resize_positions
from razorlite.trace import _layer_rules as layers
from razorlite.trace import _move_rules as moves
from razorlite.trace import _product_rules as products
from razorlite.trace import _reduction_rules as reductions
from razorlite.trace import _signal_rules as signals
from razorlite.trace import _view_rules as views
from razorlite.trace._heads_rules import heads
from razorlite.trace.calls import Call, Rule
from razorlite.trace.ledger import Ledger
from razorlite.trace.rules import taught_rule
from razorlite.trace.swin import STEPS

_POINTWISE = """
    relu relu6 leaky_relu rrelu prelu gelu silu mish hardswish hardsigmoid hardtanh elu celu
    selu softplus softsign sigmoid tanh logsigmoid tanhshrink softshrink hardshrink threshold
    exp exp2 expm1 log log2 log10 log1p sqrt rsqrt abs neg square sign round floor ceil trunc
    reciprocal erf sin cos clamp clamp_min clamp_max clip nan_to_num dropout alpha_dropout
    dropout1d dropout2d dropout3d feature_dropout feature_alpha_dropout stochastic_depth add
    sub subtract mul multiply div divide true_divide truediv floordiv pow rsub iadd isub imul
    itruediv radd rmul rdiv rpow rtruediv ipow idiv copy
    maximum minimum where lerp addcmul addcdiv eq ne lt le gt ge and or logical_and
    logical_or logical_not isnan masked_fill zeros_like ones_like full_like empty_like
    rand_like randn_like bernoulli fill zero real imag angle conj complex polar
"""
_SAME = """
    to float double half bfloat16 type type_as bool int long contiguous clone detach cpu cuda
    data requires_grad
"""
_SPATIAL = """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d interpolate upsample
"""
_MOVES = """
    permute transpose swapaxes swapdims movedim moveaxis t T mT squeeze unsqueeze flatten flip
    repeat_interleave tile repeat expand_as
"""
_ORDERS = ["topk", "sort", "argsort", "argmax", "argmin", "kthvalue", "median", "mode"]
_RUNNING = ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"]
_FOURIER = [f"fft_{kind}fft{end}" for kind in ("", "i", "r", "ir") for end in ("", "2", "n")]
_CREATIONS = ["new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"]
_RESHAPES = {"view": 1, "reshape": 1, "unflatten": 2, "expand": 1, "broadcast_to": 1}
_REDUCTIONS = ["norm", "mean", "sum", "amax", "amin", "max", "min", "std", "var", "logsumexp"]

_FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), moves.pointwise),
    **dict.fromkeys(_SPATIAL.split(), moves.spatial),
    **dict.fromkeys(_MOVES.split(), moves.move),
    **dict.fromkeys(_REDUCTIONS, reductions.reduce),
    **dict.fromkeys(["softmax", "log_softmax", "softmin"], reductions.softmax),
    **dict.fromkeys(["narrow", "select", "unbind"], moves.select),
    **dict.fromkeys(_SAME.split(), moves.same),
    **dict.fromkeys(_CREATIONS, moves.constant),
    **dict.fromkeys(_RESHAPES, views.reshape),
    **dict.fromkeys(["cat", "concat", "concatenate"], moves.cat),
    **dict.fromkeys(["chunk", "split", "tensor_split", "split_with_sizes"], moves.split),
    **dict.fromkeys(["matmul", "bmm"], products.matmul),
    **dict.fromkeys(["reshape_as", "view_as"], views.reshape_as),
    **dict.fromkeys(_ORDERS, signals.order),
    **dict.fromkeys(_RUNNING, signals.cumulate),
    **dict.fromkeys(_FOURIER, signals.fourier),
    **dict.fromkeys(["fft_fftshift", "fft_ifftshift"], signals.shifted),
    **dict.fromkeys(["gather", "take_along_dim"], signals.gather),
    "roll": signals.roll,
    "embedding": signals.look_up,
    "unfold": signals.unfold,
    "fold": signals.fold,
    "glu": signals.gated,
    "view_as_complex": signals.as_complex,
    "view_as_real": signals.as_real,
    "cosine_similarity": reductions.similarity,
    "pad": moves.pad,
    "normalize": reductions.normalize,
    "einsum": products.einsum,
    "scaled_dot_product_attention": products.attention,
    "getitem": moves.item,
    "setitem": moves.put,
    "roi_align": moves.regions,
    "roi_pool": moves.regions,
    "grid_sample": moves.regions,
    "stack": moves.stack,
    "channel_shuffle": moves.channel_shuffle,
    "native_channel_shuffle": moves.channel_shuffle,
    "pixel_shuffle": moves.pixel_shuffle,
    "pixel_unshuffle": moves.pixel_unshuffle,
}

_CALLED: dict[str, Rule] = {
    **{f"conv{kind}{n}d": layers.conv for kind in ("", "_transpose") for n in (1, 2, 3)},
    **dict.fromkeys(["batch_norm", "instance_norm"], layers.norm),
    **dict.fromkeys(["layer_norm", "rms_norm"], layers.layer_norm),
    "deform_conv2d": layers.deformable,
    "group_norm": layers.group_norm,
    "linear": layers.linear,
    "prelu": layers.prelu,
}  # layers that a forward calls as functions
_LAYER_NORMS = [nn.LayerNorm, LayerNorm2d, *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else [])]
_LAYERS: dict[type[nn.Module], Rule] = {
    **dict.fromkeys([nn.Conv1d, nn.Conv2d, nn.Conv3d], layers.conv),
    **dict.fromkeys([nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d], layers.conv),
    DeformConv2d: layers.deformable,
    nn.Linear: layers.linear,
    **dict.fromkeys([nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d], layers.norm),
    **dict.fromkeys([nn.SyncBatchNorm, FrozenBatchNorm2d], layers.norm),
    **dict.fromkeys([nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d], layers.norm),
    nn.MultiheadAttention: heads,
    nn.GroupNorm: layers.group_norm,
    **dict.fromkeys(_LAYER_NORMS, layers.layer_norm),
    nn.PReLU: layers.prelu,
    nn.Flatten: moves.move,
    nn.ChannelShuffle: moves.channel_shuffle,
    nn.PixelShuffle: moves.pixel_shuffle,
    nn.PixelUnshuffle: moves.pixel_unshuffle,
    nn.Identity: moves.pointwise,
    StochasticDepth: moves.pointwise,
    **dict.fromkeys([nn.Softmax, nn.LogSoftmax, nn.Softmin], reductions.softmax),
    nn.Unfold: signals.unfold,
    nn.Fold: signals.fold,
    nn.GLU: signals.gated,
    **dict.fromkeys([nn.Softmax2d, nn.MaxUnpool2d], moves.fixed),
}
_STEPS: dict[Any, Rule] = {resize_positions: signals.resize, **STEPS}
_FAMILIES: dict[str, Rule] = {
    "torch.nn.modules.activation": moves.pointwise,
    "torch.nn.modules.dropout": moves.pointwise,
    "torch.nn.modules.pooling": moves.spatial,
    "torch.nn.modules.padding": moves.spatial,
    "torch.nn.modules.upsampling": moves.spatial,
}


def find_rule(call: Call) -> Rule:
    """Return the rule for a call; `fixed` where there is none, or where it fails on this form."""
    return partial(_tried, plain_rule(call))


def _tried(rule: Rule, call: Call, ledger: Ledger) -> Any:
    if call.as_function:
        ledger.functions.add(call.path)
    try:
        return rule(call, ledger)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return moves.fixed(call, ledger)


def plain_rule(call: Call) -> Rule:
    """Return the rule for a call, which may fail on a form of it that it does not know."""
    taught = taught_rule(call)
    if taught is not None:
        return taught
    if call.module is None and call.run in _STEPS:
        return _STEPS[call.run]
    if call.as_function:
        return _CALLED[call.name]
    if call.module is not None:
        return moves.altered if call.altered else _module_rule(call.module)
    name = call.args[1] if call.name == "getattr" else call.name
    return _FUNCTIONS.get(name, moves.fixed) if call.known else moves.fixed


def _module_rule(module: nn.Module) -> Rule:
    for kind, rule in _LAYERS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return rule
    return _FAMILIES.get(type(module).__module__, moves.fixed)
