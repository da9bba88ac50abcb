"""What changes over a run, as functions of the step, so that a run that goes on needs nothing but its number."""

import math

from mechprobe.saes.training.config import SaeConfig

_COSINE_END = 0.1


def lr_at(config: SaeConfig, step: int, end: int) -> float:
    """The learning rate of a step: up, along, and down to zero at `end`.

    Args:
        step: counted from 0.
        end: the number of steps, or less where the run stops early.
    """
    rise, fall = (round(share * config.n_steps) for share in (config.lr_warm_up, config.lr_decay))
    if step < rise:
        return config.lr * (step + 1) / rise
    start = end - fall
    lr = config.lr
    if config.lr_schedule == "cosine":
        way = (min(step, start) - rise) / max(1, start - rise)
        lr *= _COSINE_END + (1 - _COSINE_END) * (1 + math.cos(math.pi * min(1.0, way))) / 2
    return lr if step < start else lr * (1 - (step - start) / max(1, fall))


def sparsity_at(config: SaeConfig, step: int) -> float:
    """The weight of the sparsity penalty at a step."""
    return config.sparsity * _way(config, step)


def k_at(config: SaeConfig, step: int) -> int:
    """How many features are kept at a step."""
    first = config.k if config.k_start is None else config.k_start
    return round(first + (config.k - first) * _way(config, step))


def _way(config: SaeConfig, step: int) -> float:
    share = config.sparsity_warm_up
    if share is None:
        share = 0.5 if config.architecture == "jumprelu" else 0.1
    rise = int(share * config.n_steps)
    return min(1.0, step / rise) if rise else 1.0
