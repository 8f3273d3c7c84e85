"""Sparse structure selection (SSS): trains scaling factors by accelerated proximal gradient and removes the zeros.

Equation    (1/N) Σ L(y_i, C(x_i; W, λ)) + R(W) + γ‖λ‖₁; equations 10 to 12 update λ (apg.py).
Source      Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, section 3.
Differs     - Factors are folded into the parameters that produce the structure (factors.py); the function is the same.
            - λ is projected to λ ≥ 0 after equation 12, as in the authors' code (``non_negative``).
            - Only where asked for: with a target, γ is steered until the network meets it; with a target or ``shrink``,
              zeros are held and cut out while the network trains (budget/).
"""
from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from ..budget import Budget, Holder, LatencyShare, Patience
from ..errors import SSSError
from ..factors import factor_values, scaling_factors
from ..structures import MaskedCounter
from ..terminal import wrapped
from ..train.config import TARGETS
from ..train.method import Regularizer
from ..train.schedules import learning_rates
from . import diagnosis
from .method import PruningMethod
from .selection import budget

BATCHES = 20        # the diagnosis averages gradients over these


class ScalingFactors(Regularizer):
    """Reads the factors, which the optimizer trains (``make_trainer``), steers or holds them where asked to, and
    explains why none is zero, or all."""

    def __init__(self, net, input_shape, options):
        self.net, self.factors = net, scaling_factors(net)
        self.holder: Optional[Holder] = None

    def start(self, training) -> None:
        self.training, self.holder = training, _holder(training)
        self.shrinks = training.config.shrink is not False
        if self.holder and self.shrinks:
            training.shrink({})     # what cannot be cut is refused before the first step

    def values(self):
        return factor_values(self.net)

    def acted(self, since: int) -> bool:
        fixed = isinstance(self.holder, Budget) and self.holder.met and self.holder.steps_done <= since
        return bool(self.factors) and not fixed

    def after_update(self, learning_rate: float) -> None:
        if self.holder and not self.holder.done:
            self.holder.step()
            if self.holder.done:
                self.training.log(wrapped(self.holder.summary()))

    def columns(self) -> Dict[str, str]:
        return self.holder.columns() if self.holder else {}

    def left(self) -> str:
        if not isinstance(self.holder, Budget) or self.holder.what == 'MACs':
            return ''
        return f'{self.holder.share:.1%} {self.holder.what.replace("parameters", "params")}'

    def to_remove(self) -> Optional[Dict[str, np.ndarray]]:
        return self.holder.to_remove() if self.holder and self.shrinks else None

    def states(self) -> Dict[str, np.ndarray]:
        return self.holder.states() if self.holder else {}

    def set_states(self, states: Dict[str, np.ndarray], source: str) -> None:
        if self.holder:
            self.holder.set_states(states, source)

    def explain(self, training) -> Optional[str]:
        if training.metrics.collapsed:
            setting, value = 'gamma', training.config.gamma
            if isinstance(self.holder, Budget):
                given = [key for key in TARGETS if getattr(training.config, key) is not None]
                setting, value = given[0].replace('match', 'target_macs'), self.holder.target
            return diagnosis.explain_collapse(training.metrics.collapsed, setting, value)
        if isinstance(self.holder, Budget):
            return None if self.holder.met else self.holder.summary()
        if not self.factors or not all((factor.values() != 0).all() for factor in self.factors):
            return None
        if not training.config.gamma:
            return 'gamma=0: nothing drives a factor to zero, so there is nothing to remove'
        config, trainer, steps = training.config, training.trainer, len(training.batches)
        batches = training.batches.epoch(config.epochs)
        few = [next(batches) for _ in range(min(BATCHES, steps))]
        batches.close()
        gradients = diagnosis.mean_gradients(self.net, training.loss, few, training.devices[0], trainer.loss_scale)
        entries = diagnosis.smallest(self.net, gradients, config.gamma, trainer.gamma_multipliers)
        rates = learning_rates(config, steps)
        return diagnosis.explain(entries, max(rates), sum(rates), config.momentum)


def _holder(training) -> Optional[Holder]:
    """What holds structures at zero in a run, if it has a target or shrinks."""
    config, net, shape = training.config, training.network.whole, training.input_shape
    trainer, steps = training.trainer, len(training.batches)
    macs = budget(config)
    search, wait = max(1, round(config.search * config.epochs * steps)), round(config.warmup_epochs * steps)
    if macs is not None:
        return Budget(net, trainer, shape, macs, search, wait=wait)
    if config.target_params is not None:
        counter = MaskedCounter(net, shape, weights='nonzero')
        return Budget(net, trainer, shape, config.target_params, search,
                      lambda masks: counter.share(masks).params, 'parameters', wait)
    if config.target_latency is not None:
        latency = LatencyShare(net, shape, config.latency_batch, training.devices[0])

        def measured(masks) -> float:       # the first worker decides for all
            found = latency(masks) if training.workers.chief else 0.0       # the others leave it the machine
            return float(training.workers.allgather('latency', np.array([found]))[0][0])
        return Budget(net, trainer, shape, config.target_latency, search, measured, 'latency', wait)
    if not config.shrink:
        return None
    patience = config.patience or steps
    if patience >= config.epochs * steps:
        raise SSSError(f'patience={patience} is not shorter than the run, which has {config.epochs * steps} steps; '
                       f'nothing would ever be held at zero')
    return Patience(net, trainer, shape, patience)


METHOD = PruningMethod('sss', (), regularizer=ScalingFactors, trains_factors=True, title='SSS')
