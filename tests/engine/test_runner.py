"""The loop: how long, what is written when, what a resumed run repeats, how it ends."""

import errno
import itertools
import json
import math
import os
import signal

import numpy as np
import pytest
import torch

from razorlite.core import files
from razorlite.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    RunFolderError,
    TrainingError,
)
from razorlite.core.journal import Journal
from razorlite.engine import saving
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.ema import EmaConfig
from razorlite.engine.hooks import Hook
from razorlite.engine.interrupt import Interrupted
from razorlite.engine.optim import ParamOptions, ParamRule
from razorlite.engine.schedules import Poly
from razorlite.engine.steps import Step, plain_step
from razorlite.structures import Batch
from tests.engine.toys import (
    Toy,
    ToyLoader,
    assert_same,
    make_runner,
    noisy_step,
    sgd,
    weights,
)

TIMES = {"seconds", "images_per_second", "memory_mb", "eval_seconds"}
EMA = EmaConfig(decay=0.9, warmup_steps=3)


def lines(folder):
    found = Journal(folder / "metrics.jsonl").read()
    return [{k: v for k, v in line.items() if k not in TIMES} for line in found]


def distance(model):
    """An evaluation that draws random numbers and leaves the model in evaluation mode."""
    torch.rand(3)
    model.eval()
    with torch.no_grad():
        return {"score": -model(torch.ones(2, 3)).sub(3).abs().mean().item(), "other": 1}


class Killed(BaseException):
    """Stands for a kill: nothing is saved."""


class At(Hook):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def after_step(self, run, metrics):
        if run.step_number == self.step:
            self.act(run)


def kill(run):
    raise Killed


def interrupt(run):
    os.kill(os.getpid(), signal.SIGINT)


class TestLoop:
    def test_equals_a_plain_loop(self, tmp_path):
        runner = make_runner(tmp_path, optimizer=sgd, max_steps=7)
        model = Toy()
        model.load_state_dict(runner.state.model.state_dict())
        loader = ToyLoader()
        places = [divmod(i, 5) for i in range(7)]
        for epoch, index in places:
            batch = loader.batch(epoch, index)
            model.zero_grad()
            model.loss(batch.images, batch.targets)["loss_fit"].backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
        runner.run()
        assert runner.state.loader.seen == places
        assert runner.state.loader.closed == 1
        torch.testing.assert_close(runner.state.model.state_dict(), model.state_dict())

    @pytest.mark.parametrize(
        ("settings", "steps"),
        [
            ({"max_steps": 3}, 3),
            ({"max_epochs": 3}, 15),
            # 15 batches are 7 pairs; the last batch has no partner
            ({"max_epochs": 3, "accumulate": 2}, 7),
            ({"max_epochs": 1, "accumulate": 9}, 1),
        ],
    )
    def test_length(self, tmp_path, settings, steps):
        runner = make_runner(tmp_path, **settings)
        runner.run()
        assert runner.state.step_number == runner.state.total_steps == steps
        assert len(runner.state.loader.seen) == steps * settings.get("accumulate", 1)

    def test_accumulation_goes_on_over_the_end_of_an_epoch(self, tmp_path):
        runner = make_runner(tmp_path, max_epochs=3, accumulate=2, log_every=1)
        runner.run()
        assert runner.state.loader.seen == [divmod(i, 5) for i in range(14)]
        # after step 3 (6 batches) one epoch of 5 is complete, after step 5 (10 batches) two
        assert [line["epoch"] for line in lines(tmp_path)] == [0, 0, 1, 1, 2, 2, 2]

    @pytest.mark.parametrize(
        ("settings", "steps"),
        [
            ({"max_steps": 7, "eval_every": 3}, [3, 6, 7]),
            ({"max_epochs": 3, "eval_every": 2}, [10, 15]),
            ({"max_epochs": 4, "accumulate": 2, "eval_every": 2}, [5, 10]),
            ({"max_epochs": 3, "accumulate": 2, "eval_every": 1}, [3, 5, 7]),
            ({"max_steps": 4}, [4]),
        ],
    )
    def test_evaluates_at_intervals_and_at_the_end(self, tmp_path, settings, steps):
        runner = make_runner(tmp_path, evaluate=distance, **settings)
        runner.run()
        found = [line["step"] for line in lines(tmp_path) if line["kind"] == "eval"]
        assert found == steps
        assert runner.state.evaluations == len(steps)
        left = [runner.state.config.evaluations_left(step, 5) for step in range(steps[-1] + 1)]
        assert left == [sum(one > step for one in steps) for step in range(steps[-1] + 1)]

    @pytest.mark.parametrize(
        ("settings", "steps"),
        [
            ({"max_steps": 7, "save_every": 3}, [3, 6, 7]),
            ({"max_steps": 12}, [5, 10, 12]),  # an epoch's worth of batches
            ({"max_epochs": 2}, [5, 10]),
            ({"max_epochs": 3, "save_every": 2}, [10, 15]),
            ({"max_steps": 4, "eval_every": 2, "evaluate": distance}, [2, 4]),
        ],
    )
    def test_saves_at_intervals_and_at_the_end(self, tmp_path, settings, steps):
        make_runner(tmp_path, keep=9, **settings).run()
        names = sorted(p.stem for p in (tmp_path / "checkpoints").glob("step_*.pt"))
        assert names == [f"step_{step:08d}" for step in steps]
        assert read_checkpoint(tmp_path / "checkpoints/last.pt")["progress"]["step"] == steps[-1]

    @pytest.mark.parametrize(
        ("settings", "line"),
        [
            (
                {"max_epochs": 2, "eval_every": 1, "evaluate": distance},
                "training 10 steps in 2 epochs, evaluating every 1 epochs and at the end, saving "
                "every 1 epochs (an epoch is 5 batches)",
            ),
            (
                {"max_steps": 7, "eval_every": 3, "save_every": 2, "evaluate": distance},
                "training 7 steps, evaluating every 3 steps and at the end, saving every 2 steps "
                "(an epoch is 5 batches)",
            ),
            (
                {"max_steps": 1, "evaluate": distance},
                "training 1 steps, evaluating at the end, saving after every epoch (an epoch is "
                "5 batches)",
            ),
            (
                {"max_steps": 1},
                "training 1 steps, evaluating nothing, saving after every epoch (an epoch is 5 "
                "batches)",
            ),
        ],
    )
    def test_tells_the_units_of_its_intervals(self, tmp_path, caplog, settings, line):
        caplog.set_level("INFO")
        make_runner(tmp_path, **settings)._announce()
        assert caplog.messages == [line]

    def test_keeps_the_newest_checkpoints(self, tmp_path):
        make_runner(tmp_path, keep=2, save_every=2).run()
        names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
        assert names == ["last.pt", "step_00000008.pt", "step_00000010.pt"]
        assert read_checkpoint(tmp_path / "checkpoints" / names[1])["progress"]["step"] == 8

    def test_lines_are_means_since_the_last_line(self, tmp_path):
        losses = []

        def step(model, batch, backward):
            metrics = plain_step(model, batch, backward)
            losses.append(float(metrics["loss"]))
            return metrics

        make_runner(tmp_path, step=step, max_steps=5, log_every=2).run()
        found = lines(tmp_path)
        assert [line["step"] for line in found] == [2, 4, 5]
        means = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
        assert [line["loss"] for line in found] == pytest.approx(means, abs=1e-7)
        first = Journal(tmp_path / "metrics.jsonl").read()[0]
        assert first.keys() >= TIMES - {"eval_seconds"}

    def test_learning_rate_follows_the_schedule_and_the_groups(self, tmp_path):
        seen = []

        class Rates(Hook):
            def after_step(self, run, metrics):
                groups = run.update.optimizer.param_groups
                seen.append({n: g["lr"] for g in groups for n in g["names"]})

        options = ParamOptions(patterns={"last": ParamRule(lr_mult=10)})
        settings = {"schedule": Poly, "param_options": options, "hooks": [Rates()]}
        make_runner(tmp_path, optimizer=sgd, max_steps=4, **settings).run()
        assert [rates["first.weight"] for rates in seen] == pytest.approx([0.1, 0.075, 0.05, 0.025])
        assert [rates["last.weight"] for rates in seen] == pytest.approx([1.0, 0.75, 0.5, 0.25])

    def test_hooks_come_in_order(self, tmp_path):
        calls = []

        class Noted(Hook):
            def __init__(self, name):
                for event in ("start", "before_step", "after_step", "line", "saved", "end"):
                    setattr(self, event, lambda *_, e=event: calls.append(f"{name} {e}"))

        make_runner(tmp_path, max_steps=1, evaluate=distance, hooks=[Noted("a"), Noted("b")]).run()
        events = ["start", "before_step", "after_step", "saved", "line", "line", "saved", "end"]
        assert calls == [f"{name} {event}" for event in events for name in "ab"]

    def test_max_seconds_ends_the_run_and_its_schedule(self, tmp_path):
        rates = []

        class Slow(Hook):
            def after_step(self, run, metrics):
                rates.append(run.update.optimizer.param_groups[0]["lr"])
                run.seconds = 2.0 * run.step_number

        settings = {"max_steps": 1000, "max_seconds": 10.0, "schedule": Poly, "optimizer": sgd}
        runner = make_runner(tmp_path, hooks=[Slow()], evaluate=distance, **settings)
        metrics = runner.run()
        assert runner.state.step_number == 5
        assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])
        assert metrics
        assert runner.state.last.exists()

    def test_model_trains_in_training_mode_also_after_an_evaluation(self, tmp_path):
        modes = []

        def step(model, batch, backward):
            modes.append(model.training)
            return plain_step(model, batch, backward)

        model = Toy().eval()
        make_runner(tmp_path, model=model, step=step, evaluate=distance, eval_every=2).run()
        assert modes == [True] * 10

    def test_step_without_gradient_is_named(self, tmp_path):
        with pytest.raises(TrainingError, match="gave no parameter a gradient"):
            make_runner(tmp_path, step=lambda model, batch, backward: {}).run()
        frozen = Toy().requires_grad_(False)
        with pytest.raises(ConfigError, match="no parameter to train"):
            make_runner(tmp_path, model=frozen)

    def test_loader_without_batches_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="no batch"):
            make_runner(tmp_path, loader=ToyLoader(batches=0))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_epochs": 1, "max_steps": 1}, "exactly one"),
            ({"max_steps": 0}, "max_steps wants a number of at least 1, got 0"),
            ({"accumulate": 0}, "accumulate wants a number of at least 1"),
            ({"keep": -1}, "keep wants a number of at least 0"),
            ({"clip_grad_norm": -1.0}, "clip_grad_norm wants a number above 0"),
        ],
    )
    def test_wrong_settings(self, tmp_path, settings, message):
        with pytest.raises(ConfigError, match=message):
            make_runner(tmp_path, **settings)


class TestBest:
    def scores(self, values):
        left = iter(values)
        return lambda model: {"AP": next(left), "steps": 0.5}

    def test_highest_finite_score_is_kept(self, tmp_path):
        evaluate = self.scores([0.1, math.nan, 0.4, 0.4, 0.2])
        copies = {}
        noted = [At(s, lambda r: copies.update({r.step_number: weights(r.model)})) for s in (6,)]
        runner = make_runner(tmp_path, evaluate=evaluate, eval_every=2, hooks=noted)
        assert runner.run() == {"AP": 0.2, "steps": 0.5}
        best = read_checkpoint(tmp_path / "checkpoints/best.pt")
        assert best["meta"] == {"step": 6, "AP": 0.4, "steps": 0.5}
        assert_same(best["model"], copies[6])
        assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])["AP"] is None

    def test_metric_can_be_chosen(self, tmp_path):
        values = iter([{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 4.0}])
        settings = {"eval_every": 5, "best_metric": "b", "meta": {"model": "Toy"}}
        make_runner(tmp_path, evaluate=lambda model: next(values), **settings).run()
        best = read_checkpoint(tmp_path / "checkpoints/best.pt")
        assert best["meta"] == {"model": "Toy", "step": 5, "a": 1.0, "b": 5.0}

    def test_unknown_metric_is_named(self, tmp_path):
        runner = make_runner(tmp_path, evaluate=distance, best_metric="mAP")
        with pytest.raises(TrainingError, match=r"'mAP' is not among the metrics \(score, other\)"):
            runner.run()

    def test_numpy_metrics_can_be_read_back(self, tmp_path):
        make_runner(tmp_path, evaluate=lambda model: {"AP": np.float64(0.5)}).run()
        assert read_checkpoint(tmp_path / "checkpoints/best.pt")["meta"]["AP"] == 0.5

    def test_average_is_evaluated_and_shipped(self, tmp_path):
        seen = []

        def evaluate(model):
            seen.append(weights(model))
            return {"AP": 1.0}

        runner = make_runner(tmp_path, evaluate=evaluate, ema=EMA)
        runner.run()
        best = read_checkpoint(tmp_path / "checkpoints/best.pt")["model"]
        last = read_checkpoint(tmp_path / "checkpoints/last.pt")
        assert_same(best, seen[0])
        assert_same(last["model"], best)
        assert_same(last["ema"]["average"], weights(runner.state.model))
        assert not torch.equal(best["first.weight"], runner.state.model.first.weight)


FULL = {
    "max_epochs": 4,
    "accumulate": 2,
    "ema": EMA,
    "clip_grad_norm": 0.5,
    "eval_every": 1,
    "log_every": 2,
    "schedule": Poly,
    "step": noisy_step,
    "evaluate": distance,
}


def full_runner(folder, **more):
    return make_runner(folder, norm=True, **{**FULL, **more})


def everything(folder):
    """All of last.pt but times."""
    content = read_checkpoint(folder / "checkpoints/last.pt")
    progress = {k: v for k, v in content["progress"].items() if k != "seconds"}
    for part in content["ranks"]:
        part["window"].pop("seconds")
    return {**content, "progress": progress}


@pytest.fixture(scope="module")
def whole(module_path):
    """The folder of an uninterrupted run."""
    full_runner(module_path).run()
    return module_path


class TestResume:
    @pytest.mark.parametrize("at", [1, 3, 4, 7])
    @pytest.mark.parametrize("act", [kill, interrupt])
    def test_equals_uninterrupted(self, whole, tmp_path, at, act):
        # a signal stops the run after the step that comes, of which 5 and 8 end in evaluations
        with pytest.raises((Killed, Interrupted)):
            full_runner(tmp_path, hooks=[At(at, act)]).run()
        # before the first checkpoint, after step 3, only the seed brings back the start
        seed = 0 if act is kill and at <= 3 else 99
        metrics = full_runner(tmp_path, seed=seed).run(resume=True)
        assert_same(everything(tmp_path), everything(whole))
        assert lines(tmp_path) == lines(whole)
        best = [read_checkpoint(f / "checkpoints/best.pt") for f in (tmp_path, whole)]
        assert_same(*best)
        assert metrics == everything(whole)["progress"]["figures"]

    def test_killed_after_going_on_from_a_signal(self, whole, tmp_path):
        with pytest.raises(Interrupted):  # after step 5, which is logged and evaluated when resumed
            full_runner(tmp_path, hooks=[At(4, interrupt)]).run()
        with pytest.raises(Killed):
            full_runner(tmp_path, hooks=[At(6, kill)], save_every=3).run(resume=True)
        full_runner(tmp_path).run(resume=True)
        assert lines(tmp_path) == lines(whole)
        assert_same(everything(tmp_path), everything(whole))

    def test_killed_between_an_evaluation_and_its_checkpoint(self, whole, tmp_path, monkeypatch):
        runner = full_runner(tmp_path)
        save, calls = saving.save, []

        def fourth(run, **options):  # each evaluation has one before and one after it
            calls.append(1)
            if len(calls) == 4:
                raise Killed
            save(run, **options)

        monkeypatch.setattr(saving, "save", fourth)
        with pytest.raises(Killed):
            runner.run()
        assert lines(tmp_path)[-1] == {**lines(tmp_path)[-1], "kind": "eval", "step": 5}
        monkeypatch.setattr(saving, "save", save)
        full_runner(tmp_path, seed=99).run(resume=True)
        assert lines(tmp_path) == lines(whole)
        assert_same(everything(tmp_path), everything(whole))

    def test_best_score_is_remembered(self, tmp_path):
        scores = iter([0.9, 0.1])
        settings = {"eval_every": 2, "evaluate": lambda model: {"AP": next(scores)}}
        with pytest.raises(Killed):
            make_runner(tmp_path, hooks=[At(5, kill)], **settings).run()
        scores = iter([0.5, 0.6, 0.7])
        make_runner(tmp_path, **settings).run(resume=True)
        best = read_checkpoint(tmp_path / "checkpoints/best.pt")
        assert best["meta"] == {"step": 2, "AP": 0.9}

    def test_loss_scale_is_remembered(self, tmp_path):
        # losses that overflow half precision at the scaler's first scales, so that it moves
        def step(model, batch, backward):
            return plain_step(model, Batch(batch.images, batch.targets * 300), backward)

        settings = {"step": step, "amp": "fp16", "save_every": 2}
        make_runner(tmp_path / "a", **settings).run()
        with pytest.raises(Killed):
            make_runner(tmp_path / "b", hooks=[At(5, kill)], **settings).run()
        make_runner(tmp_path / "b", **settings).run(resume=True)
        assert_same(everything(tmp_path / "b"), everything(tmp_path / "a"))
        assert 0 < everything(tmp_path / "a")["update"]["scale"] < 65536

    def test_finished_run_returns_its_metrics(self, tmp_path):
        metrics = full_runner(tmp_path).run()
        before = lines(tmp_path)
        runner = full_runner(tmp_path, seed=5)
        assert runner.run(resume=True) == metrics
        assert runner.state.loader.seen == []
        assert lines(tmp_path) == before

    def test_without_a_checkpoint_it_starts(self, tmp_path):
        runner = make_runner(tmp_path)
        runner.run(resume=True)
        assert runner.state.step_number == 10

    def test_state_of_the_step_is_kept(self, tmp_path):
        class Counting(torch.nn.Module, Step):
            def __init__(self):
                super().__init__()
                self.shift = torch.nn.Parameter(torch.zeros(1))

            def forward(self, model, batch, backward):
                shifted = Batch(batch.images, batch.targets + self.shift)
                return plain_step(model, shifted, backward)

        whole = make_runner(tmp_path / "a", step=Counting())
        whole.run()
        with pytest.raises(Killed):
            make_runner(tmp_path / "b", step=Counting(), hooks=[At(7, kill)]).run()
        resumed = make_runner(tmp_path / "b", step=Counting(), seed=9)
        resumed.run(resume=True)
        assert torch.equal(resumed.state.step.shift, whole.state.step.shift)
        assert whole.state.step.shift != 0

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"model": Toy(width=5)}, r"is of another model: .* mis-shaped: first.weight \(4, 3\)"),
            ({"model": Toy(norm=True)}, "is of another model: .* missing: norm.weight"),
            ({"ema": EMA}, "was trained without ema"),
            ({"loader": ToyLoader(batches=6)}, "with 5 batches an epoch, now there are 6"),
            ({"accumulate": 2}, "with 1 batches a step, now there are 2"),
            ({"optimizer": lambda g: torch.optim.SGD(g[:1], lr=1)}, "trains other parameters"),
        ],
    )
    def test_another_run_is_refused(self, tmp_path, settings, message):
        make_runner(tmp_path).run()
        before = runner_files(tmp_path)
        with pytest.raises(CheckpointError, match=message) as caught:
            make_runner(tmp_path, **settings).run(resume=True)
        assert "\n" not in str(caught.value)
        assert runner_files(tmp_path) == before

    def test_other_data_are_refused(self, tmp_path):
        def resumed(**data):
            make_runner(tmp_path, meta={"data": data}).run(resume=True)

        make_runner(tmp_path, meta={"data": {"data.train": "a", "data.val": "b"}}).run()
        resumed(**{"data.train": "a", "data.val": "b"})
        resumed(**{"data.train": "a"})  # is evaluated no longer
        with pytest.raises(CheckpointError, match=r"other images or annotations of data\.train; "):
            resumed(**{"data.train": "c", "data.val": "b"})

    def test_weights_alone_are_refused(self, tmp_path):
        make_runner(tmp_path, evaluate=distance).run()
        (tmp_path / "checkpoints/best.pt").rename(tmp_path / "checkpoints/last.pt")
        with pytest.raises(CheckpointError, match=r"resume from last.pt, or .* load_from"):
            make_runner(tmp_path).run(resume=True)


def runner_files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestFailures:
    def run_until_broken(self, folder, spoil):
        """Train; from step 8 on `spoil(model, metrics, backward)` takes the place of a step."""

        def step(model, batch, backward):
            if len(runner.state.loader.seen) == 8:
                return spoil(model, backward)
            return plain_step(model, batch, backward)

        runner = make_runner(folder, step=step, evaluate=distance, eval_every=3, save_every=3)
        with pytest.raises(TrainingError) as caught:
            runner.run()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_nan_loss_leaves_checkpoints_alone(self, tmp_path):
        def spoil(model, backward):
            loss = model.first.weight.sum() * math.nan
            backward(loss)
            return {"loss_box": loss.item(), "loss_cls": 1.0}

        message = self.run_until_broken(tmp_path, spoil)
        last = tmp_path / "checkpoints/last.pt"
        expected = f"the loss of step 8 is not finite (loss_box); the last checkpoint is {last}; "
        assert message.startswith(expected)
        assert read_checkpoint(last)["progress"]["step"] == 6

    def test_lost_weights_are_never_saved(self, tmp_path):
        def spoil(model, backward):
            # a finite loss with a gradient that is not: d sqrt(x) at 0, times 0
            loss = ((model.first.weight * 0).sqrt() * 0).sum()
            backward(loss)
            return {"loss": loss.item()}

        message = self.run_until_broken(tmp_path, spoil)
        assert "not finite" in message
        content = read_checkpoint(tmp_path / "checkpoints/last.pt")
        assert content["progress"]["step"] == 6
        assert content["model"]["first.weight"].isfinite().all()

    def test_lost_weights_of_the_last_step_are_never_saved(self, tmp_path):
        def poison(run):
            run.model.first.weight.data[0, 0] = math.inf

        runner = make_runner(tmp_path, hooks=[At(10, poison)], evaluate=distance)
        with pytest.raises(TrainingError, match="weights are not finite after step 10"):
            runner.run()
        assert read_checkpoint(runner.state.last)["progress"]["step"] == 5

    def test_full_disk_leaves_the_last_checkpoint(self, tmp_path, monkeypatch):
        def full(run):
            def fsync(handle):
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(files.os, "fsync", fsync)

        runner = make_runner(tmp_path, hooks=[At(9, full)], log_every=100)
        with pytest.raises(RunFolderError, match=r"cannot write .*: the disk is full") as caught:
            runner.run()
        assert "\n" not in str(caught.value)
        monkeypatch.undo()
        assert read_checkpoint(runner.state.last)["progress"]["step"] == 5
        assert [p.name for p in runner.state.last.parent.iterdir()] == ["last.pt"]

    def test_hooks_are_ended_and_workers_stopped(self, tmp_path):
        ended = []

        class Ended(Hook):
            def end(self, run):
                ended.append(run.step_number)

        runner = make_runner(tmp_path, hooks=[At(3, kill), Ended()])
        with pytest.raises(Killed):
            runner.run()
        assert ended == [3]
        assert runner.state.loader.closed == 1


def test_interrupted_run_says_how_to_go_on(tmp_path):
    with pytest.raises(Interrupted) as caught:
        make_runner(tmp_path, hooks=[At(3, interrupt)]).run()
    last = tmp_path / "checkpoints/last.pt"
    assert str(caught.value) == (
        f"stopped after step 4 of 10, saved in {last}; "
        f"to go on, run the same command again with --resume"
    )


class TestFailingEvaluation:
    """An evaluation that fails loses no step: the corrected command goes on exactly."""

    def broken(self, kind):
        def evaluate(model):
            torch.rand(3)
            raise kind("an image of val cannot be read")

        return evaluate

    @pytest.mark.parametrize("kind", [DataError, RuntimeError, KeyboardInterrupt])
    def test_what_was_trained_is_kept(self, whole, tmp_path, kind):
        with pytest.raises(kind):
            full_runner(tmp_path, evaluate=self.broken(kind)).run()
        content = read_checkpoint(tmp_path / "checkpoints/last.pt")
        assert (content["progress"]["step"], content["progress"]["settled"]) == (3, False)
        full_runner(tmp_path, seed=99).run(resume=True)
        assert_same(everything(tmp_path), everything(whole))
        assert lines(tmp_path) == lines(whole)

    def test_a_misspelt_metric(self, whole, tmp_path):
        with pytest.raises(TrainingError, match="is not among the metrics"):
            full_runner(tmp_path, best_metric="scroe").run()
        full_runner(tmp_path, seed=99).run(resume=True)
        assert_same(everything(tmp_path), everything(whole))
        assert lines(tmp_path) == lines(whole)

    @pytest.mark.parametrize("moment", range(8))
    def test_killed_at_any_write(self, whole, tmp_path, monkeypatch, moment):
        # the eight writes around the first evaluation: checkpoint, two lines, best, checkpoint, ...
        calls = iter(range(moment + 1))

        def counted(work):
            def write(*args, **kwargs):
                if next(calls, None) is None:
                    raise Killed
                return work(*args, **kwargs)

            return write

        with monkeypatch.context() as patched:
            patched.setattr(Journal, "append", counted(Journal.append))
            patched.setattr(saving, "save_checkpoint", counted(saving.save_checkpoint))
            with pytest.raises(Killed):
                full_runner(tmp_path).run()
        started = (tmp_path / "checkpoints/last.pt").exists()
        full_runner(tmp_path, seed=99 if started else 0).run(resume=True)
        assert_same(everything(tmp_path), everything(whole))
        assert lines(tmp_path) == lines(whole)
        best = [read_checkpoint(f / "checkpoints/best.pt") for f in (tmp_path, whole)]
        assert_same(*best)

    @pytest.mark.parametrize("moment", [1, 2, 5, 9])
    def test_a_disk_that_becomes_full(self, whole, tmp_path, monkeypatch, moment):
        calls, sync = itertools.count(1), os.fsync

        def full(handle):
            if next(calls) > moment:
                raise OSError(errno.ENOSPC, "No space left on device")
            return sync(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(RunFolderError, match="the disk is full") as caught:
                full_runner(tmp_path).run()
        assert "\n" not in str(caught.value)
        started = (tmp_path / "checkpoints/last.pt").exists()
        full_runner(tmp_path, seed=99 if started else 0).run(resume=True)
        assert_same(everything(tmp_path), everything(whole))
        assert lines(tmp_path) == lines(whole)
