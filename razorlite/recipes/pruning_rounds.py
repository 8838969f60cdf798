"""What pruning does in its rounds, each of which can be gone on with."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from razorlite.core.config import Config, load
from razorlite.core.distributed import broadcast_object, rank
from razorlite.core.errors import RunFolderError
from razorlite.core.files import make_folder
from razorlite.core.journal import Journal
from razorlite.core.streams import results
from razorlite.cost import Cost, count
from razorlite.engine.checkpoint import load_weights
from razorlite.engine.checkpoint_io import read_checkpoint, save_checkpoint
from razorlite.engine.random_state import seed_everything
from razorlite.engine.run_folder import on_main, write_config
from razorlite.prune import Channels, Goal, PruneConfig, Pruner, Stopwatch, Trial
from razorlite.prune.stopwatch import paired_text
from razorlite.recipes.building import Built, build, channels_left
from razorlite.recipes.card import ModelCard
from razorlite.recipes.expanding import expanded_for
from razorlite.recipes.paths import portable
from razorlite.recipes.pruning_before import claim, train_before
from razorlite.recipes.pruning_check import check_before, check_parts
from razorlite.recipes.pruning_scores import gathered, trial_of
from razorlite.recipes.scored import weights_digest
from razorlite.recipes.splits import Splits
from razorlite.recipes.timing import stopwatch_of
from razorlite.recipes.training import build_runner, describe, draw, run_taught
from razorlite.space import Subnet
from razorlite.visual import plot_channels


@dataclass(frozen=True)
class Round:
    """One round: pruned once, fine-tuned once.

    Attributes:
        number: from 1 on.
        folder: its run folder.
        goal: what it prunes to.
    """

    number: int
    folder: Path
    goal: Goal

    @property
    def subnet(self) -> Path:
        """What is kept of the whole model."""
        return self.folder / "subnet.yaml"

    @property
    def start(self) -> Path:
        """The slim weights that fine-tuning starts from; written after `subnet`."""
        return self.folder / "checkpoints" / "start.pt"

    @property
    def last(self) -> Path:
        """The weights that the round ends with."""
        return self.folder / "checkpoints" / "last.pt"


@dataclass(frozen=True, kw_only=True)
class PruningJob:
    """One run of the command.

    Every round starts from files: what a round has written is read back, whether the run was
    interrupted or not, so that both end with the same weights.

    Attributes:
        config: the merged configuration, its recipe of distillation as it was written: what it
            comes to depends on the channels that each round leaves.
        settings: its `prune` block.
        built: the model to prune, with its weights.
        splits: images, and the device to train on.
        source: what the checkpoint says of its model.
        folder: run folder.
        resume: go on with what is there.
    """

    config: Config
    settings: PruneConfig
    built: Built
    splits: Splits
    source: ModelCard
    folder: Path
    resume: bool

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds; the last one's folder is the run folder itself."""
        goal, total = self._pruner().goal(self._channels), self._total
        places = [self.folder / f"round_{number}" for number in range(1, total)]
        return [
            Round(number, place, goal.of_round(number, total))
            for number, place in enumerate([*places, self.folder], 1)
        ]

    @cached_property
    def _plan(self) -> Subnet:
        """What the first round keeps of the model that was handed in."""
        return self._plan_of(self._first_pruner, self._channels, self.rounds[0])

    @cached_property
    def _first_pruner(self) -> Pruner:
        """A pruner that knows how much the channels of that model matter."""
        return gathered(self._pruner(), self._channels, self.splits)

    def check(self) -> None:
        """Find out what cannot be done before anything is written.

        Raises:
            BudgetError: the budget cannot be met.
            RunFolderError: the run to go on with has pruned other weights, or otherwise.
        """
        check_parts(self.settings, self._channels, self.built)
        started = broadcast_object(self.resume and self.rounds[0].start.exists())
        if started:
            self._check_same(self.rounds[0])
        elif self.settings.before is not None:
            check_before(self.settings, self._channels, self._stopwatch)
        elif self._plan and self._total > 1:
            self._plan_of(self._first_pruner, self._channels, self.rounds[-1])

    def is_finished(self) -> bool:
        """Return whether the run folder holds the end of this pruning."""
        last = self.rounds[-1]
        return last.start.exists() and "checkpoint" in Subnet.load(last.subnet).origin

    def run(self, checkpoint: str) -> Subnet:
        """Do all rounds, or those that are left, and return what is kept of the model.

        Args:
            checkpoint: what to name as the origin of the weights.
        """
        kept, channels = self._handed_in, self._channels
        whole, scores = count(channels.model, channels.example), dict[str, float]()
        self.write_times()
        for one in self.rounds:
            if not broadcast_object(self.resume and one.start.exists()):
                plan = self._plan_before() if one.number == 1 else self._plan_later(channels, one)
                self._shrink(one, channels, kept, whole, plan)
            kept = Subnet.load(one.subnet)
            built = build(self.splits.experiment, one.subnet, self._whole.graph)
            load_weights(built.model, one.start)
            scores = self._tune(one, built)
            built.model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            load_weights(built.model, one.last)
            channels = self._whole.slim_channels(built.model, kept)
        scores = _scores_of(self.rounds[-1], scores)
        origin = {**kept.origin, "checkpoint": checkpoint}
        kept = kept.with_results(scores=scores, origin=origin)
        on_main(lambda: kept.save(self.rounds[-1].subnet))
        return kept

    @property
    def has_measured(self) -> bool:
        """Whether there are times that took a while to measure."""
        return self._stopwatch.has_measured

    def write_times(self) -> None:
        """Write down what was measured so far, and from now on each measurement."""
        on_main(self._write_times)

    @property
    def _whole(self) -> Channels:
        """The channels before any were dropped; read once."""
        return self.built.channels or self._channels

    @cached_property
    def _channels(self) -> Channels:
        """The channels of the model that was handed in, which may be slim."""
        return channels_left(self.built, self.splits.experiment)

    @property
    def _total(self) -> int:
        return self.settings.rounds

    @property
    def _handed_in(self) -> Subnet:
        return self.built.subnet or Subnet()

    def _plan_of(self, pruner: Pruner, channels: Channels, one: Round) -> Subnet:
        return broadcast_object(pruner.plan(channels, goal=one.goal))

    def _plan_later(self, channels: Channels, one: Round) -> Subnet:
        pruner = gathered(self._pruner(), channels, self.splits)
        return self._plan_of(pruner, channels, one)

    def _pruner(self) -> Pruner:
        return self.settings.pruner(self._stopwatch, self._trial)

    @cached_property
    def _trial(self) -> Trial | None:
        return trial_of(self.splits, self.settings.batches) if self.settings.tries else None

    @cached_property
    def _stopwatch(self) -> Stopwatch:
        """Times slim models beside the one that was handed in; a resumed run knows the times."""
        model = copy.deepcopy(self.built.model)
        found = stopwatch_of(self.splits.experiment, model, self.settings.latency)
        if self.resume:
            found.remember(self._times)
        return found

    @property
    def _times(self) -> Journal:
        return Journal(self.folder / "latency.jsonl")

    def _write_times(self) -> None:
        if not self.resume:  # those of a run that was given up
            self._times.path.unlink(missing_ok=True)
        self._stopwatch.write_to(self._times)

    def _plan_before(self) -> Subnet:
        """Return the first plan, after the training of the whole model if there is one."""
        if self.settings.before is None:
            return self._plan
        folder, digest = self.folder / "before", self._digest  # of the weights as they came
        claim(folder, digest, resume=self.resume)
        classes = self.splits.classes
        found = train_before(
            self.settings,
            self.built,
            self._channels,
            lambda: self._pruner().goal(self._channels),
            splits=self.splits,
            folder=folder,
            card=describe(self.config, self.splits.experiment, self.built, classes),
            resume=self.resume,
        )
        return self._plan if found is None else found

    def _shrink(
        self, one: Round, channels: Channels, kept: Subnet, whole: Cost, plan: Subnet
    ) -> None:
        """Prune once more, and write what is kept and the slim weights."""
        weights = channels.slim_weights(plan)
        both = self._whole.composed(kept, plan) if kept.is_pruned else plan
        origin: dict[str, Any] = {"made_by": "prune", "plan": self._digest}
        known: dict[str, Mapping[str, Any]] = {"groups": both.origin, "latency": plan.origin}
        known["round_to"] = plan.origin
        origin |= {name: where[name] for name, where in known.items() if name in where}
        origin |= {"reach": self._channels.reach, "left": self._channels.report()["left"]}
        subnet = replace(
            both,
            choices=kept.choices,
            fingerprint=kept.fingerprint,
            origin=origin,
        )
        before = {g.name: g.size for g in self._channels.graph.groups}
        content = {
            "model": weights,
            "meta": self._card(self._final(one), self.built, subnet).to_meta(),
        }
        on_main(lambda: _write(one, subnet, content, before))
        round_of = f"round {one.number} of {self._total}: " if self._total > 1 else ""
        results.info("%spruned %s", round_of, _change(vars(whole), subnet.cost))
        results.info("latency %s", paired_text(self._stopwatch.record(channels.cut(plan))))

    def _tune(self, one: Round, built: Built) -> dict[str, float]:
        """Fine-tune as the `train` block says, or save the slim model as it is."""
        assert built.subnet is not None
        final, distiller = expanded_for(self._final(one), built.model)
        write_config(one.folder, portable(final, one.folder).dump())
        card = self._card(final, built, built.subnet)
        if self.splits.experiment.train is None:
            content = {"model": built.model.state_dict(), "meta": card.to_meta()}
            on_main(lambda: save_checkpoint(one.last, content))
            return {}
        seed_everything(self.splits.experiment.seed + one.number - 1, rank())
        experiment = replace(self.splits.experiment, distiller=distiller)
        runner = build_runner(experiment, built, self.splits, one.folder, card)
        metrics = run_taught(runner, built, self.splits, resume=self.resume)
        with runner.state.averaged():
            draw(built, self.splits, one.folder)
        return metrics

    def _final(self, one: Round) -> Config:
        """Return the configuration of the slim model."""
        return load(self.config, {"subnet": str(one.subnet), "load_from": str(one.start)})

    def _card(self, config: Config, built: Built, subnet: Subnet) -> ModelCard:
        experiment = self.splits.experiment
        card = describe(config, experiment, built, self.source.classes)
        card = replace(card, subnet=subnet)
        if experiment.data is None:
            return replace(card, preprocess=self.source.preprocess)
        return card if experiment.train is None else replace(card, classes=self.splits.classes)

    @cached_property
    def _digest(self) -> str:
        """A short name for what is pruned and how: a resumed run must have the same."""
        shape = list(self.splits.experiment.shape)
        facts = [weights_digest(self.built.model), self.config.get("prune"), shape]
        return sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _check_same(self, one: Round) -> None:
        if Subnet.load(one.subnet).origin.get("plan") != self._digest:
            raise RunFolderError(
                f"{self.folder} holds a pruning of other weights or by another `prune` block or "
                "`shape`; go on with the same command, or choose another folder by --work-dir"
            )


def _write(
    one: Round, subnet: Subnet, content: Mapping[str, object], before: Mapping[str, int]
) -> None:
    """Write the subnet file, a picture of what is kept of each group, and the slim weights."""
    make_folder(one.start.parent)
    subnet.save(one.subnet)
    counts = {name: len(kept) for name, kept in subnet.channels.items()}
    sizes = {name: before.get(name, number) for name, number in counts.items()}
    if counts:
        plot_channels(sizes, counts, one.folder / "pictures" / "channels.png")
    save_checkpoint(one.start, content)


def _scores_of(one: Round, last: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of the weights that a run folder stands for: best.pt, else last.pt."""
    best = one.last.with_name("best.pt")
    known = read_checkpoint(best)["meta"] if best.is_file() else last
    return {name: known[name] for name in last if name in known}


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    texts = [
        f"from {before[name] / 1e6:.2f} to {after[name] / 1e6:.2f} M {what} "
        f"({after[name] / before[name]:.0%})"
        for name, what in (("macs", "MACs"), ("params", "parameters"))
    ]
    return ", ".join(texts)
