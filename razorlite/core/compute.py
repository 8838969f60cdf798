"""How models compute: the precision of their layers, and how their maps lie in memory."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from razorlite.core.distributed import is_main
from razorlite.core.errors import ConfigError
from razorlite.core.strided import keep_from_strided_fault

P = ParamSpec("P")
T = TypeVar("T")
Amp = Literal["auto", "bf16", "fp16"]
Precision = Literal["auto", "bf16", "fp16", "float32"]
MemoryFormat = Literal["channels_last", "contiguous"]

LAYOUTS: dict[MemoryFormat, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NATIVE = ("amx_bf16", "avx512_bf16")  # a processor's flags, the faster first
_CPUINFO = Path("/proc/cpuinfo")
_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Compute:
    """Where and how a model computes.

    Attributes:
        device: where it is.
        dtype: of convolutions and matrix products; None for float32. Losses, boxes, assignment and
            suppression are float32 whatever this is.
        layout: of maps and of the weights of convolutions.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    layout: torch.memory_format = torch.channels_last

    @classmethod
    def of(
        cls,
        device: torch.device,
        amp: Amp | None = None,
        memory_format: MemoryFormat = "channels_last",
    ) -> "Compute":
        """Return what settings mean on a device; what `auto` takes is logged once.

        Raises:
            ConfigError: the device cannot compute in this precision.
        """
        if amp == "bf16" and not _computes_bf16(device):
            raise ConfigError("amp: bf16 is not supported by this GPU; set amp: fp16 or amp: null")
        return cls(device, _dtype(amp, device), LAYOUTS[memory_format])

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, its weights laid out as its maps."""
        model.to(device=self.device, memory_format=self.layout)  # type: ignore[call-overload]
        if self.device.type == "cpu" and self.layout is torch.channels_last:
            keep_from_strided_fault(model)
        return model

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which layers compute in the precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which nothing is cast to a lower precision; "meta" computes nothing."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def in_precision(precision: Precision | None, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which layers compute in a precision; None leaves it as it is outside.

    Raises:
        ConfigError: the device cannot compute in this precision.
    """
    if precision is None:
        return nullcontext()
    if precision == "bf16" and not _computes_bf16(device):
        raise ConfigError(
            "precision: bf16 is not supported by this GPU; set precision: fp16 or float32"
        )
    dtype = _dtype(precision, device)
    if dtype is None or device.type == "meta":
        return full_precision(device)
    return torch.autocast(device.type, dtype)


def unrounded(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate what computes boxes or masks: its products are exact where layers compute in less.

    The function takes a tensor at least; tensors of lower precision it makes float32 by itself.
    """

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> T:
        with full_precision(next(a.device for a in args if isinstance(a, Tensor))):
            return function(*args, **kwargs)

    return exact


def with_layout(maps: Tensor, layout: torch.memory_format) -> Tensor:
    """Return (…, C, H, W) maps in a layout, as they are once flattened to (B, C, H, W).

    What has fewer dimensions stays as it is.
    """
    if maps.dim() < 4:
        return maps
    if maps.dim() == 4:
        return maps.contiguous(memory_format=layout)
    flat = maps.flatten(0, -4).contiguous(memory_format=layout)
    out: Tensor = flat.unflatten(0, maps.shape[:-3])
    return out


def _dtype(name: str | None, device: torch.device) -> torch.dtype | None:
    return fastest_dtype(device.type) if name == "auto" else _DTYPES.get(name or "")


def _computes_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.is_bf16_supported()


@cache
def fastest_dtype(kind: str) -> torch.dtype | None:
    """Return bfloat16 where a kind of device ("cpu", "cuda") computes in it natively, else None.

    Says so, once.
    """
    native, reason = _gpu() if kind == "cuda" else _processor()
    if is_main():
        _log.info("amp: auto takes %s: %s", "bf16" if native else "float32", reason)
    return torch.bfloat16 if native else None


def _gpu() -> tuple[bool, str]:
    name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    native = torch.version.hip is not None or major >= 8
    can = "computes in it" if native else f"({major}.{minor}) lacks bf16; amp: fp16 may be faster"
    return native, f"this GPU, {name}, {can}"


def _processor() -> tuple[bool, str]:
    flags = _processor_flags()
    found = next((flag for flag in _NATIVE if flag in flags), None)
    if found is not None:
        return True, f"this processor has {found}"
    return False, f"this processor has none of {', '.join(_NATIVE)}, as far as is known"


def _processor_flags() -> frozenset[str]:
    """Return what Linux says that the processor can; nothing elsewhere."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(next(flags, ()))
