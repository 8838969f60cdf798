"""Follow channels through a model: by its graph, or by one run of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from razorlite.core.errors import ExportError
from razorlite.engine.random_state import kept_random_state
from razorlite.structures import Inputs, inputs_of, map_tensors, training_calls
from razorlite.trace._rules import find_rule
from razorlite.trace.attributes import remember_attributes
from razorlite.trace.calls import has_own_forward
from razorlite.trace.functions import owners
from razorlite.trace.ledger import Ledger
from razorlite.trace.parameters import bare_tensors
from razorlite.trace.propagate import Propagator
from razorlite.trace.tracing import copied, graphs, is_leaf, skeleton
from razorlite.trace.watching import Watch
from razorlite.trace.widths import remember_widths

How = Literal["auto", "graph", "run"]


@dataclass(frozen=True)
class Reading:
    """What was seen of a model's modules.

    Attributes:
        called: paths of the modules that are called and taken as they are.
        read: ids of the parameters and buffers that a forward reads itself.
    """

    called: frozenset[str]
    read: frozenset[int]


def follow_graph(
    model: nn.Module, ledger: Ledger, inputs: Inputs, leaves: Sequence[str]
) -> Reading:
    """Write what becomes of channels, in evaluation and in training mode, into one ledger.

    Args:
        model: a skeleton.
        ledger: gets channels and ties.
        inputs: what the model takes, on the meta device.
        leaves: patterns of module paths that are not looked into.

    Raises:
        ExportError: the forward cannot be traced, or fails on the inputs.
    """
    leaf = partial(is_leaf, leaves=leaves)
    bare, known = bare_tensors(model, leaf), owners(model, leaf)
    evaluation, *training = (
        Propagator(graph, ledger, find_rule, bare, known) for graph in graphs(model, leaves)
    )
    evaluation.run(inputs)
    ran = [evaluation]
    ledger.counting = False
    model.train()
    for propagator in training:
        with suppress(ExportError):  # it does not run without targets, say
            propagator.run(inputs)
            ran.append(propagator)
    model.eval()
    return _reading(model, ran)


def _reading(model: nn.Module, ran: Sequence[Propagator]) -> Reading:
    called, read = set[str](), set[int]()
    for propagator in ran:
        called.update(propagator.layers.values())
        for node in propagator.traced.graph.nodes:
            if node.op == "call_module":
                called.add(str(node.target))
            if node.op == "get_attr" and not propagator.layers.keys() >= node.users.keys():
                read.add(id(attrgetter(str(node.target))(model)))
    return Reading(frozenset(called), frozenset(read))


def follow_run(
    model: nn.Module, ledger: Ledger, inputs: tuple[Any, ...], leaves: Sequence[str]
) -> Reading:
    """Run a model once in evaluation and once in training mode, and watch its calls.

    In training mode it may want targets; where it does not run with those of torchvision's
    detectors, either, the evaluation is all that is seen.

    Args:
        model: a copy, which may be on the meta device.
        ledger: gets channels and ties.
        inputs: positional arguments, on the model's device.
        leaves: patterns of module paths that are not looked into.

    Raises:
        ExportError: the model fails in evaluation mode; names the operation.
    """
    watch = Watch(model.eval(), ledger, leaves)
    with kept_random_state():
        try:
            watch.run(inputs)
        except Exception as error:  # whatever a forward may raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(f"{type(model).__name__} cannot be run: {reason}") from error
        ledger.counting = False
        model.train()
        for arguments in training_calls(model, inputs):
            with suppress(Exception):  # it wants other targets, say
                watch.run(arguments)
                break
    model.eval()
    _fix_unread(ledger)
    return Reading(frozenset(watch.called), frozenset(watch.read))


def _fix_unread(ledger: Ledger) -> None:
    """Fix channels that neither a layer nor a sum was seen to read: something unseen may do so."""
    read = [ledger.roots(labels) for labels in (*ledger.consumed.values(), *ledger.summed)]
    known = np.unique(np.concatenate([np.empty(0, np.int64), *read]))
    for labels in ledger.produced.values():
        unread = labels[~np.isin(ledger.roots(labels), known)]
        ledger.fix(unread, "nothing that was seen reads them")


def read(
    model: nn.Module,
    example: Any,
    leaves: Sequence[str],
    how: How = "auto",
    ledger: Callable[[], Ledger] = Ledger,
) -> tuple[nn.Module, Ledger, Reading]:
    """Follow channels through a copy of a model: by its graph, and where that fails by a run.

    Args:
        model: not changed.
        example: as for `inputs_of`.
        leaves: patterns of module paths that are not looked into.
        how: "graph" or "run" for one way alone.
        ledger: gives an empty book.

    Returns:
        The copy, the book that was written, and what was seen of the copy's modules.

    Raises:
        ExportError: the model cannot be copied, or cannot be followed in any of the ways.
    """
    if has_own_forward(model):
        raise ExportError(
            f"{type(model).__name__} has a forward of its own, set on the object, which tracing "
            "does not see; define it in the class"
        )
    first: ExportError | None = None
    for follow in _ways(model, example, leaves, how):
        book = ledger()
        try:
            twin, reading = follow(book)
            return twin, book, reading
        except ExportError as error:
            first = first or error
    raise first or ExportError(
        f"torch.fx follows models of one tensor or mapping, not of {type(example).__name__}s; "
        'give how="run"'
    )


def _remembering(model: nn.Module, leaves: Sequence[str]) -> nn.Module:
    """Let widths and other numbers that a copy keeps as attributes be known as such."""
    remember_widths(model)
    remember_attributes(model, partial(is_leaf, leaves=leaves))
    return model


def _ways(
    model: nn.Module, example: Any, leaves: Sequence[str], how: How
) -> Iterator[Callable[[Ledger], tuple[nn.Module, Reading]]]:
    """Yield the ways to follow a model, the best first."""
    inputs = inputs_of(model, example)

    def on(device: torch.device) -> tuple[Any, ...]:
        return tuple(map_tensors(lambda x: x.to(device), inputs))

    def graph(ledger: Ledger) -> tuple[nn.Module, Reading]:
        ghost = _remembering(skeleton(model), leaves)
        return ghost, follow_graph(ghost, ledger, on(torch.device("meta"))[0], leaves)

    def run(make: Callable[[nn.Module], nn.Module], ledger: Ledger) -> tuple[nn.Module, Reading]:
        made = _remembering(make(model), leaves)
        device = next((p.device for p in made.parameters()), torch.device("cpu"))
        return made, follow_run(made, ledger, on(device), leaves)

    if how != "run" and len(inputs) == 1 and isinstance(inputs[0], Tensor | Mapping):
        yield graph
    if how != "graph":
        yield partial(run, skeleton)
        if not any(x.is_meta for x in [*model.parameters(), *model.buffers()]):
            yield partial(run, copied)
