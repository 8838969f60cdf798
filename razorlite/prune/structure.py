"""Blocks, decoder layers and queries that go by the budget that channels go by, too."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import pairwise

from torch import nn

from razorlite.core.errors import BudgetError, ConfigError
from razorlite.cost import Limit, shown
from razorlite.prune.channels import Channels
from razorlite.prune.parts import Dropped, Kind, counts_of, without_parts
from razorlite.prune.trial import Trial
from razorlite.space.subnet import Subnet
from razorlite.trace import residual_blocks

_log = logging.getLogger("razorlite")
_STEPS = 10  # numbers of queries that are tried
_PATIENCE = 4  # forms in a row that lose more than the best before

Plan = Callable[[Channels, Sequence[Limit]], Subnet]


@dataclass(frozen=True)
class Unit:
    """The least that can go at once.

    Attributes:
        kind: what it is.
        members: path of a block, or numbers of decoder layers or queries.
    """

    kind: Kind
    members: tuple[str | int, ...]


class Structures:
    """Forms of a model without more and more of its parts, the least useful ones first.

    Each part is left out alone, of decoder layers the last ones and of queries those with the
    lowest scores, and what that adds to the loss is divided by the share of the cost that it saves.

    Args:
        channels: of the whole model.
        kinds: what may go.
        trial: losses of models; without one, it is only found out what can be met.
        ignore: patterns of module paths of blocks that stay.
        min_keep: least share of the queries to keep.
    """

    def __init__(
        self,
        channels: Channels,
        kinds: Sequence[Kind],
        trial: Trial | None,
        *,
        ignore: Sequence[str] = (),
        min_keep: float = 0.0,
    ) -> None:
        self.channels, self.kinds, self.trial = channels, tuple(kinds), trial
        self.ignore, self.min_keep = tuple(ignore), min_keep
        self._measured: dict[str, tuple[float, Mapping[str, int]]] = {}
        self._losses: dict[str, float] = {}

    def plan(self, plan: Plan, limits: Sequence[Limit]) -> Subnet:
        """Return what is kept within limits: of all forms the one with the least loss.

        Where losses are not known, it is the first of nothing and everything that meets them.

        Args:
            plan: gives the channels to keep of what is left; not called where channels all stay.
            limits: on the slim model.

        Raises:
            BudgetError: no form meets the limits; the message names the reachable range.
        """
        tried: list[tuple[float, Subnet]] = []
        refused: BudgetError | None = None
        if "channels" not in self.kinds and not any(self._chains):
            self.check_kinds()
        for dropped in self.forms(limits):
            try:
                subnet, full = self._within(dropped, plan, limits)
            except BudgetError as error:
                refused = error
                continue
            if self.trial is None:
                return subnet
            tried.append((self._loss(subnet, self.trial), subnet))
            _log.info("%s: loss %.4g", _text(dropped), tried[-1][0])
            if full or _is_past([loss for loss, _ in tried]):
                break
        if not tried:
            assert refused is not None
            raise refused
        return min(tried, key=lambda pair: pair[0])[1]

    def check_kinds(self) -> None:
        """Refuse kinds of which the model has none.

        Raises:
            BudgetError: no channel group can shrink, where channels alone may go.
            ConfigError: as described.
        """
        if self.kinds == ("channels",):
            self.channels.check_prunable()
        there = {unit.kind for chain in self._chains for unit in chain}
        for kind in set(self.kinds) - {"channels"} - there:
            name = type(self.channels.model).__name__
            raise ConfigError(f"{name} has no {kind} that can be dropped", key="parts")

    def forms(self, limits: Sequence[Limit]) -> Iterator[Dropped]:
        """Yield what is dropped, from nothing to all that can go."""
        yield {}
        if self.trial is None:
            yield _dropped([unit for chain in self._chains for unit in chain])
            return
        order = self._order(limits)
        for number in range(1, len(order) + 1):
            yield _dropped(order[:number])

    def _within(self, dropped: Dropped, plan: Plan, limits: Sequence[Limit]) -> tuple[Subnet, bool]:
        """Return the subnet of one form, and whether it needs no channel to go."""
        if dropped or "channels" not in self.kinds:
            left, names = without_parts(self.channels.model, dropped), [x.name for x in limits]
            cost = self.channels.cost_of(left, names)
            fits = all(cost[limit.name] <= limit.high for limit in limits)
            if fits or "channels" not in self.kinds:
                _check(cost, limits)
                return Subnet(dropped=dropped, cost=cost, origin={"made_by": "prune"}), fits
        return replace(plan(self.channels.without(dropped), limits), dropped=dropped), False

    def _loss(self, subnet: Subnet, trial: Trial) -> float:
        """Return the loss of a slim model; each is measured once."""
        key = repr((sorted(subnet.dropped.items()), sorted(subnet.channels.items())))
        if key not in self._losses:
            self._losses[key] = trial.loss(self.channels.cut(subnet))
        return self._losses[key]

    def _order(self, limits: Sequence[Limit]) -> list[Unit]:
        """Return all units, the one first that adds least to the loss for what it saves."""
        names = tuple(limit.name for limit in limits)
        chains = [self._valued(chain, names) for chain in self._chains]
        order: list[Unit] = []
        while any(chains):
            best = min((chain for chain in chains if chain), key=lambda chain: chain[0][0])
            order.append(best.pop(0)[1])
        return order

    def _valued(self, chain: Sequence[Unit], names: Sequence[str]) -> list[tuple[float, Unit]]:
        """Return units that go one after the other, each with what it loses for what it saves."""
        found, before = [], self._known({}, names)
        for number, unit in enumerate(chain, 1):
            after = self._known(_dropped(chain[:number]), names)
            saved = sum((before[1][n] - after[1][n]) / before[1][n] for n in names)
            lost = after[0] - before[0]
            found.append((lost / saved if saved > 0 else math.inf, unit))
            before = after
        return found

    def _known(self, dropped: Dropped, names: Sequence[str]) -> tuple[float, Mapping[str, int]]:
        """Return loss and costs of a form; each is measured once."""
        key = repr((sorted(dropped.items()), sorted(names)))
        if key not in self._measured:
            assert self.trial is not None
            model = without_parts(self.channels.model, dropped)
            cost = self.channels.cost_of(model, names)
            self._measured[key] = self.trial.loss(model), cost
            _log.info("without %s: loss %.4g", _text(dropped), self._measured[key][0])
        return self._measured[key]

    @cached_property
    def _chains(self) -> list[list[Unit]]:
        """Units that go one after the other: blocks each on their own."""
        model, found = self.channels.model, list[list[Unit]]()
        counts = counts_of(model)
        if "blocks" in self.kinds:
            blocks = residual_blocks(model, self.channels.example, leaves=self.channels.leaves)
            free = [b for b in blocks if not any(fnmatchcase(b, p) for p in self.ignore)]
            found += [[Unit("blocks", (block,))] for block in free]
        if "layers" in self.kinds and counts:
            found.append([Unit("layers", (i,)) for i in range(counts["layers"] - 1, 0, -1)])
        if "queries" in self.kinds and counts:
            found.append(self._queries(model, counts["queries"]))
        return found

    def _queries(self, model: nn.Module, count: int) -> list[Unit]:
        known = None if self.trial is None else self.trial.query_scores(copy.deepcopy(model))
        order = list(range(count)) if known is None else known.argsort(stable=True).tolist()
        most = count - max(1, math.ceil(self.min_keep * count))
        ends = sorted({most * i // _STEPS for i in range(_STEPS + 1)})
        return [Unit("queries", tuple(order[low:high])) for low, high in pairwise(ends)]


def _is_past(losses: Sequence[float]) -> bool:
    """Return whether the least loss lies some forms behind."""
    return len(losses) - 1 - losses.index(min(losses)) >= _PATIENCE


def _dropped(units: Sequence[Unit]) -> Dropped:
    """Return units that are gone, by their kind; numbers rise."""
    gone: dict[str, tuple[str | int, ...]] = {}
    for unit in units:
        members = (*gone.get(unit.kind, ()), *unit.members)
        gone[unit.kind] = members if unit.kind == "blocks" else tuple(sorted(members, key=int))
    return gone


def _check(cost: Mapping[str, int], limits: Sequence[Limit]) -> None:
    for limit in limits:
        if not limit.low <= cost[limit.name] <= limit.high:
            raise BudgetError(
                f"budget {limit} cannot be met: without some of the parts that can go, the model "
                f"has {shown(cost[limit.name])} {limit.name}; let channels go, too, or widen it"
            )


def _text(dropped: Dropped) -> str:
    """Return what is dropped as logs show it."""
    texts = [
        f"{len(gone)} {kind}" if kind == "queries" else f"{kind} {', '.join(map(str, gone))}"
        for kind, gone in dropped.items()
    ]
    return " and ".join(texts) or "nothing dropped"
