"""Small models that lay out channels by numbers that their modules keep as attributes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.prune.odd_modules import pair
from tests.prune.odd_operations import Case, sequence, tokens
from tests.trace.zoo import conv


class Attention(nn.Module):
    """Heads as timm writes them: 4 of a width of 4."""

    def __init__(self, norm: bool = False, scaled: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scaled = 4, 4, scaled
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(4) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        n, k, _ = x.shape
        parts = self.qkv(x).reshape(n, k, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, key = self.norm(parts[0]), self.norm(parts[1])
        out = F.scaled_dot_product_attention(q, key, parts[2]).transpose(1, 2)
        out = out / self.num_heads if self.scaled else out
        return self.proj(out.reshape(n, k, self.num_heads * self.head_dim))


class Split(nn.Module):
    """Half of the channels goes on, as in the C2f block of YOLOv8."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 8
        self.i, self.m, self.o = conv(16, 16), conv(8, 8, 3), conv(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.i(x).split((self.c, self.c), 1)
        return self.o(torch.cat([parts[0], parts[1], self.m(parts[1])], 1))


class Halves(nn.Module):
    """A split at half of an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 16
        self.m = conv(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.channels // 2, dim=1)
        return torch.cat([parts[0], self.m(parts[1])], 1)


class Scale(nn.Module):
    """A scale whose shape is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = (16, 1, 1)
        self.scale = nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(self.shape)


class Parts(nn.Module):
    """Queries and keys of one width, values of another, in a written number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.key, self.value, self.inner = 2, 3, 5, 10
        self.qkv, self.proj = nn.Linear(16, 22), nn.Linear(10, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, k, _ = x.shape
        parts = self.qkv(x).view(n, k, self.heads, -1).transpose(1, 2)
        parts = parts.split([self.key, self.key, self.value], dim=3)
        out = (parts[0] @ parts[1].transpose(-2, -1) * 0.5).softmax(-1) @ parts[2]
        return self.proj(out.transpose(1, 2).reshape(n, k, self.inner))


ATTRIBUTES: dict[str, Case] = {
    "heads": (
        "a t.qkv t.proj",
        lambda: sequence(lambda m, x: m.b(m.t(tokens(m, x))), t=Attention()),
    ),
    "normed heads": (
        "a t.qkv t.proj",
        lambda: sequence(lambda m, x: m.b(m.t(tokens(m, x))), t=Attention(norm=True)),
    ),
    "heads that are reckoned with": (
        "a t.proj",
        lambda: sequence(lambda m, x: m.b(m.t(tokens(m, x))), t=Attention(scaled=True)),
    ),
    "widths of heads": (
        "a t.qkv t.proj",
        lambda: sequence(lambda m, x: m.b(m.t(tokens(m, x))), t=Parts()),
    ),
    "split": ("a t.i t.m t.o", lambda: pair(lambda m, x: m.b(m.t(m.a(x))), t=Split())),
    "halves": ("a t.m", lambda: pair(lambda m, x: m.b(m.t(m.a(x))), t=Halves())),
    "scale": ("a", lambda: pair(lambda m, x: m.b(m.s(m.a(x))), s=Scale())),
}
