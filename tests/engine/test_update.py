"""The average of weights, clipping and accumulation, by hand."""

import math

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from razorlite.core.compute import Compute
from razorlite.core.errors import CheckpointError, ConfigError, TrainingError
from razorlite.engine.ema import Ema, EmaConfig
from razorlite.engine.steps import metrics_of, plain_step
from razorlite.engine.update import Update
from razorlite.engine.window import Window
from razorlite.structures import Batch
from tests.engine.toys import Toy, assert_same, weights


def one_weight(value=1.0):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(value)
    return layer


class TestEma:
    def average_of(self, ema, layer):
        with ema.swapped():
            return layer.weight.item()

    def test_average_by_hand(self):
        layer = one_weight(1.0)
        ema = Ema(model=layer, config=EmaConfig(decay=0.75, warmup_steps=0))
        for value in (2.0, 4.0):
            layer.weight.data.fill_(value)
            ema.update([layer.weight])
        # 1 -> 0.75 * 1 + 0.25 * 2 = 1.25 -> 0.75 * 1.25 + 0.25 * 4 = 1.9375
        assert self.average_of(ema, layer) == 1.9375
        assert layer.weight.item() == 4.0

    def test_warmup_by_hand(self):
        layer = one_weight()
        ema = Ema(model=layer, config=EmaConfig(decay=0.5, warmup_steps=2))
        assert ema.decay() == pytest.approx(0.5 * (1 - math.exp(-1 / 2)))
        ema.update([layer.weight])
        assert ema.decay() == pytest.approx(0.5 * (1 - math.exp(-2 / 2)))

    def test_only_trained_parameters_and_their_statistics_move(self):
        model = Toy(norm=True)
        ema = Ema(model=model, config=EmaConfig(decay=0.0, warmup_steps=0))
        start = weights(model)
        for tensor in model.state_dict().values():
            tensor.add_(1)
        ema.update([model.norm.weight])
        with ema.swapped():
            average = weights(model)
        moved = {name for name in start if not torch.equal(average[name], start[name])}
        # the count is no average: it is that of the model
        counts = {"norm.num_batches_tracked"}
        assert moved == {"norm.weight", "norm.running_mean", "norm.running_var"} | counts

    @pytest.mark.parametrize("frozen", [("weight",), ("bias",), ("weight", "bias"), "affine"])
    def test_statistics_follow_whatever_of_their_norm_is_frozen(self, frozen):
        norm = nn.BatchNorm1d(2, affine=frozen != "affine")
        for name in frozen if frozen != "affine" else ():
            getattr(norm, name).requires_grad_(False)
        model = nn.Sequential(nn.Linear(2, 2), norm, nn.Linear(2, 1))
        ema = Ema(model=model, config=EmaConfig(decay=0.75, warmup_steps=0))
        norm.running_mean.fill_(8.0)  # as a step in training mode leaves it
        ema.update([p for p in model.parameters() if p.requires_grad])
        with ema.swapped():
            assert norm.running_mean.tolist() == [2.0, 2.0]  # a quarter of the way from 0
            assert norm.running_var.tolist() == [1.0, 1.0]

    def test_statistics_of_a_path_that_did_not_run_stay(self):
        model = nn.ModuleList([nn.BatchNorm1d(1), nn.BatchNorm1d(1)])
        ema = Ema(model=model, config=EmaConfig(decay=0.5, warmup_steps=0))
        for norm in model:
            norm.running_mean.fill_(1.0)
        ema.update([model[0].bias])
        with ema.swapped():
            assert [norm.running_mean.item() for norm in model] == [0.5, 0.0]

    def test_swapping_twice_changes_nothing(self):
        model = Toy(norm=True)
        ema = Ema(model=model, config=EmaConfig(decay=0.5, warmup_steps=0))
        model.first.weight.data.add_(1)
        ema.update([model.first.weight])
        before = weights(model)
        with pytest.raises(ZeroDivisionError), ema.swapped():
            raise ZeroDivisionError
        assert_same(weights(model), before)

    def test_tied_weights_stay_tied(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[1].weight = model[0].weight
        ema = Ema(model=model, config=EmaConfig(decay=0.5, warmup_steps=0))
        model[0].weight.data.fill_(3.0)
        ema.update([model[0].weight])
        with ema.swapped():
            assert model[1].weight is model[0].weight
            assert not torch.equal(model[0].weight, torch.full((2, 2), 3.0))

    def test_state_of_another_model_is_refused(self):
        config = EmaConfig()
        state = Ema(model=Toy(norm=True), config=config).state_dict()
        with pytest.raises(CheckpointError, match="EMA is of another model"):
            Ema(model=Toy(), config=config).load_state_dict(state)

    @pytest.mark.parametrize("settings", [{"decay": 1.0}, {"decay": -0.1}, {"warmup_steps": -1}])
    def test_wrong_settings(self, settings):
        with pytest.raises(
            ConfigError, match=f"{next(iter(settings))} wants a number of at least 0"
        ):
            EmaConfig(**settings)


def make_update(model, *, lr=1.0, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    compute = Compute.of(torch.device("cpu"), settings.pop("amp", None))
    return Update(optimizer=optimizer, compute=compute, **settings)


def one_step(update, step, model, batches):
    metrics, images = update.gradients(step, model, iter(batches), len(batches))
    assert update.prepare(metrics, False) == (True, False)
    return {**metrics, **update.apply()}, images


class TestUpdate:
    def test_clipping_by_hand(self):
        model = nn.Sequential(one_weight(0.0), one_weight(0.0))

        def step(model, batch, backward):
            loss = model[0](batch.images[:, :1]).sum() + model[1](batch.images[:, 1:]).sum()
            backward(loss)
            return {"loss": loss.item()}

        update = make_update(model, clip_grad_norm=2.5)
        batch = Batch(torch.tensor([[3.0, 4.0]]), torch.zeros(1))
        metrics, _ = one_step(update, step, model, [batch])
        # the gradients 3 and 4 have norm 5 together and are halved
        assert metrics["grad_norm"] == 5.0
        assert [layer.weight.item() for layer in model] == pytest.approx([-1.5, -2.0])
        assert model[0].weight.grad is None

    def test_the_optimizer_walks_the_active_path_alone(self):
        walked = []

        class Noting(torch.optim.SGD):
            def step(self, closure=None):
                walked.append([id(p) for group in self.param_groups for p in group["params"]])

        def step(model, batch, backward):
            backward(model[len(walked)](batch.images).sum())
            return {}

        model = nn.Sequential(one_weight(), one_weight())
        update = Update(
            optimizer=Noting(model.parameters(), lr=0.1), compute=Compute(torch.device("cpu"))
        )
        for _ in range(2):
            one_step(update, step, model, [Batch(torch.ones(1, 1), torch.zeros(1))])
        assert walked == [[id(layer.weight)] for layer in model]

    @pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
    def test_accumulation_equals_the_joined_batch(self, amp):
        images, targets = torch.randn(6, 3), torch.randn(6)
        models = [Toy(), Toy()]
        models[1].load_state_dict(models[0].state_dict())
        parts = [Batch(images[i : i + 2], targets[i : i + 2]) for i in (0, 2, 4)]
        results = []
        for model, batches in zip(models, [parts, [Batch(images, targets)]], strict=True):
            update = make_update(model, amp=amp, clip_grad_norm=0.1)
            results.append(one_step(update, plain_step, model, batches))
        tolerance = 1e-5 if amp is None else 2e-2
        for name, value in results[0][0].items():
            assert float(value) == pytest.approx(float(results[1][0][name]), rel=tolerance)
        assert results[0][1] == results[1][1] == 6
        torch.testing.assert_close(
            models[0].state_dict(), models[1].state_dict(), rtol=tolerance, atol=tolerance
        )

    def test_several_calls_of_backward_add_up(self):
        model = one_weight(0.0)

        def step(model, batch, backward):
            for factor in (1.0, 2.0):
                backward(factor * model(batch.images).sum())
            return {}

        one_step(make_update(model), step, model, [Batch(torch.ones(1, 1), torch.zeros(1))])
        assert model.weight.item() == -3.0

    def test_half_precision_skips_a_step_that_overflows(self):
        model = one_weight(1.0)
        update = make_update(model, amp="fp16")

        def step(model, batch, backward):
            loss = model(batch.images).float().sum() * 1e38  # times the scale: infinite
            backward(loss)
            return {"loss": 1.0}

        one_step(update, step, model, [Batch(torch.ones(1, 1), torch.zeros(1))])
        assert model.weight.item() == 1.0
        assert update.state_dict()["scale"] == 32768.0

    @pytest.mark.parametrize("where", ["metric", "loss"])
    def test_losses_that_are_not_finite_are_told(self, where):
        model = one_weight()
        update = make_update(model)

        def step(model, batch, backward):
            loss = model(batch.images).sum()
            backward(loss * math.inf if where == "loss" else loss)
            return {"loss": math.nan if where == "metric" else 1.0}

        batches = iter([Batch(torch.ones(1, 1), torch.zeros(1))])
        metrics, _ = update.gradients(step, model, batches)
        assert update.prepare(metrics, True) == (False, True)

    def test_loss_without_gradient_is_told(self):
        model = one_weight()
        with pytest.raises(TrainingError, match="depends on no trainable parameter"):
            make_update(model).backward(torch.zeros(()))

    def test_only_parameters_with_a_gradient_are_averaged(self):
        model = nn.Sequential(one_weight(), one_weight())
        ema = Ema(model=model, config=EmaConfig(decay=0.5, warmup_steps=0))
        update = make_update(model, ema=ema)

        def step(model, batch, backward):
            backward(model[0](batch.images).sum())
            return {}

        model[1].weight.data.fill_(9.0)  # passive: the average must not follow
        one_step(update, step, model, [Batch(torch.ones(1, 1), torch.zeros(1))])
        with ema.swapped():
            assert [layer.weight.item() for layer in model] == [0.5, 1.0]


def test_metrics_are_named_scalars_without_gradient():
    losses = {"loss_cls": torch.tensor(1.5, requires_grad=True), "loss_box": torch.tensor(0.5)}
    found = metrics_of(losses, torch.tensor(2.0))
    assert found == {"loss": 2.0, "loss_cls": 1.5, "loss_box": 0.5}
    assert all(value.shape == () and not value.requires_grad for value in found.values())


class Waits(TorchFunctionMode):
    """Counts where a number is read from a tensor, for which a GPU would have to finish."""

    kinds = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")

    def __init__(self):
        super().__init__()
        self.count, self.reads = 0, {getattr(torch.Tensor, kind) for kind in self.kinds}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function in self.reads
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_waits_once_for_the_device_whatever_its_batches(accumulate):
    update, window = make_update(model := Toy(norm=True), clip_grad_norm=1.0), Window()
    batches = [Batch(torch.randn(4, 3), torch.randn(4)) for _ in range(accumulate)]
    with Waits() as gradients:
        metrics, images = update.gradients(plain_step, model, iter(batches), accumulate)
    with Waits() as exchange:
        assert update.prepare(metrics, stop=False) == (True, False)
    with Waits() as rest:
        window.add({**metrics, **update.apply()}, images, 1.0)
    with Waits() as line:
        means = window.means()
    assert [w.count for w in (gradients, exchange, rest, line)] == [0, 1, 0, 1]
    assert set(means) == {"loss", "loss_fit", "grad_norm"}


def test_means_over_batches_have_all_digits():
    """Float32 losses of 1 and 2**-30 have a mean that float32 cannot write."""
    values = iter([1.0, 2.0**-30])

    def step(model, batch, backward):
        backward(model(batch.images).sum())
        return metrics_of({}, torch.tensor(next(values), requires_grad=True))

    batches = [Batch(torch.ones(1, 1), torch.zeros(1))] * 2
    model = one_weight()
    metrics, _ = make_update(model).gradients(step, model, iter(batches), 2)
    assert metrics["loss"].item() == 0.5 + 2.0**-31
    window = Window()
    for _ in range(3):
        window.add(metrics, 1, 1.0)
    assert window.state_dict()["sums"] == {"loss": 1.5 + 3 * 2.0**-31}


def test_a_single_value_under_a_batch_norm_is_told():
    model = nn.BatchNorm2d(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    update = Update(optimizer=optimizer, compute=Compute(torch.device("cpu")))

    def step(model, batch, backward):
        backward(model(batch).sum())
        return {}

    with pytest.raises(TrainingError, match="a single value per channel"):
        update.gradients(step, model, iter([torch.zeros(1, 2, 1, 1)]))
