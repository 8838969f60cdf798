"""Small models in which something else than the layers' classes decides what is computed."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.trace.zoo import Net, conv


def pair(run: Callable[..., Any], **more: Any) -> Net:
    """A model of two convolutions over 16 channels and what a case adds."""
    return Net(run, a=conv(3, 16), b=conv(16, 4), **more)


def plain(m: Any, x: Tensor) -> Tensor:
    return m.b(m.a(x))


def with_hook(hook: Callable[..., Any], layer: str = "a") -> Net:
    model = pair(lambda m, x: m.b(m.r(m.a(x))), r=nn.ReLU())
    model.get_submodule(layer).register_forward_hook(hook)
    return model


def changed(model: nn.Module, layer: str, change: Callable[[nn.Module], Any]) -> nn.Module:
    change(model.get_submodule(layer))
    return model


def with_buffer(model: Net, **buffers: Tensor) -> Net:
    for name, value in buffers.items():
        model.register_buffer(name, value)
    return model


class Auxiliary(nn.Module):
    """A head that runs in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux = conv(3, 16), conv(16, 4), conv(16, 2)

    def forward(self, x: Tensor) -> Any:
        y = self.a(x).relu()
        return (self.b(y), self.aux(y)) if self.training else self.b(y)


class AuxiliaryLoss(Auxiliary):
    """A head that runs in the losses alone."""

    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x).relu())

    def loss(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"aux": self.aux(self.a(images).relu()).mean()}


class WantsTargets(nn.Module):
    """Torchvision's manner: losses of `forward` in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 16), conv(16, 4)

    def forward(self, x: Tensor, targets: Any = None) -> Any:
        y = self.b(self.a(x).relu())
        return {"loss": (y - targets).mean()} if self.training else y


class AutoEncoder(nn.Module):
    """The decoder is the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m = nn.Linear(3, 16, bias=False), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.m(self.a(x.permute(0, 2, 3, 1)).relu()), self.a.weight.t())


class Attention(nn.Module):
    """Heads of a written number and size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.q, self.o = conv(3, 16), nn.Linear(16, 48), nn.Linear(16, 4)
        self.num_heads, self.dim = 4, 16

    def forward(self, x: Tensor) -> Tensor:
        t = self.a(x).flatten(2).transpose(1, 2)
        n, k = t.shape[0], t.shape[1]
        heads = self.q(t).reshape(n, k, 3, self.num_heads, self.dim // self.num_heads)
        q, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        y = (q @ key.transpose(-2, -1) * self.dim**-0.5).softmax(-1) @ value
        return self.o(y.transpose(1, 2).reshape(n, k, self.dim))


class Flipped(nn.Conv2d):
    """A layer that does more than its base class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(2)


def _own_forward() -> Net:
    model = pair(plain)
    layer = model.a
    layer.forward = lambda x: nn.Conv2d.forward(layer, x).flip(1)  # type: ignore[method-assign]
    return model


def _two_names() -> Net:
    model = pair(lambda m, x: m.b(m.d(m.c(m.a(x)).relu())), c=conv(16, 16, 3))
    model.d = model.c
    return model


def _shared_parameter() -> Net:
    model = pair(lambda m, x: m.b(m.a(x) + m.c(x)), c=conv(3, 16))
    model.c.weight = model.a.weight
    return model


_WEIGHT_NORM = nn.utils.parametrizations.weight_norm
_SPECTRAL_NORM = nn.utils.parametrizations.spectral_norm
_SCALE = torch.full((1, 16, 1, 1), 1e-6)

PRUNED: dict[str, Callable[[], nn.Module]] = {
    "auxiliary head": Auxiliary,
    "targets in training": WantsTargets,
    "heads of a written size": Attention,
    "checkpointed": lambda: pair(lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=False))),
    "called twice": lambda: pair(lambda m, x: m.b(m.c(m.c(m.a(x)).relu())), c=conv(16, 16, 3)),
    "under two names": _two_names,
    "one reader of two": lambda: pair(lambda m, x: m.b(m.a(x)) + m.b(m.c(x)), c=conv(3, 16)),
    "in place": lambda: pair(lambda m, x: m.b(m.a(x).relu_().mul_(2).add_(m.c(x))), c=conv(3, 16)),
    "transposed in place": lambda: Net(
        lambda m, x: m.l(m.a(x).transpose_(1, 3)), a=conv(3, 16), l=nn.Linear(16, 4)
    ),
    "subclass": lambda: Net(plain, a=Flipped(3, 16, 1), b=conv(16, 4)),
    "half precision": lambda: nn.Sequential(conv(3, 16), nn.BatchNorm2d(16), conv(16, 4)).half(),
    "bfloat16": lambda: nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 4)).bfloat16(),
    "channels last": lambda: nn.Sequential(conv(3, 16, 3), conv(16, 4)).to(
        memory_format=torch.channels_last
    ),
    "layer scale": lambda: pair(lambda m, x: m.b(m.a(x) * m.g), g=nn.Parameter(_SCALE.clone())),
    "buffer of channels": lambda: with_buffer(
        pair(lambda m, x: m.b(m.a(x) * m.mask)), mask=torch.ones(1, 16, 1, 1)
    ),
    "position embedding": lambda: Net(
        lambda m, x: m.o((m.i(m.a(x).flatten(2).transpose(1, 2)) + m.p).relu()),
        a=conv(3, 6),
        i=nn.Linear(6, 16),
        p=nn.Parameter(torch.randn(1, 64, 16)),
        o=nn.Linear(16, 4),
    ),
    "class token": lambda: Net(
        lambda m, x: m.o(
            torch.cat([m.t.expand(x.shape[0], -1, -1), m.a(x).flatten(2).transpose(1, 2)], 1)
        ),
        a=conv(3, 16),
        t=nn.Parameter(torch.randn(1, 1, 16)),
        o=nn.Linear(16, 4),
    ),
    "embedding": lambda: pair(
        lambda m, x: m.b(m.a(x) + m.e(torch.arange(8)).t()[None, :, :, None]), e=nn.Embedding(8, 16)
    ),
    "normalised over channels": lambda: pair(lambda m, x: m.b(F.normalize(m.a(x), dim=1))),
    "list of scales": lambda: Net(
        lambda m, x: m.b(m.a(x) * m.s[0].view(1, -1, 1, 1) + m.s[1][:, None, None]),
        a=conv(3, 16),
        s=nn.ParameterList([torch.randn(16), torch.randn(16)]),
        b=conv(16, 4),
    ),
    "dropout": lambda: pair(lambda m, x: m.b(F.dropout(m.a(x), 0.5, m.training))),
    "dropout of maps": lambda: nn.Sequential(conv(3, 16), nn.Dropout2d(), conv(16, 4)),
    "random slopes": lambda: nn.Sequential(conv(3, 16), nn.RReLU(), conv(16, 4)),
    "one dimension": lambda: Net(
        lambda m, x: m.b(m.a(x.flatten(2)).relu()), a=nn.Conv1d(3, 16, 3), b=nn.Conv1d(16, 4, 1)
    ),
    "three dimensions": lambda: Net(
        lambda m, x: m.b(m.a(x.unsqueeze(2)).relu()), a=nn.Conv3d(3, 16, 1), b=nn.Conv3d(16, 4, 1)
    ),
    "unused layer": lambda: pair(plain, aside=conv(16, 3)),
    "flipped in training": lambda: pair(
        lambda m, x: m.b(m.a(x).flip(1)) if m.training else m.b(m.a(x))
    ),
    "norm that starts at zero": lambda: changed(
        pair(lambda m, x: m.b(m.n(m.a(x)) + m.c(x)), n=nn.BatchNorm2d(16), c=conv(3, 16)),
        "n",
        lambda n: nn.init.zeros_(n.weight),
    ),
}

LEFT: dict[str, Callable[[], nn.Module]] = {
    "flipping hook": lambda: with_hook(lambda m, i, o: o.flip(1)),
    "mixing hook": lambda: with_hook(lambda m, i, o: o.softmax(1)),
    "hook on an activation": lambda: with_hook(lambda m, i, o: o.softmax(1), "r"),
    "hook on a block": lambda: changed(
        Net(lambda m, x: m.b(m.s(x)), s=nn.Sequential(conv(3, 16), nn.ReLU()), b=conv(16, 4)),
        "s",
        lambda s: s.register_forward_hook(lambda m, i, o: o.softmax(1)),
    ),
    "hook before": lambda: changed(
        pair(plain), "b", lambda b: b.register_forward_pre_hook(lambda m, i: (i[0].flip(1),))
    ),
    "weight norm": lambda: changed(pair(plain), "a", _WEIGHT_NORM),
    "spectral norm": lambda: changed(pair(plain), "b", _SPECTRAL_NORM),
    "old spectral norm": lambda: changed(pair(plain), "b", nn.utils.spectral_norm),
    "weight used by hand": lambda: pair(lambda m, x: (m.b(m.a(x)), F.conv2d(x, m.a.weight))),
    "reader's weight used by hand": lambda: pair(
        lambda m, x: m.b(m.a(x)).mean((2, 3)) @ m.b.weight.flatten(1)
    ),
    "weight's mean": lambda: pair(lambda m, x: m.b(m.a(x) * m.a.weight.mean())),
    "tied decoder": AutoEncoder,
    "size of a layer": lambda: pair(lambda m, x: m.b(m.a(x) / m.a.out_channels**0.5)),
    "size of a reader": lambda: pair(lambda m, x: m.b(m.a(x)) * m.b.in_channels),
    "size of a weight": lambda: pair(lambda m, x: m.b(m.a(x) / m.a.weight.shape[0])),
    "size of a map": lambda: pair(lambda m, x: m.b(m.a(x) * m.a(x).shape[1] ** -0.5)),
    "size of a norm": lambda: pair(
        lambda m, x: m.b(m.n(m.a(x)) / m.n.num_features), n=nn.BatchNorm2d(16)
    ),
    "mean of statistics": lambda: pair(
        lambda m, x: m.b(m.n(m.a(x)) - m.n.running_var.mean()), n=nn.BatchNorm2d(16)
    ),
    "losses with a head of their own": AuxiliaryLoss,
    "forward of an object": _own_forward,
    "shared parameter": _shared_parameter,
    "mixed in evaluation": lambda: pair(
        lambda m, x: m.b(m.a(x)) if m.training else m.b(m.a(x).softmax(1))
    ),
    "mixed in training": lambda: pair(
        lambda m, x: m.b(m.a(x).softmax(1)) if m.training else m.b(m.a(x))
    ),
    "einsum": lambda: Net(
        lambda m, x: torch.einsum("nchw,oc->nohw", m.a(x), m.w),
        a=conv(3, 16),
        w=nn.Parameter(torch.randn(4, 16)),
    ),
    "fed back": lambda: pair(lambda m, x: m.b(m.a(x)) + m.a(x)[:, 3:4]),
    "cumulative sum in place": lambda: pair(lambda m, x: m.b(m.a(x).cumsum_(1))),
    "branch on the sign of the data": lambda: pair(
        lambda m, x: m.b(m.a(x).flip(1) if float(x.mean()) < 0 else m.a(x))
    ),
    "other branch on the sign of the data": lambda: pair(
        lambda m, x: m.b(m.a(x).flip(1) if float(x.mean()) > 0 else m.a(x))
    ),
    "branch on large values": lambda: pair(
        lambda m, x: m.b(m.a(x).flip(1) if float(x.std()) > 2 else m.a(x))
    ),
    "padded channels": lambda: Net(
        lambda m, x: m.b(m.p(m.a(x))),
        a=conv(3, 16),
        p=nn.ConstantPad3d((0, 0, 0, 0, 8, 8), 0.0),
        b=conv(32, 4),
    ),
    "index of the largest": lambda: pair(lambda m, x: (m.b(m.a(x)), m.a(x).argmax(1))),
}
