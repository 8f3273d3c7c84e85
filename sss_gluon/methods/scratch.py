"""Training the compact network from scratch: is it the weights, or the structure?

Equation    None: the structure of a pruned run, every layer newly initialised for its own fan-in. ``budget: epochs``
            (E) trains as many epochs as are set; ``budget: compute`` (B) so many more that the MACs spent are the
            same, epochs · MACs before / MACs after, at most twice as many.
Source      Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 3, which does so for this
            paper's networks.
Differs     Schedules are stretched alike: steps and warm-up in proportion, a cosine by itself.
"""
from __future__ import annotations

from dataclasses import replace

from ..train.config import Config
from .method import PruningMethod

MOST = 2.0


def stretched(config: Config, macs_before: int, macs_after: int) -> Config:
    """The configuration with as many epochs as the same compute allows."""
    factor = min(MOST, macs_before / macs_after)
    return replace(config, epochs=round(config.epochs * factor), warmup_epochs=config.warmup_epochs * factor,
                   lr_decay_epochs=[round(epoch * factor) for epoch in config.lr_decay_epochs])


METHOD = PruningMethod('scratch', (), dict(budget='epochs'))
