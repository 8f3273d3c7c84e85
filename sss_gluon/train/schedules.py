"""Learning-rate schedules, evaluated at every iteration, built from MXNet's own scheduler classes."""
from __future__ import annotations

from typing import List, Optional

from mxnet import lr_scheduler

from .config import Config, decay_epochs


def make_schedule(config: Config, steps_per_epoch: int) -> Optional[lr_scheduler.LRScheduler]:
    """The learning-rate schedule of a configuration, or None for a constant rate.

    A schedule maps the number of an update, counted from 1, to a learning rate. ``step`` multiplies the rate by
    ``lr_decay`` after each of ``lr_decay_epochs``, which are epochs or, below 1, shares of all epochs; ``cosine``
    lowers it to 0 over all iterations. Warm-up rises linearly from 0 and counts towards the epochs.
    """
    warmup = int(round(config.warmup_epochs * steps_per_epoch))
    common = dict(base_lr=config.learning_rate, warmup_steps=warmup, warmup_begin_lr=0)
    if config.lr_mode == 'cosine':
        return lr_scheduler.CosineScheduler(max_update=config.epochs * steps_per_epoch, **common)
    steps: List[int] = []
    for epoch in decay_epochs(config) if config.lr_mode == 'step' else ():
        steps.append(max(round(epoch * steps_per_epoch), steps[-1] + 1 if steps else 1))   # MXNet wants them to rise
    if not steps and not warmup:
        return None
    never = 2 ** 62
    return lr_scheduler.MultiFactorScheduler(step=steps or [never], factor=config.lr_decay, **common)


def learning_rates(config: Config, steps_per_epoch: int) -> List[float]:
    """The learning rate of every update of a run."""
    schedule = make_schedule(config, steps_per_epoch)       # a new one, because schedulers only run forwards
    return [schedule(update) if schedule else config.learning_rate
            for update in range(1, steps_per_epoch * config.epochs + 1)]
