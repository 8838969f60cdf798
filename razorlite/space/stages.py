"""Stacks of modules of which the first ones run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register, suggestion
from razorlite.space.dimension import Dimension, Value, Values
from razorlite.space.elastic import twin_of
from razorlite.space.mutable import Mutable
from razorlite.space.mutator import Preparer, put_in_place


class _FirstOnes(Mutable):
    """A container whose first modules run.

    Attributes:
        option: how many may run.
        count: how many do.
    """

    option: Dimension
    count: int

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """How many run."""
        return (self.option,)

    @property
    def values(self) -> Values:
        """How many run."""
        return {self.option.name: self.count}

    def set(self, values: Values) -> None:
        """Let so many run."""
        self.count = int(values[self.option.name])

    def own_state(self, state: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """Return the weights of those that run at these values."""
        count = int(values[self.option.name])
        return {k: v for k, v in state.items() if int(k.partition(".")[0]) < count}

    def running(self) -> Iterable[nn.Module]:
        """Return those that run."""
        return list(self.children())[: self.count]

    def condition(self, path: str) -> Mapping[str, tuple[Value, ...]]:
        """Return for which numbers a module inside runs."""
        position = int(path.partition(".")[0])
        return {self.option.name: tuple(v for v in self.option.values if int(v) > position)}

    def __iter__(self) -> Iterator[Any]:
        """Yield those that run."""
        return iter(self.running())

    def __len__(self) -> int:
        """Return how many run."""
        return self.count


class ElasticStage(_FirstOnes, nn.Sequential):
    """Blocks in a row of which the first run, as in Once-for-All.

    https://arxiv.org/abs/1908.09791, section 3.
    """

    _joined = False

    @classmethod
    def of(cls, stage: nn.Sequential, option: Dimension) -> "ElasticStage":
        """Return the elastic form of a stage; `option` has the numbers of blocks that may run."""
        own = twin_of(stage, cls)
        own.option, own.count = option, len(stage)
        return own

    def forward(self, x: Any) -> Any:
        """Return what the blocks that run make of whatever they take."""
        if self._joined:
            return self._sum(x)
        for block in self.running():
            x = block(x)
        return x

    def export(self, values: Values) -> nn.Module:
        """Return the blocks that run at these values."""
        return nn.Sequential(*list(self.children())[: int(values[self.option.name])])

    def _sum(self, x: Any) -> Any:
        """Return the sum of what comes out at all depths."""
        outs = {0: x}
        for number, block in enumerate(self.children(), 1):
            outs[number] = block(outs[number - 1])
        total, *others = (outs[int(depth)] for depth in self.option.values)
        for out in others:
            total = total + out
        return total


class ElasticList(_FirstOnes, nn.ModuleList):
    """A list of modules that others run in a loop, of which the first are there."""

    @classmethod
    def of(cls, modules: nn.ModuleList, option: Dimension) -> "ElasticList":
        """Return the elastic form of a list; `option` has the numbers of modules that may run."""
        own = twin_of(modules, cls)
        own.option, own.count = option, len(modules)
        return own

    def export(self, values: Values) -> nn.Module:
        """Return the modules that run at these values."""
        return nn.ModuleList(list(self.children())[: int(values[self.option.name])])


@contextmanager
def depths_joined(model: nn.Module) -> Iterator[None]:
    """Let stages give the sum over all their depths within the block.

    Whoever follows channels there finds that what may come out of a stage is equally wide.
    """
    stages = [module for module in model.modules() if isinstance(module, ElasticStage)]
    for stage in stages:
        stage._joined = True
    try:
        yield
    finally:
        for stage in stages:
            del stage._joined


@register()
class ElasticDepth(Preparer):
    """Lets stacks of modules, `nn.Sequential` or `nn.ModuleList`, run their first ones alone.

    Set to the largest values, the model computes what it did. What comes out of each module of a
    stack must be what the next expects, and what comes after the stack, too: blocks of equal
    channels, convolutions of a head, decoder layers that are all supervised.
    """

    def __init__(
        self,
        *,
        stages: dict[str, str | list[Count]],
        dimensions: dict[str, list[Count]] | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            stages: pattern of module paths ("backbone.layer?") to how many modules may run, which
                makes a dimension for each stack, named `STACK.depth`, where a stack's own number
                always is among them and greater ones are left out; or the name of a dimension.
            dimensions: name of each dimension that several stacks share to its values, the greatest
                of which is the number of modules that each of them has.

        Raises:
            ConfigError: values are no values of a dimension.
        """
        self.stages = dict(stages)
        self.shared = {name: Dimension(name, tuple(v)) for name, v in (dimensions or {}).items()}

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Make the stacks that match elastic; those of a single module stay.

        Raises:
            ConfigError: a pattern matches no stack, or a shared dimension does not fit one; the
                model is unchanged.
        """
        built: dict[str, ElasticStage | ElasticList] = {}
        for pattern, given in self.stages.items():
            for path in _stacks(pattern, model):
                stack = model.get_submodule(path)
                option = self._option(path, len(stack), given)  # type: ignore[arg-type]
                if len(option.values) > 1:
                    built[path] = _elastic(stack, option)
        if not built:
            raise ConfigError("mutator: stages: no stack has more than one depth; give others")
        for path, stage in built.items():
            put_in_place(model, model.get_submodule(path), stage)

    def _option(self, path: str, length: int, given: str | Sequence[int]) -> Dimension:
        """Return how many modules of a stack may run."""
        if not isinstance(given, str):
            depths = sorted({depth for depth in given if depth < length} | {length})
            return Dimension(f"{path}.depth", tuple(depths))
        if given not in self.shared:
            raise ConfigError(
                f"mutator: stages: {path} follows {given!r}, which is no dimension"
                f"{suggestion(given, self.shared)}"
            )
        option = self.shared[given]
        if max(option.values, key=float) != length:
            listed = ", ".join(map(str, option.values))
            raise ConfigError(
                f"mutator: stages: {path} has {length} modules, and the greatest of {given!r} must "
                f"be that, got {listed}"
            )
        return option


def _elastic(stack: nn.Module, option: Dimension) -> ElasticStage | ElasticList:
    if isinstance(stack, nn.Sequential):
        return ElasticStage.of(stack, option)
    assert isinstance(stack, nn.ModuleList)
    return ElasticList.of(stack, option)


def _stacks(pattern: str, model: nn.Module) -> list[str]:
    """Return the paths of the stacks that match a pattern, each module once."""
    modules = dict(model.named_modules())
    matching = [path for path in modules if fnmatchcase(path, pattern)]
    found = [p for p in matching if type(modules[p]) in (nn.Sequential, nn.ModuleList)]
    if found:
        return found
    if matching:
        kinds = ", ".join(sorted({type(modules[path]).__name__ for path in matching}))
        raise ConfigError(
            f"mutator: stages: {pattern!r} matches {kinds}; an elastic depth needs an "
            f"nn.Sequential or nn.ModuleList that has none yet"
        )
    raise ConfigError(
        f"mutator: stages: no module matches {pattern!r}{suggestion(pattern, modules)}"
    )
