"""Sparse structure selection (SSS): trains scaling factors by accelerated proximal gradient and removes the zeros.

Equation    (1/N) Σ L(y_i, C(x_i; W, λ)) + R(W) + γ‖λ‖₁; equations 10 to 12 update λ (apg.py).
Source      Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, section 3.
Differs     - Factors are folded into the parameters that produce the structure (factors.py); the function is the same.
            - λ is projected to λ ≥ 0 after equation 12, as in the authors' code (``non_negative``).
"""
from __future__ import annotations

from typing import Optional

from ..factors import factor_values, scaling_factors
from ..train.method import Regularizer
from ..train.schedules import learning_rates
from . import diagnosis
from .method import PruningMethod

BATCHES = 20        # the diagnosis averages gradients over these


class ScalingFactors(Regularizer):
    """Reads the factors, which the optimizer trains (``make_trainer``), and explains why none is zero, or all."""

    def __init__(self, net, input_shape, options):
        self.net, self.factors = net, scaling_factors(net)

    def values(self):
        return factor_values(self.net)

    def explain(self, training) -> Optional[str]:
        if training.metrics.collapsed:
            return diagnosis.explain_collapse(training.metrics.collapsed, 'gamma', training.config.gamma)
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


METHOD = PruningMethod('sss', (), regularizer=ScalingFactors, trains_factors=True)
