"""Follow channels through every graph that a model has."""

from collections.abc import Sequence

from torch import fx, nn

from razorlite.core.errors import ExportError
from razorlite.structures import Inputs
from razorlite.trace._rules import find_rule
from razorlite.trace.ledger import Ledger
from razorlite.trace.propagate import Propagator
from razorlite.trace.tracing import graphs


def follow(
    model: nn.Module, ledger: Ledger, inputs: Inputs, leaves: Sequence[str]
) -> list[fx.GraphModule]:
    """Write what becomes of channels, in evaluation and in training mode, into one ledger.

    Args:
        model: a skeleton.
        ledger: gets channels and ties.
        inputs: what the model takes, on the meta device.
        leaves: patterns of module paths that are not looked into.

    Returns:
        The graphs, that of the evaluation first.

    Raises:
        ExportError: the forward cannot be traced, or fails on the inputs.
    """
    evaluation, *training = traced = graphs(model, leaves)
    Propagator(evaluation, ledger, find_rule).run(inputs)
    ledger.counting = False
    model.train()
    for graph in training:
        try:
            Propagator(graph, ledger, find_rule).run(inputs)
        except ExportError:
            traced = [evaluation]  # it does not run without targets, say
    model.eval()
    return traced
