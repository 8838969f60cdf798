"""How much a model loses where one channel group alone is cut."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from razorlite.core.files import explain_damage
from razorlite.core.journal import Journal
from razorlite.engine.run_folder import on_main
from razorlite.prune._surgery import Mask
from razorlite.prune.allocation import Ladder
from razorlite.prune.channels import Channels
from razorlite.prune.planning import Planner, by_group
from razorlite.prune.pruner import Pruner
from razorlite.prune.trial import Trial
from razorlite.space.subnet import Subnet

SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class GroupCut:
    """One group cut alone.

    Attributes:
        group: its name.
        cut: share of its units that were to go, 0 to 1.
        kept: units that stayed, as rounding allows.
        size: units that there are.
        macs: share of the whole model's MACs that went.
        params: share of its parameters that went.
        loss: of the model with this cut.
        rise: that minus the whole model's.
    """

    group: str
    cut: float
    kept: int
    size: int
    macs: float
    params: float
    loss: float
    rise: float


class Sensitivity:
    """Cuts each group of a model alone, by the scores of a pruner, and tries what that costs.

    Args:
        channels: of the model.
        pruner: scores of channels, rounding, and what stays.
        trial: losses of models.
        journal: has what was measured, and gets what will be.
        facts: what the losses depend on besides; others in the journal do not count.
    """

    def __init__(
        self,
        channels: Channels,
        pruner: Pruner,
        trial: Trial,
        *,
        journal: Journal,
        facts: str = "",
    ) -> None:
        channels.check_prunable()
        self.channels, self.trial, self._journal, self._facts = channels, trial, journal, facts
        self._ladders = _ladders(channels, pruner)
        with explain_damage(journal.path):
            self._known = {str(r["key"]): float(r["loss"]) for r in journal}

    def cuts(self, shares: Sequence[float] = SHARES) -> Iterator[GroupCut]:
        """Yield each group with each share of its units cut; what the journal has at once.

        Cuts that rounding does not tell apart, or that leave the group whole, are left out.
        """
        whole = self._loss(Subnet())
        cost = self.channels.cost.whole
        for group in self.channels.graph.prunable:
            own = [x for x in self._ladders if x.group == group.name]
            for share, kept in self._different(own, shares):
                loss = self._loss(Subnet(channels=by_group(self.channels.graph, kept)))
                left, number = self.channels.cost.of(kept), group.size - int((~kept).sum())
                macs, params = (1 - left[n] / max(cost[n], 1) for n in ("macs", "params"))
                rise = loss - whole
                yield GroupCut(group.name, share, number, group.size, macs, params, loss, rise)

    def _different(
        self, ladders: Sequence[Ladder], shares: Sequence[float]
    ) -> Iterator[tuple[float, Mask]]:
        """Yield what is kept for each share, but for what was kept before."""
        seen = {self.channels.graph.size}
        for share in shares:
            kept = self._kept(ladders, share)
            if int(kept.sum()) not in seen:
                seen.add(int(kept.sum()))
                yield share, kept

    def _kept(self, ladders: Sequence[Ladder], share: float) -> Mask:
        kept = np.ones(self.channels.graph.size, dtype=bool)
        for x in ladders:
            kept[x.units(x.rungs[x.rung((1 - share) * x.size + 1e-9)], x.size)] = False
        return kept

    def _loss(self, subnet: Subnet) -> float:
        facts = [self._facts, sorted(subnet.channels.items())]
        key = sha256(json.dumps(facts).encode()).hexdigest()[:16]
        if key not in self._known:
            self._known[key] = loss = self.trial.loss(self.channels.cut(subnet))
            on_main(lambda: self._journal.append({"key": key, "loss": loss}))
        return self._known[key]


def _ladders(channels: Channels, pruner: Pruner) -> list[Ladder]:
    goal_floors = {g.name: (1,) * len(g.blocks) for g in channels.graph.prunable}
    planner = Planner(
        scores=pruner.scores(channels),
        limits=(),
        least=goal_floors,
        round_to=pruner.number,
        allocation="global",
        ignore=pruner.ignore,
    )
    staying = planner.staying(channels.model, channels.graph, channels.example)
    return planner.ladders(channels.graph, staying)
