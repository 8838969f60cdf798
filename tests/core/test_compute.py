"""What `auto` takes, that it says so once, and where layers compute in what."""

import copy
import logging

import pytest
import torch
from torch import nn

from razorlite.core import compute
from razorlite.core.compute import Compute, fastest_dtype, with_layout

CPU = torch.device("cpu")


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Return a function that gives this machine other flags; None: it does not say."""

    def have(flags):
        path = tmp_path / "cpuinfo"
        if flags is not None:
            path.write_text(f"processor\t: 0\nmodel name\t: X\nflags\t\t: {flags}\nbugs\t\t:\n")
        monkeypatch.setattr(compute, "_CPUINFO", path)
        fastest_dtype.cache_clear()

    yield have
    fastest_dtype.cache_clear()


@pytest.mark.parametrize(
    ("flags", "dtype", "reason"),
    [
        ("fpu avx512f avx512_bf16", torch.bfloat16, "bf16: this processor has avx512_bf16"),
        ("avx512_bf16 amx_bf16 amx_tile", torch.bfloat16, "bf16: this processor has amx_bf16"),
        ("fpu avx2 avx512f", None, "float32: this processor has none of amx_bf16, avx512_bf16"),
        (None, None, "float32: this processor has none of"),
    ],
)
def test_auto_takes_what_the_processor_has_and_says_so_once(
    flags, dtype, reason, processor, caplog
):
    processor(flags)
    with caplog.at_level(logging.INFO, "razorlite"):
        assert [Compute.of(CPU, "auto").dtype for _ in range(3)] == [dtype] * 3
    [message] = [r.getMessage() for r in caplog.records]
    assert message.startswith(f"amp: auto takes {reason}")


@pytest.mark.parametrize(("version", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_on_a_gpu(version, native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "G")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: version)
    monkeypatch.setattr(torch.version, "hip", None)
    assert fastest_dtype.__wrapped__("cuda") == (torch.bfloat16 if native else None)


def test_nothing_is_decided_without_auto(processor):
    processor("amx_bf16")
    assert Compute.of(CPU).dtype is None
    assert Compute.of(CPU, "fp16").dtype == torch.float16
    with Compute.of(CPU).autocast():
        assert not torch.is_autocast_enabled("cpu")


def test_layers_compute_in_the_precision_and_keep_their_weights():
    layer = nn.Conv2d(2, 2, 1)
    with Compute.of(CPU, "bf16").autocast():
        assert layer(torch.zeros(1, 2, 3, 3)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(("name", "strides"), [("channels_last", 1), ("contiguous", 9)])
def test_weights_are_laid_out_as_the_setting_says(name, strides):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    assert Compute.of(CPU, memory_format=name).place(model)[0].weight.stride(1) == strides


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 12])
def test_gradients_of_strided_convolutions_of_few_channels_are_right(channels):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 8, 1, stride=2, bias=False)
    exact = copy.deepcopy(layer).double()
    own = Compute.of(CPU)
    placed = own.place(own.place(layer))
    x = torch.randn(4, channels, 16, 16)
    for _ in range(5):
        placed(with_layout(x, own.layout)).square().sum().backward()
        exact(x.double()).square().sum().backward()
    torch.testing.assert_close(placed.weight.grad, exact.weight.grad.float(), rtol=1e-4, atol=1e-3)
