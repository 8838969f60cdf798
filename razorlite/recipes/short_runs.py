"""A configuration trained for a few steps alone."""

from typing import Any

from razorlite.core.config import Config

_SAVES = 5  # checkpoints of one training


def shortened(config: Config, steps: int) -> dict[str, Any]:
    """Return overrides under which a configuration is trained for so many steps."""
    changed: dict[str, Any] = {
        "train.max_epochs": None,
        "train.max_steps": steps,
        "train.eval_every": None,
        "train.patience": None,
        "train.save_every": max(1, steps // _SAVES),
    }
    if config.get("data.train.last_epochs") is not None:
        changed["data.train.last_epochs"] = None
    warmup = config.get("train.schedule.warmup_steps")
    if isinstance(warmup, int) and warmup > steps // 4:
        changed["train.schedule.warmup_steps"] = steps // 4
    if config.get("train.schedule.unit") == "step":
        late = config.get("train.schedule.milestones") or []
        changed["train.schedule.milestones"] = [m for m in late if m < steps]
    return changed


def taught_at_once(config: Config) -> dict[str, Any]:
    """Return overrides under which a teacher teaches from the first step to the last."""
    if config.get("distiller") is None:
        return {}
    spans = {"start_step": 0, "stop_step": None, "warmup_steps": 0, "cooldown_steps": 0}
    return {f"distiller.{name}": span for name, span in spans.items()}
