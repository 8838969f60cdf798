"""Makes layers of any model elastic, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from razorlite.core.errors import ConfigError
from razorlite.core.ranges import Count
from razorlite.core.registry import register, suggestion
from razorlite.space.dimension import Dimension
from razorlite.space.elastic import Elastic
from razorlite.space.elastic_layers import ELASTIC, elastic_kind
from razorlite.space.mutator import Preparer, put_in_place
from razorlite.space.sides import Centre, First, Side

Numbers = list[int | float]
_SIDES = {"out_channels": "outputs", "in_channels": "inputs", "kernel_size": "kernel"}


@dataclass(frozen=True, kw_only=True)
class Follow:
    """What the layers of a pattern follow.

    Each is the name of a dimension; or values, which make a dimension of its own for each layer,
    named `LAYER.out_channels` or `LAYER.kernel_size`. In names, {layer} stands for the path of the
    layer and {parent} for that of the module that it is in.

    Attributes:
        out_channels: how many outputs run: whole numbers, or shares such as 0.5; of a norm, its
            channels.
        in_channels: how many inputs run: the dimension of the layer that makes them.
        kernel_size: side of the kernel; a smaller one is the centre of the largest.
    """

    out_channels: str | Numbers | None = None
    in_channels: str | None = None
    kernel_size: str | list[Count] | None = None


@register()
class ElasticLayers(Preparer):
    """Makes convolutions, linear layers and norms elastic, as their names match patterns.

    Layers keep the names of their weights, so that weights of the plain model can be loaded; set to
    the largest values, the model computes what it did. Smaller forms take the first channels and
    the centre of the kernel, as in Once-for-All, https://arxiv.org/abs/1908.09791. Layers whose
    widths earlier preparers have made elastic can follow a kernel, too.
    """

    def __init__(
        self, *, layers: dict[str, Follow], dimensions: dict[str, Numbers] | None = None
    ) -> None:
        """Keep the settings.

        Args:
            layers: pattern of module paths ("backbone.*.conv1") to what these layers follow.
            dimensions: name of each dimension that several layers share to its values.

        Raises:
            ConfigError: a pattern follows nothing, or values are no values of a dimension.
        """
        for pattern, follow in layers.items():
            if not any(vars(follow).values()):
                raise ConfigError(
                    f"layers.{pattern} follows nothing; give out_channels, in_channels or "
                    f"kernel_size"
                )
        self.layers = dict(layers)
        self.shared = {name: Dimension(name, tuple(v)) for name, v in (dimensions or {}).items()}

    def put(self, model: nn.Module, shape: tuple[int, int] = (224, 224)) -> None:
        """Put elastic layers in the positions of those that match, with the same weights.

        Raises:
            ConfigError: a pattern matches no layer, a layer follows what is no dimension, or cannot
                take all of its values; the model is unchanged.
        """
        found = self._found(model)
        dimensions = {**self.shared, **_own_dimensions(found)}
        built = {path: _elastic(path, model, follow, dimensions) for path, follow in found.items()}
        used = {dimension.name for layer in built.values() for dimension in layer.dimensions}
        for name in dimensions:
            if name not in used:
                raise ConfigError(f"mutator: no layer follows the dimension {name!r}; leave it out")
        for path, layer in built.items():
            put_in_place(model, model.get_submodule(path), layer)

    def _found(self, model: nn.Module) -> dict[str, Follow]:
        """Return the layers that become elastic by path, and what they follow."""
        patterns: dict[str, str] = {}
        for pattern in self.layers:
            for path in _matching(pattern, model):
                if patterns.setdefault(path, pattern) != pattern:
                    raise ConfigError(
                        f"mutator: layers: {path} matches both {patterns[path]!r} and "
                        f"{pattern!r}; let one pattern match it"
                    )
        return {path: self.layers[pattern] for path, pattern in patterns.items()}


def _matching(pattern: str, model: nn.Module) -> list[str]:
    """Return the paths of the layers that match a pattern and can be elastic."""
    modules = dict(model.named_modules())
    matching = {path: m for path, m in modules.items() if fnmatchcase(path, pattern)}
    known = [path for path, module in matching.items() if elastic_kind(module) is not None]
    if known:
        return known
    kinds = ", ".join(sorted({type(module).__name__ for module in matching.values()}))
    if matching:
        names = ", ".join(kind.__name__ for kind in ELASTIC)
        raise ConfigError(f"mutator: layers: {pattern!r} matches {kinds}; elastic can be {names}")
    raise ConfigError(
        f"mutator: layers: no module matches {pattern!r}{suggestion(pattern, modules)}"
    )


def _own_dimensions(found: Mapping[str, Follow]) -> dict[str, Dimension]:
    """Return the dimensions that layers have for themselves."""
    own = {
        f"{path}.{key}": values
        for path, follow in found.items()
        for key, values in vars(follow).items()
        if isinstance(values, list)
    }
    return {name: Dimension(name, tuple(values)) for name, values in own.items()}


def _elastic(
    path: str, model: nn.Module, follow: Follow, dimensions: Mapping[str, Dimension]
) -> Elastic:
    """Return the elastic form of a layer."""
    layer = model.get_submodule(path)
    kind = elastic_kind(layer)
    assert kind is not None
    try:
        given = {key: value for key, value in vars(follow).items() if value is not None}
        sides = {
            _SIDES[key]: _side(key, kind.sizes(layer), _dimension(key, value, path, dimensions))
            for key, value in given.items()
        }
        return kind.of(layer, sides, dimensions)
    except ConfigError as error:
        raise ConfigError(f"mutator: layers: {path} ({kind.plain.__name__}): {error}") from error


def _dimension(
    key: str, given: str | Numbers, path: str, dimensions: Mapping[str, Dimension]
) -> Dimension:
    """Return the dimension that a side of a layer follows."""
    if not isinstance(given, str):
        return dimensions[f"{path}.{key}"]
    name = given.replace("{layer}", path).replace("{parent}", path.rpartition(".")[0])
    if name not in dimensions:
        raise ConfigError(
            f"{key} follows {name!r}, which is no dimension{suggestion(name, dimensions)}"
        )
    return dimensions[name]


def _side(key: str, sizes: Mapping[str, int], dimension: Dimension) -> Side:
    if _SIDES[key] not in sizes:
        raise ConfigError(f"has no {key} that could be elastic")
    size = sizes[_SIDES[key]]
    return Centre(dimension, size) if key == "kernel_size" else First(dimension, size)
