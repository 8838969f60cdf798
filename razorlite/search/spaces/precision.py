"""Bits of weights and inputs as dimensions of a space."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Filled, Range
from razorlite.core.registry import register, suggestion
from razorlite.models.rounded import RoundedConv2d, convolved
from razorlite.space.dimension import Dimension, Values
from razorlite.space.elastic import twin_of
from razorlite.space.mutable import Mutable
from razorlite.space.mutator import Preparer, put_in_place

Bits = Annotated[int, Range(least=1, most=32)]
_STEPS = ("weight_steps", "input_steps")


class ElasticPrecision(Mutable, nn.Conv2d):
    """A convolution whose weights and inputs have few bits; every number of bits has its step.

    Attributes:
        options: bits of weights and of inputs.
        bits: those that are set.
        signed: whether inputs may be negative.
        weight_steps: one for each number of bits; 0 before it is set by the first weights.
        input_steps: likewise, by the first inputs.
    """

    options: tuple[Dimension, Dimension]
    bits: tuple[int, int]
    signed: bool
    weight_steps: nn.ParameterList
    input_steps: nn.ParameterList

    @classmethod
    def of(
        cls, layer: nn.Conv2d, options: tuple[Dimension, Dimension], signed: bool
    ) -> "ElasticPrecision":
        """Return the elastic form of a convolution, with the same weights."""
        own = twin_of(layer, cls)
        own.options, own.signed = options, signed
        for name, option in zip(_STEPS, options, strict=True):
            zeros = [torch.zeros((), device=layer.weight.device) for _ in option.values]
            own.add_module(name, nn.ParameterList(nn.Parameter(zero) for zero in zeros))
        own.set({option.name: max(option.values, key=float) for option in options})
        return own

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Bits of weights and of inputs."""
        return self.options

    @property
    def values(self) -> Values:
        """The bits that are set."""
        return {o.name: bits for o, bits in zip(self.options, self.bits, strict=True)}

    def set(self, values: Values) -> None:
        """Compute with so many bits."""
        self.bits = self.bits_at(values)

    def bits_at(self, values: Values) -> tuple[int, int]:
        """Return the bits of weights and inputs at some values."""
        weight, inputs = (int(values[option.name]) for option in self.options)
        return weight, inputs

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        return convolved(self, input, self.bits, self.steps_at(self.values))

    def steps_at(self, values: Values) -> tuple[Tensor, Tensor]:
        """Return the 0-dim steps of weights and inputs at some values."""
        weight, inputs = (
            getattr(self, name)[option.values.index(values[option.name])]
            for name, option in zip(_STEPS, self.options, strict=True)
        )
        return weight, inputs

    def export(self, values: Values) -> nn.Module:
        """Return a convolution of so many bits."""
        plain = twin_of(self, nn.Conv2d)
        for name in ("options", "bits", "signed"):
            del plain.__dict__[name]
        for name in _STEPS:
            del plain._modules[name]
        return RoundedConv2d.of(plain, self.bits_at(values), self.steps_at(values), self.signed)

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the weights, and the steps of so many bits."""
        own = {k: v for k, v in state.items() if not k.startswith(_STEPS)}
        for name, option in zip(_STEPS, self.options, strict=True):
            own[name.removesuffix("s")] = state[
                f"{name}.{option.values.index(values[option.name])}"
            ]
        return own

    def identity(self) -> Any:
        """Return its dimensions and shapes, and whether inputs may be negative where they may."""
        return super().identity() + (["signed"] if self.signed else [])

    def additions(self) -> dict[str, Tensor]:
        """Return the steps."""
        return {n: p for n, p in self.named_parameters() if n.startswith(_STEPS)}


@register()
class MixedPrecision(Preparer):
    """Gives each block of a model bits of its own, for its weights and for its inputs.

    The dimensions are `BLOCK.weight_bits` and `BLOCK.input_bits`; convolutions of a block follow
    them together. 32 bits are exact. What it costs is `bitops`, see `razorlite.cost.BitOperations`.

    Single Path One-Shot NAS, https://arxiv.org/abs/1904.00420, section 3.4; steps are learnt as in
    https://arxiv.org/abs/1902.08153.
    """

    def __init__(
        self,
        *,
        blocks: Annotated[Sequence[str], Filled()],
        weight_bits: Annotated[Sequence[Bits], Filled()] = (1, 2, 3, 4),
        input_bits: Annotated[Sequence[Bits], Filled()] = (2, 3, 4),
        signed: Sequence[str] = (),
    ) -> None:
        """Keep the settings.

        Args:
            blocks: patterns of module paths ("backbone.layer?.?") whose convolutions round.
            weight_bits: of weights, 1 to 8; of one bit are plus and minus one step.
            input_bits: of what goes into the convolutions.
            signed: patterns of convolutions whose inputs may be negative; others are after a ReLU.
        """
        self.blocks, self.signed = tuple(blocks), tuple(signed)
        self.weight_bits, self.input_bits = tuple(weight_bits), tuple(input_bits)

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Let the convolutions of all blocks that match round.

        Raises:
            ConfigError: a pattern matches no block with convolutions; the model is unchanged.
        """
        built: dict[str, ElasticPrecision] = {}
        for pattern in self.blocks:
            for block in _blocks(pattern, model):
                built |= self._layers(block, model)
        for path, layer in built.items():
            put_in_place(model, model.get_submodule(path), layer)

    def _layers(self, block: str, model: nn.Module) -> dict[str, ElasticPrecision]:
        options = (
            Dimension(f"{block}.weight_bits", tuple(sorted(set(self.weight_bits)))),
            Dimension(f"{block}.input_bits", tuple(sorted(set(self.input_bits)))),
        )
        return {
            path: ElasticPrecision.of(layer, options, self._is_signed(path))
            for path, layer in _convolutions(block, model).items()
        }

    def _is_signed(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.signed)


def _blocks(pattern: str, model: nn.Module) -> list[str]:
    """Return the paths of the blocks that match a pattern and have convolutions."""
    paths = [path for path, _ in model.named_modules() if fnmatchcase(path, pattern)]
    found = [path for path in paths if _convolutions(path, model)]
    if not found:
        known = [path for path, _ in model.named_modules()]
        raise ConfigError(
            f"mutator: blocks: no module with convolutions matches {pattern!r}"
            f"{suggestion(pattern, known)}"
        )
    return found


def _convolutions(block: str, model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the plain convolutions of a block by path; it may be one itself."""
    inside = model.get_submodule(block).named_modules(prefix=block)
    return {path: module for path, module in inside if type(module) is nn.Conv2d}
