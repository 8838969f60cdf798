"""Small models with what users write between layers, and which of their groups can shrink."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.prune.odd_modules import pair, with_buffer
from tests.trace.zoo import Net, conv

Case = tuple[str, Callable[[], nn.Module]]  # names of the groups that can shrink, and the model


def tokens(m: Any, x: Tensor) -> Tensor:
    return m.a(x).flatten(2).transpose(1, 2)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Attend(nn.Module):
    """What CBAM's first half does: one small network on means and on extremes."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Sequential(conv(16, 4), nn.ReLU(), conv(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        both = (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))
        return x * torch.sigmoid(self.m(both[0]) + self.m(both[1]))


class Context(nn.Module):
    """A context block with a layer norm over (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.k = conv(16, 1)
        self.t = nn.Sequential(conv(16, 6), nn.LayerNorm([6, 1, 1]), nn.ReLU(), conv(6, 16))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        share = self.k(x).view(n, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(n, c, h * w).unsqueeze(1), share)
        return x + self.t(context.view(n, c, 1, 1))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x.sigmoid()


class Moving(nn.Module):
    """Statistics of its own, kept in training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("m", torch.rand(1, 16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.m = 0.9 * self.m + 0.1 * x.mean((0, 2, 3), keepdim=True).detach()
        return x - self.m


def grid(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    n, _, h, w = y.shape
    lines = [torch.linspace(-1, 1, k, device=y.device, dtype=y.dtype) for k in (h, w)]
    both = torch.stack(torch.meshgrid(*lines, indexing="ij"))
    return m.b(torch.cat([y, both.unsqueeze(0).expand(n, -1, -1, -1)], 1))


def windows(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).permute(0, 2, 3, 1)
    n, h, w, c = y.shape
    y = y.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    y = m.l(m.n(y)).view(n, h // 4, w // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5)
    return m.b(y.reshape(n, h, w, -1).permute(0, 3, 1, 2))


def gathered(m: Any, x: Tensor) -> Tensor:
    y = tokens(m, x)
    best = m.s(y).squeeze(-1).topk(5, 1)[1].unsqueeze(-1)
    return m.b(torch.gather(y, 1, best.expand(-1, -1, y.shape[-1])))


def linear_attention(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    n, _, h, w = y.shape
    parts = m.q(y).reshape(n, -1, 24, h * w).chunk(3, 2)
    q, k, v = parts[0].relu(), parts[1].relu(), F.pad(parts[2], (0, 0, 0, 1), value=1.0)
    out = torch.matmul(torch.matmul(v, k.transpose(-1, -2)), q)
    out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
    return m.b(m.p(out.reshape(n, -1, h, w)))


def moved(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    out = torch.zeros_like(y)
    out[:, :, 1:, :] = y[:, :, :-1, :]
    return m.b(out)


def encoder(**more: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True, **more)


def sequence(run: Callable[..., Any], **layers: Any) -> Net:
    return Net(run, a=conv(3, 16), b=nn.Linear(16, 4), **layers)


CASES: dict[str, Case] = {
    "roll": ("a", lambda: pair(lambda m, x: m.b(torch.roll(m.a(x), (1, 2), (2, 3))))),
    "roll of channels": (
        "c",
        lambda: Net(
            lambda m, x: m.b(m.c(m.a(x).roll(1, 1))), a=conv(3, 16), c=conv(16, 9), b=conv(9, 4)
        ),
    ),
    "patches": (
        "a",
        lambda: Net(
            lambda m, x: m.b(F.unfold(m.a(x), 3, padding=1).transpose(1, 2)),
            a=conv(3, 8),
            b=nn.Linear(72, 4),
        ),
    ),
    "patches and back": (
        "a",
        lambda: pair(lambda m, x: m.b(F.fold(F.unfold(m.a(x), 2, stride=2), (8, 8), 2, stride=2))),
    ),
    "windows of a tensor": (
        "a",
        lambda: pair(lambda m, x: m.b(m.a(x).unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)))),
    ),
    "Fourier filter": (
        "a",
        lambda: pair(
            lambda m, x: m.b(
                torch.fft.irfft2(torch.fft.rfft2(m.a(x)) * torch.view_as_complex(m.w), s=(8, 8))
            ),
            w=_parameter(16, 8, 5, 2),
        ),
    ),
    "Fourier over channels": (
        "",
        lambda: pair(lambda m, x: m.b(torch.fft.fft(m.a(x), dim=1).real)),
    ),
    "spectrum": ("a", lambda: pair(lambda m, x: m.b(torch.fft.rfft(m.a(x), dim=3).abs()))),
    "largest of the places": (
        "a",
        lambda: sequence(lambda m, x: m.b(m.a(x).flatten(2).topk(5, -1)[0].mean(-1))),
    ),
    "largest of the channels": (
        "",
        lambda: Net(lambda m, x: m.b(m.a(x).topk(8, 1)[0]), a=conv(3, 16), b=conv(8, 4)),
    ),
    "largest of pairs": (
        "a",
        lambda: Net(
            lambda m, x: m.b(m.a(x).view(x.shape[0], -1, 2, 8, 8).max(2)[0]),
            a=conv(3, 16),
            b=conv(8, 4),
        ),
    ),
    "gathered tokens": ("a", lambda: sequence(gathered, s=nn.Linear(16, 1))),
    "cosine similarity": (
        "a",
        lambda: pair(
            lambda m, x: m.b(m.a(x)) * F.cosine_similarity(m.a(x), m.c(x), 1)[:, None],
            c=conv(3, 16),
        ),
    ),
    "correlation": (
        "a p",
        lambda: pair(
            lambda m, x: (m.b(m.a(x)), (m.p(x) * m.q(x)).sum(1)), p=conv(3, 8), q=conv(3, 8)
        ),
    ),
    "sum behind a sigmoid": (
        "a",
        lambda: pair(lambda m, x: (m.b(m.a(x)), m.c(x).sigmoid().sum(1)), c=conv(3, 8)),
    ),
    "gated half": (
        "a",
        lambda: Net(lambda m, x: m.b(F.glu(m.a(x), 1)), a=conv(3, 16), b=conv(8, 4)),
    ),
    "layer norm over maps": (
        "a c",
        lambda: pair(
            lambda m, x: m.b(m.c(m.n(m.a(x)))), n=nn.LayerNorm([16, 8, 8]), c=conv(16, 16)
        ),
    ),
    "context block": (
        "a g.t.0",
        lambda: pair(lambda m, x: m.b(m.g(m.a(x))), g=Context()),
    ),
    "channel attention": ("a g.m.0", lambda: pair(lambda m, x: m.b(m.g(m.a(x))), g=Attend())),
    "several class tokens": (
        "a",
        lambda: sequence(
            lambda m, x: m.b(torch.cat([m.t.repeat(x.shape[0], 1, 1), tokens(m, x) + m.p], 1)),
            t=_parameter(1, 2, 16),
            p=_parameter(1, 64, 16),
        ),
    ),
    "looked-up rows": (
        "a",
        lambda: pair(
            lambda m, x: m.b(m.a(x) + m.e(torch.tensor([2], device=x.device))[:, :, None, None]),
            e=nn.Embedding(5, 16),
        ),
    ),
    "encoder layer": (
        "a t.linear1",
        lambda: sequence(lambda m, x: m.b(m.t(tokens(m, x))), t=encoder()),
    ),
    "encoder": (
        "a t.layers.0.linear1",
        lambda: sequence(
            lambda m, x: m.b(m.t(tokens(m, x))),
            t=nn.TransformerEncoder(encoder(norm_first=True), 1, nn.LayerNorm(16), False),
        ),
    ),
    "encoder and decoder": (
        "a t.encoder.layers.0.linear1 t.decoder.layers.0.linear1",
        lambda: sequence(
            lambda m, x: m.b(m.t(tokens(m, x), m.q.expand(x.shape[0], -1, -1))),
            q=_parameter(1, 5, 16),
            t=nn.Transformer(16, 4, 1, 1, 24, dropout=0.0, batch_first=True),
        ),
    ),
    "coordinates": ("a", lambda: Net(grid, a=conv(3, 16), b=conv(18, 4))),
    "expanded buffer": (
        "a",
        lambda: with_buffer(
            pair(lambda m, x: m.b(m.a(x) + m.e.expand(x.shape[0], -1, -1, -1))),
            e=torch.randn(1, 16, 8, 8),
        ),
    ),
    "every other place of a buffer": (
        "",
        lambda: with_buffer(
            pair(lambda m, x: m.b(m.a(x) + torch.cat([m.e[0::2], m.e[1::2]])[:, None, None])),
            e=torch.randn(16),
        ),
    ),
    "positions but for the first": (
        "a",
        lambda: sequence(lambda m, x: m.b(tokens(m, x) + m.p[:, 1:]), p=_parameter(1, 65, 16)),
    ),
    "every other place of a parameter": (
        "",
        lambda: pair(
            lambda m, x: m.b(m.a(x) + torch.cat([m.p[0::2], m.p[1::2]])[:, None, None]),
            p=_parameter(16),
        ),
    ),
    "part of a sequence": (
        "a body.0 body.2",
        lambda: pair(
            lambda m, x: m.b(m.body[1:](m.body[:1](m.a(x)))),
            body=nn.Sequential(conv(16, 12, 3), nn.ReLU(), conv(12, 16)),
        ),
    ),
    "windows of tokens": (
        "a l",
        lambda: pair(windows, n=nn.LayerNorm(16), l=nn.Linear(16, 16)),
    ),
    "linear attention": ("a q p", lambda: pair(linear_attention, q=conv(16, 48), p=conv(16, 16))),
    "moved in place": ("a", lambda: pair(moved)),
    "own function": ("a", lambda: pair(lambda m, x: m.b(Swish.apply(m.a(x))))),
    "checkpointed in parts": (
        "a c.0 c.3",
        lambda: pair(
            lambda m, x: m.b(checkpoint(m.c, m.a(x), use_reentrant=False)),
            c=nn.Sequential(conv(16, 24), nn.BatchNorm2d(24), nn.ReLU(), conv(24, 16)),
        ),
    ),
    "statistics replaced in training": (
        "",
        lambda: pair(lambda m, x: m.b(m.e(m.a(x))), e=Moving()),
    ),
    "groups of a transposed convolution": (
        "a",
        lambda: pair(lambda m, x: m.b(m.t(m.a(x))), t=nn.ConvTranspose2d(16, 16, 2, 2, groups=4)),
    ),
    "more outputs than inputs of each channel": (
        "a",
        lambda: Net(
            lambda m, x: m.b(m.d(m.a(x))), a=conv(3, 8), d=conv(8, 24, 3, groups=8), b=conv(24, 4)
        ),
    ),
}
