"""From losses to new weights: precision, accumulation, exchange, clipping, optimiser, EMA."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from razorlite.core.compute import Compute, full_precision
from razorlite.core.errors import TrainingError
from razorlite.engine.config import TrainConfig
from razorlite.engine.ema import Ema
from razorlite.engine.exchange import agree, average_gradients
from razorlite.engine.optim import ActiveGroups, build_optimizer, parameters_of_step
from razorlite.engine.steps import Metrics, Step


@contextmanager
def _single_values_told() -> Iterator[None]:
    """Say what to do where a batch norm sees one value per channel, which has no deviation."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"a batch norm sees a single value per channel ({error}): use larger batches by "
            f"data.train.batch_size, larger images, or another norm"
        ) from error


class Update:
    """One optimiser step: `gradients` of some batches, then `prepare` and `apply`.

    Exchange, clipping, the optimiser and the EMA touch only parameters that have a gradient.

    Args:
        optimizer: what moves the weights.
        compute: where the model is, and its precision.
        clip_grad_norm: largest norm of all gradients together; None for no limit.
        ema: an average to move along.
    """

    def __init__(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        compute: Compute,
        clip_grad_norm: float | None = None,
        ema: Ema | None = None,
    ) -> None:
        self.optimizer, self.ema = optimizer, ema
        self.compute, self.device, self._clip = compute, compute.device, clip_grad_norm
        scaled = compute.dtype == torch.float16  # bfloat16 has the exponents of float32
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self._groups = ActiveGroups(optimizer)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._divisor = 1
        self._losses: list[Tensor] = []

    def gradients(
        self, step: Step, model: nn.Module, batches: Iterator[Any], count: int = 1
    ) -> tuple[dict[str, Tensor | float], int]:
        """Add up the gradients of `count` batches, so that they are those of the mean loss.

        Nothing is read from the device.

        Raises:
            TrainingError: a batch norm sees a single value per channel.

        Returns:
            The training step's metrics, means over the batches (tensors as 0-dim float64), and the
            number of images.
        """
        self._divisor, self._losses = count, []
        means: dict[str, Tensor | float] = {}
        images = 0
        for _ in range(count):
            batch = next(batches)
            images += len(batch)
            with self.compute.autocast(), _single_values_told():
                metrics = step(model, batch, self.backward)
            for name, value in metrics.items():
                means[name] = means.get(name, 0.0) + self._exact(value) / count
        return means, images

    @property
    def loss(self) -> Tensor:
        """What the gradients are of: the losses of the batches, of each the sum; 0-dim float32."""
        return torch.stack(self._losses).sum() / self._divisor

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a 0-dim loss.

        Raises:
            TrainingError: nothing that requires a gradient has led to the loss.
        """
        if not loss.requires_grad:
            raise TrainingError("the loss depends on no trainable parameter; unfreeze some")
        self._losses.append(loss.detach().float())
        loss = loss / self._divisor if self._divisor > 1 else loss
        with full_precision(self.device):
            self._scaler.scale(loss).backward()

    def prepare(self, metrics: Metrics, stop: bool) -> tuple[bool, bool]:
        """Exchange gradients; the one place where a step waits for the device.

        Args:
            metrics: what `gradients` returned.
            stop: whether this process was asked to stop.

        Returns:
            Whether all losses are finite, and whether any process was asked to stop; the same on
            all ranks.

        Raises:
            TrainingError: no parameter has a gradient.
        """
        finite = _all_finite([*self._losses, *metrics.values()])
        self._active, (bad, stop) = agree(self._parameters, [not finite, stop])
        if not self._active:
            raise TrainingError("the training step gave no parameter a gradient; call backward")
        if not bad:
            average_gradients(self._active)
        return not bad, stop

    def apply(self) -> dict[str, Tensor]:
        """Move the weights and drop the gradients.

        Returns:
            `grad_norm` before clipping, where there is clipping; still on the device.
        """
        with self._groups.only(self._active):
            metrics = self._clip_gradients()
            self._scaler.step(self.optimizer)
            self._scaler.update()
        for parameter in self._active:
            parameter.grad = None
        if self.ema is not None:
            self.ema.update(self._active)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss scale."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the loss scale; a state without one leaves it at its start."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(state))

    def _exact(self, value: Tensor | float) -> Tensor | float:
        """Return a metric with the digits that sums of many need."""
        if isinstance(value, Tensor):
            return value.detach().to(self.device, torch.float64)
        return value

    def _clip_gradients(self) -> dict[str, Tensor]:
        if self._clip is None:
            return {}
        self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._active, self._clip)
        return {"grad_norm": norm.detach().double()}


def build_update(
    model: nn.Module, config: TrainConfig, step: Step, ema: Ema | None = None
) -> Update:
    """Return what moves the weights of a model, and of a step, as a configuration says.

    Args:
        model: on its device.
        config: how to train.
        step: whose parameters are trained as well.
        ema: an average to move along.

    Raises:
        ConfigError: no parameter can be trained, or an option names none.
    """
    options, extra = config.param_options, parameters_of_step(step)
    return Update(
        optimizer=build_optimizer(config.optimizer, model, options=options, extra=extra),
        compute=config.compute(next(model.parameters()).device),
        clip_grad_norm=config.clip_grad_norm,
        ema=ema,
    )


def _all_finite(values: Sequence[Tensor | float]) -> bool:
    """Return whether all are finite; tensors, 0-dim on one device, are read at once."""
    tensors = [value.double() for value in values if isinstance(value, Tensor)]
    numbers = [value for value in values if not isinstance(value, Tensor)]
    if not all(map(math.isfinite, numbers)):
        return False
    return not tensors or bool(torch.stack(tensors).isfinite().all())
