"""The form that a run's saved state must have, damaged or edited ones are refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from razorlite.core.errors import CheckpointError
from razorlite.core.tensor_files import first_line
from razorlite.engine.checkpoint import is_finite
from razorlite.engine.random_state import random_state
from razorlite.engine.ranks import statistics
from razorlite.engine.run_state import RunState

Form = Callable[[Any, str], None]
"""Takes a value and where it stands; raises ValueError unless the value has the form."""


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Say of what goes wrong in taking up a state which file it came from.

    Raises:
        CheckpointError: one line with the file, what is wrong and what to do.
    """
    advice = "resume from an undamaged checkpoint, or start a new run with load_from"
    try:
        yield
    except CheckpointError as error:
        named = str(path) in str(error)
        raise error if named else CheckpointError(f"{path}: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing in its state; {advice}") from error
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError) as e:
        raise CheckpointError(f"{path}: {first_line(e)}; {advice}") from e


def check_form(run: RunState, content: Mapping[str, Any]) -> None:
    """Check all that a state holds but the training step's own part.

    Raises:
        ValueError: something is missing, of another kind, or out of its range; names it.
    """
    own = run.model.state_dict()
    _fields(
        {
            "model": _tensors(own),
            "optimizer": _fields(
                {"state": _mapping(_mapping()), "param_groups": _list(_mapping())}
            ),
            "update": _mapping(_number),
            "ema": _optional(_fields({"updates": _count, "average": _tensors(own, shapes=True)})),
            "progress": _PROGRESS,
            "rng": _list(_like(random_state())),
            "meta": _mapping(),
        }
    )(content, "")
    if "step" not in content:
        raise ValueError("step is missing")
    _optional(_count)(content["progress"].get("images_per_batch"), "progress.images_per_batch")
    _optional(_count)(content["progress"].get("stale"), "progress.stale")
    if "ranks" in content:
        _list(_fields({"window": _window, "statistics": _statistics(run)}))(
            content["ranks"], "ranks"
        )
        if len(content["ranks"]) != len(content["rng"]):
            raise ValueError("ranks and rng are of different numbers of processes")


def _fail(path: str, value: Any, expected: str) -> None:
    shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    shown = shown if len(shown) < 50 else f"a {type(value).__name__}"
    raise ValueError(f"{path} is {shown}, expected {expected}")


def _number(value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(path, value, "a number")


def _finite(value: Any, path: str) -> None:
    _number(value, path)
    if not math.isfinite(value):
        _fail(path, value, "a finite number")


def _amount(value: Any, path: str) -> None:
    _number(value, path)
    if not 0 <= value < math.inf:
        _fail(path, value, "a finite number from 0")


def _count(value: Any, path: str) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        _fail(path, value, "a whole number from 0")


def _flag(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        _fail(path, value, "true or false")


def _anything(value: Any, path: str) -> None: ...


def _optional(form: Form) -> Form:
    return lambda value, path: None if value is None else form(value, path)


def _mapping(form: Form = _anything) -> Form:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            _fail(path, value, "entries by name")
        for key, item in value.items():
            form(item, f"{path}.{key}")

    return check


def _list(form: Form) -> Form:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, list | tuple) or not value:
            _fail(path, value, "a list that is not empty")
        for index, item in enumerate(value):
            form(item, f"{path}.{index}")

    return check


def _fields(forms: Mapping[str, Form]) -> Form:
    def check(value: Any, path: str) -> None:
        _mapping()(value, path)
        for name, form in forms.items():
            inside = f"{path}.{name}".lstrip(".")
            if name not in value:
                raise ValueError(f"{inside} is missing")
            form(value[name], inside)

    return check


def _tensors(expected: Mapping[str, Any], *, shapes: bool = False) -> Form:
    """Take tensors of the expected kind of numbers, all finite where the expected ones are."""

    def check(value: Any, path: str) -> None:
        _mapping()(value, path)
        for name, tensor in expected.items():
            if isinstance(tensor, Tensor) and name in value:
                _tensor_like(tensor)(value[name], f"{path}.{name}")
                if shapes and value[name].shape != tensor.shape:
                    _fail(f"{path}.{name}", value[name], f"shape {tuple(tensor.shape)}")
        for name, tensor in value.items():
            masked = not is_finite({name: expected.get(name)})  # as a mask of attention may be
            if not masked and not is_finite({name: tensor}):
                raise ValueError(f"{path}.{name} is not finite (NaN or infinite)")

    return check


def _tensor_like(sample: Tensor) -> Form:
    kind = sample.is_floating_point(), sample.is_complex()

    def check(value: Any, path: str) -> None:
        fits = isinstance(value, Tensor) and (value.is_floating_point(), value.is_complex()) == kind
        if not fits:
            _fail(path, value, f"a tensor of {str(sample.dtype).removeprefix('torch.')}")

    return check


def _like(sample: Any) -> Form:
    """Take what is built as the sample; where that is None, a number or tensor as well."""
    if isinstance(sample, Mapping):
        return _fields({name: _like(item) for name, item in sample.items()})

    def check(value: Any, path: str) -> None:
        kinds = (int, float, Tensor) if sample is None else (type(sample),)
        if not isinstance(value, kinds) and value is not sample:
            _fail(path, value, f"a {type(sample).__name__}")
        if isinstance(sample, Tensor) and (value.shape, value.dtype) != (
            sample.shape,
            sample.dtype,
        ):
            _fail(path, value, f"one of shape {tuple(sample.shape)}")
        if isinstance(sample, tuple):
            if len(value) != len(sample):
                _fail(path, value, f"{len(sample)} entries")
            for index, item in enumerate(sample):
                _like(item)(value[index], f"{path}.{index}")

    return check


def _statistics(run: RunState) -> Form:
    shapes = [tensor.shape for tensor in statistics(run)]

    def check(value: Any, path: str) -> None:
        if not (isinstance(value, list) and all(isinstance(item, Tensor) for item in value)):
            _fail(path, value, "a list of tensors")
        if value and [item.shape for item in value] != shapes:
            _fail(path, value, "one tensor for each of the model's statistics")

    return check


def _window(value: Any, path: str) -> None:
    numbers = _mapping(_number)
    _fields({"sums": numbers, "counts": numbers, "images": _count, "seconds": _amount})(value, path)
    if value["sums"].keys() != value["counts"].keys() or 0 in value["counts"].values():
        raise ValueError(f"{path} has sums without their counts")


_PROGRESS = _fields(
    {
        "step": _count,
        "seconds": _amount,
        "lr": _amount,
        "best": _optional(_finite),
        "figures": _mapping(_number),
        "settled": _flag,
        "batches_per_epoch": _count,
        "accumulate": _count,
    }
)
