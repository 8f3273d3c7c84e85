"""Why no structure reached zero: the smallest factors, their gradients against γ, and what would bring them to zero.

A factor λ far from zero with mean gradient g moves by −η(γ + g)/(1 − μ) per step once its velocity has settled
(equations 10-12 with a constant gradient). It reaches zero only if γ > −g, after λ(1 − μ)/(η(γ + g)) steps.
"""
from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional

import mxnet as mx
from mxnet import autograd, gluon
from tabulate import tabulate

from ..factors import scaling_factors
from ..terminal import wrapped
from ..train.accuracy import heads
from ..train.config import TARGETS
from ..train.method import Regularizer


class Pressure(NamedTuple):
    """One entry of a factor: its value, its mean gradient, and the γ that acts on it, which includes the multiplier."""
    name: str
    value: float
    gradient: float
    gamma: float
    multiplier: float = 1.0


def mean_gradients(net: gluon.Block, loss, batches, context, scale: float = 1.0) -> Dict[str, Any]:
    """{factor name: mean gradient of the loss per image} over some batches, in training mode.

    It restores the running statistics, so the network does not change. ``scale`` is the loss scale.
    """
    frozen = [p for p in net.collect_params().values() if p.grad_req == 'null']
    before = [p.data(context).copy() for p in frozen]
    sums: Dict[str, Any] = {}
    images = 0
    for x, y in batches:
        x, y = mx.nd.array(x, ctx=context), mx.nd.array(y, ctx=context)
        with autograd.record():
            total = scale * loss(heads(net(x))[0], y).sum()
        total.backward()
        for name, _, parameter in scaling_factors(net):
            sums[name] = sums.get(name, 0) + parameter.grad(context).asnumpy()
        net.collect_params().zero_grad()    # with grad_accumulation they would add up
        images += len(y)
    for parameter, value in zip(frozen, before):
        parameter.data(context)[:] = value
    return {name: total / (images * scale) for name, total in sums.items()}


def smallest(net, gradients, gamma: float, multipliers: Dict[str, float], count: int = 5) -> List[Pressure]:
    """The ``count`` entries nearest to zero; those with multiplier 0 come last."""
    entries = [Pressure(f'{factor.name}[{i}]', float(value), float(gradients[factor.name][i]),
                        gamma * multipliers[factor.name], multipliers[factor.name])
               for factor in scaling_factors(net) for i, value in enumerate(factor.values())]
    return sorted(entries, key=lambda entry: (entry.multiplier == 0, abs(entry.value)))[:count]


def explain(entries: List[Pressure], learning_rate: float, rate_sum: float, momentum: float) -> str:
    """Explain a run that removed nothing, and advise on γ and the number of steps.

    Parameters
    ----------
    entries : list of Pressure
    learning_rate : float
        The highest rate of the run; the advice on steps assumes it.
    rate_sum : float
        Sum of the learning rate over all steps of the run. A γ larger by d would have moved a factor further by
        d·rate_sum/(1 − μ) if the gradients had been the same. They resist more as a factor shrinks, so the γ given is
        a lower bound.
    momentum : float
    """
    rows, needed, steps = [], [], []
    for name, value, gradient, gamma, multiplier in entries:
        force = gamma + (gradient if value > 0 else -gradient)
        more = abs(value) * (1 - momentum) / (learning_rate * force) if force > 0 and learning_rate > 0 else None
        possible = rate_sum > 0 and multiplier > 0
        enough = (gamma + abs(value) * (1 - momentum) / rate_sum) / multiplier if possible else float('inf')
        rows.append([name, f'{value:.4f}', f'{gradient:+.2e}', f'{gamma:.2e}',
                     'never' if more is None else f'{more:,.0f}', f'{_rounded_up(enough):.2g}'])
        needed.append(_rounded_up(enough))
        steps.append(more)
    headers = ['smallest factors', 'value', 'gradient', 'γ', f'steps to 0\nat rate {learning_rate:g}',
               'least γ to reach\n0 in this run']
    table = tabulate(rows, headers=headers, disable_numparse=True)
    advice = f'try gamma={min(needed):.2g} or more' if needed else 'the network has no factors'
    reachable = [s for s in steps if s is not None]
    if reachable:
        advice += f', or about {min(reachable):,.0f} more steps at learning rate {learning_rate:g}'
    return (f'No factor reached zero, so there is nothing to remove.\n{table}\n'
            + wrapped(f'A factor shrinks only if γ exceeds minus its gradient; {advice}.'))


def explain_collapse(collapsed: str, setting: str, value: float) -> str:
    """Advise on a run of which too much is gone.

    Half of its strength, as that acts within a factor of 2 to 4; twice the share that a budget asked for, or halfway
    to the whole network.
    """
    more = min(2 * value, (1 + value) / 2) if setting in TARGETS else value / 2
    advice = '; or let sss-gluon find-gamma look for it, or ask for a size: target_macs=0.5' * (setting == 'gamma')
    return f'warning: {collapsed}, so this network is of little use: try {setting}={more:.2g}{advice}'


def explain_penalty(regularizer: Regularizer, method: str, strength: float, training) -> Optional[str]:
    """Advise on the strength of a penalty that drove no structure to zero, or too many; None otherwise."""
    if training.metrics.collapsed:
        return explain_collapse(training.metrics.collapsed, 'method_options.strength', strength)
    least = min(float(values.min()) for values in regularizer.values().values())
    return f'{method}: no structure reached zero, the smallest value is {least:.2g}; raise strength, now ' \
           f'{strength:g}, or train longer' if least else None


def _rounded_up(number: float) -> float:
    """Round up to two digits: 0.101 becomes 0.11."""
    if not 0 < number < float('inf'):
        return number
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit - 1e-9) * unit
