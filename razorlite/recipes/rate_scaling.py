"""`train.lr_batch_size`: a learning rate that goes with the number of images in a step."""

from typing import Any

from razorlite.core import config as core_config
from razorlite.core.config import Config
from razorlite.core.ranks import together

_BLOCKS = ("train", "prune.before.train")


def scaled_rate(config: Config) -> Config:
    """Return a configuration whose learning rate is for the images that its steps have.

    `train.optimizer.lr` is for `train.lr_batch_size` images a step and goes with the number there
    is: batch size times accumulated batches times processes. Scaled, the rate is for that number.
    The training before a pruning has a `train` block of its own.
    Accurate, large minibatch SGD, https://arxiv.org/abs/1706.02677, section 2.1.

    Args:
        config: one whose batch size is a number; any other is returned as it is.
    """
    for block in _BLOCKS:
        config = _scaled(config, block)
    return config


def _scaled(config: Config, block: str) -> Config:
    rate_key, base_key = f"{block}.optimizer.lr", f"{block}.lr_batch_size"
    base, size, rate = config.get(base_key), _batch_size(config), config.get(rate_key)
    if not all(_is_positive(value) for value in (base, size, rate)):
        return config
    images = size * (config.get(f"{block}.accumulate") or 1) * together()
    if images == base:
        return config
    return core_config.load(config, {rate_key: rate * images / base, base_key: images})


def _batch_size(config: Config) -> Any:
    if config.get("data.train") is None:
        return config.get("distiller.synthetic.batch_size")
    return config.get("data.train.batch_size", 8)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
