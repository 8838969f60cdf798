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
    return changed
