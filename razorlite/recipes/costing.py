"""What a configuration's candidates cost: counted, and by the models that it names."""

from collections.abc import Sequence

from razorlite.core.config import Partial
from razorlite.core.errors import ConfigError
from razorlite.cost import Constraint, CostModel, JoinedCost, LatencyTable, Limit
from razorlite.recipes.building import Built
from razorlite.recipes.experiment import Experiment
from razorlite.recipes.timing import timer_of
from razorlite.search import SearchConfig
from razorlite.space import SearchSpace

_COUNTED = ("macs", "params")


def search_costs(experiment: Experiment, built: Built) -> CostModel:
    """Return the costs of a supernet's points: MACs, parameters and the kinds of `search.costs`.

    Nothing is counted where a model of `search.costs` gives MACs or parameters itself.

    Raises:
        ConfigError: a block makes no cost model, two give one kind of cost, or the supernet cannot
            be counted.
    """
    assert built.space is not None
    own = _own(experiment, built.space)
    given = {name for model in own for name in model.names}
    counted = [] if given.intersection(_COUNTED) else [built.costs(experiment.shape)]
    return JoinedCost([*counted, *own])


def models_of(costs: CostModel | None) -> Sequence[CostModel]:
    """Return the models that costs are joined of, or the only one."""
    if costs is None:
        return ()
    return costs.models if isinstance(costs, JoinedCost) else (costs,)


def check_constraints(settings: SearchConfig, costs: CostModel) -> None:
    """Refuse limits that cannot be read or met; of what has to be measured first they are read.

    Args:
        settings: the `search` block.
        costs: what `search_costs` returns.

    Raises:
        BudgetError: a limit cannot be met.
        ConfigError: a name or an amount is wrong.
    """
    known = JoinedCost([model for model in models_of(costs) if getattr(model, "is_known", True)])
    limits = settings.constraints
    later = [name for name in limits if name in costs.names and name not in known.names]
    for name in later:
        Limit.parse(name, limits[name], whole=1.0, where="constraints")
    Constraint.parse({n: v for n, v in limits.items() if n not in later}, known)


def _own(experiment: Experiment, space: SearchSpace) -> list[CostModel]:
    settings = experiment.search or SearchConfig()
    for number, block in enumerate(settings.costs):
        _check_needs(block, f"costs.{number}")
    models = [_built(block, experiment, space) for block in settings.costs]
    for number, model in enumerate(models):
        missing = [n for n in ("names", "many", "bounds") if not hasattr(model, n)]
        if missing:
            raise ConfigError(
                f"{type(model).__name__} is no cost model: it has no {' and no '.join(missing)}",
                key=f"costs.{number}",
            )
    return models


def _built(block: Partial[CostModel], experiment: Experiment, space: SearchSpace) -> CostModel:
    """Return a cost model; one that names how to measure latency gets what times whole models."""
    model: CostModel = block(space=space, shape=experiment.shape)
    if not isinstance(model, LatencyTable) or model.latency is None:
        return model
    timer = timer_of(experiment, space.model, model.latency)
    return block(space=space, shape=experiment.shape, timer=timer)


def _check_needs(block: Partial[CostModel], key: str) -> None:
    """Refuse a block that leaves out what its model needs beside space and shape.

    Raises:
        ConfigError: it does; names what.
    """
    for name, required in block.left().items():
        if required and name not in ("space", "shape"):
            raise ConfigError(f"{block.type} needs {name!r}; add it", key=key)
