"""A model run on shapes alone, to find parts that do not fit each other."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from razorlite.core.errors import ConfigError, RazorliteError
from razorlite.core.tensor_files import first_line
from razorlite.cost.count import evaluating
from razorlite.distill.taps import flat_tensors
from razorlite.models.resizing import Resizable
from razorlite.recipes.building import Built
from razorlite.space import SearchSpace
from razorlite.structures import Inputs, example_inputs, images_of

_SMALL = 128  # pixels; enough for five levels of strides up to 128
_VALUES_NEEDED = (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError)


def dry_run(build: Callable[[], Built], shape: tuple[int, int], *, values: bool = False) -> Built:
    """Build a model without values, run it once, and compare what its parts give each other.

    Where it needs values (boxes that are sorted, say) it is built once more and run on small
    zeros.

    Args:
        build: builds it, on the default device.
        shape: (height, width) in pixels of the images.
        values: the model cannot be built without values.

    Returns:
        The model, on the meta device if it can be.

    Raises:
        ConfigError: a part cannot take what another gives; `key` is the part's place below
            `model`.
    """
    if values:
        built = build()
        _run_with_values(built.model, _sizes(shape))
        return built
    with torch.device("meta"):
        built = build()
    try:
        run(built.model, example_inputs(built.model, shape, device="meta"))
    except _VALUES_NEEDED:
        _run_with_values(build().model, _sizes(shape))
    return built


def run(model: nn.Module, inputs: Inputs) -> None:
    """Run a model in evaluation mode and compare maps with the strides of its heads.

    Raises:
        ConfigError: parts do not fit each other.
        Exception: whatever else the model raises.
    """
    images = images_of(inputs)
    watched = nullcontext() if images is None else _watched(model, _height_seen(model, images))
    with torch.no_grad(), evaluating(model), watched:
        model(inputs)


def run_forms(built: Built, shape: tuple[int, int]) -> None:
    """Run a supernet in enough forms that every value of its dimensions is tried, on shapes alone.

    Args:
        built: a supernet on the meta device; set as it was afterwards.
        shape: (height, width) in pixels of the images.

    Raises:
        ConfigError: in one of the forms parts do not fit each other; names a part.
        Exception: what the model raises in its present form, as where it needs values.
    """
    assert built.space is not None
    inputs = example_inputs(built.model, shape, device="meta")
    with built.space.kept_path():
        run(built.model, inputs)
        for point in built.space.covering():
            built.space.select(built.space.decode(point))
            position = _Place()
            try:
                with position.kept():
                    run(built.model, inputs)
            except _VALUES_NEEDED as error:
                path = position.path(built.model)
                reason = f"{path or 'it'} cannot take what it is given: {first_line(error)}"
                raise ConfigError(f"{reason} ({_values_near(built.space, path)})") from error


def needs_larger_batches(model: nn.Module, shape: tuple[int, int]) -> bool:
    """Return whether a batch norm would see a single value per channel in a batch of one image."""
    try:
        with torch.no_grad():
            model.train()
            model(example_inputs(model, shape, device="meta"))
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    except _VALUES_NEEDED:
        return False
    return False


def _values_near(space: SearchSpace, path: str) -> str:
    """Say what the mutable that a module is or is in, or else the first few, are set to."""
    inner = [m for name, m in space.mutables.items() if f"{path}.".startswith(f"{name}.")]
    values = inner[-1].values if inner else space.selected.choices
    shown = [f"{name} is {value}" for name, value in list(values.items())[:4]]
    return f"where {', '.join(shown)}"


def _sizes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return a small size to try first, then the whole one."""
    return [(min(shape[0], _SMALL), min(shape[1], _SMALL)), shape]


def _run_with_values(model: nn.Module, shapes: Sequence[tuple[int, int]]) -> None:
    """Run a model on zeros; what fails at the last shape, fails.

    Raises:
        ConfigError: parts do not fit each other.
    """
    for shape in shapes:
        place = _Place()
        try:
            with place.kept():
                run(model, example_inputs(model, shape))
            return
        except RazorliteError:
            raise
        except _VALUES_NEEDED as error:
            if shape == shapes[-1]:
                raise _misfit(model, place.path(model), error) from error


class _Place:
    """Which modules are running."""

    def __init__(self) -> None:
        self.running: list[nn.Module] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep track within the block; after an exception the module that raised it is last."""
        enter = torch_modules.register_module_forward_pre_hook(
            lambda module, _: self.running.append(module)
        )
        leave = torch_modules.register_module_forward_hook(lambda *_: self._leave())
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    def path(self, model: nn.Module) -> str:
        names = {module: name for name, module in model.named_modules()}
        return next((names[m] for m in reversed(self.running) if m in names), "")

    def _leave(self) -> None:
        self.running.pop()


def _misfit(model: nn.Module, path: str, error: Exception) -> ConfigError:
    """Say which part cannot take what it is given."""
    part = path.partition(".")[0]
    module = model.get_submodule(path) if path else model
    what = f"{path or 'it'} cannot take what it is given: {first_line(error)}"
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim >= 2:
        groups = getattr(module, "groups", 1)
        what = f"{path} takes {weight.shape[1] * groups} channels: {first_line(error)}"
    return ConfigError(what, key=f"{part}.in_channels")


@contextmanager
def _watched(model: nn.Module, height: int) -> Iterator[None]:
    """Compare the maps that go into each head with its channels and strides, in the block."""
    handles = [
        part.register_forward_pre_hook(_comparison(name, height))
        for name, part in model.named_children()
        if name not in ("backbone", "neck")
    ]
    neck = getattr(model, "neck", None) or getattr(model, "backbone", None)
    regions = getattr(model, "roi_head", None)
    if isinstance(neck, nn.Module) and hasattr(regions, "strides"):
        handles.append(
            neck.register_forward_hook(
                lambda _, __, maps: _compare("roi_head", regions, maps, height, some=True)
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _height_seen(model: nn.Module, images: Tensor) -> int:
    """Return how many pixels high (N, 3, H, W) images are for the backbone."""
    canvas = (images.shape[-2], images.shape[-1])
    return model.resized_size(canvas)[0] if isinstance(model, Resizable) else canvas[0]


def _comparison(name: str, height: int) -> Callable[[nn.Module, Any], None]:
    return lambda head, args: _compare(name, head, args[0] if args else (), height)


def _compare(name: str, head: Any, maps: Any, height: int, *, some: bool = False) -> None:
    """Refuse a head whose strides are not those of the maps it gets.

    Args:
        name: of the head, for messages.
        head: what takes the maps; without strides it takes any.
        maps: (N, C, H, W) of each level.
        height: of the images that the backbone sees, in pixels.
        some: the head may use only the first maps.
    """
    anchors = getattr(head, "anchors", None)
    strides = getattr(head, "strides", None) or getattr(anchors, "strides", None)
    levels = [x for x in flat_tensors(maps) if x.ndim == 4]
    if not strides or not levels:
        return
    key = f"{name}.anchor_generator.strides" if anchors is not None else f"{name}.strides"
    found = [_stride(height, level) for level in levels]
    if len(strides) != len(levels) and not (some and len(strides) < len(levels)):
        raise ConfigError(
            f"has {len(strides)} strides, {list(strides)}, but gets {len(levels)} maps, of strides "
            f"{found}; give as many strides, or change the neck's num_outs",
            key=key,
        )
    pairs = zip(strides, levels, strict=False)
    if any(abs(height / stride - level.shape[-2]) >= 1 for stride, level in pairs):
        raise ConfigError(
            f"are {list(strides)}, but the maps have the strides {found[: len(strides)]}; set "
            f"these, or change the backbone's out_indices",
            key=key,
        )


def _stride(height: int, level: Tensor) -> int:
    """Return the power of 2 nearest to how many pixels a map's cell covers."""
    stride: int = 2 ** round(math.log2(max(height / level.shape[-2], 1)))
    return stride
