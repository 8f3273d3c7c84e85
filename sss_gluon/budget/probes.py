"""What the loss says of structures that are zero, learnt from steps in which a few of them are."""
from __future__ import annotations

from typing import Callable, Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from .holder import Holder

SEED = 20181121
EVERY = 2                   # steps; in the others the running statistics see the whole network
REMEMBERED = 20             # probes of a layer


class Probes:
    """Learns what the removal of each structure would cost.

    While λ is where γ balances the loss, its gradient is −γ for every structure, whatever that is worth. What equation
    10 compares with γ to keep a factor at zero is the resistance r = −∂L/∂λ at λ = 0. So in every second step one
    block, and one neuron or group of each layer, is zero, as in stochastic depth (Huang et al., ECCV 2016), and has its
    value back after it. Between λ, where the loss does not change any more, and 0, where it rises by r, removal costs
    about λ·r/2. Within a layer r is taken as proportional to λ: the mean over a layer's neurons is known long before
    each one's own.

    Parameters
    ----------
    holder : Holder
        Whose structures are probed: ``step`` is to be called after every step of its trainer.
    net : mxnet.gluon.HybridBlock
        The whole network. A probe begins when it, or the smaller network in its place, is called while gradients are
        recorded.
    candidates : callable
        Returns booleans, (number of structures,): those that may be probed now.

    Attributes
    ----------
    resistance : numpy.ndarray
        (number of layers,) r, a mean of the last probes.
    size : numpy.ndarray
        (number of layers,) the mean of λ in those probes.
    seen : numpy.ndarray
        (number of layers,) how often each was probed.
    """
    VECTORS: List[str] = ['resistance', 'size', 'seen']

    def __init__(self, holder: Holder, net: gluon.HybridBlock, candidates: Callable[[], np.ndarray]):
        self.holder, self.trainer, self.candidates = holder, holder.trainer, candidates
        self.resistance, self.size, self.seen = np.zeros((3, len(holder.names)))
        self._hook = net.register_forward_pre_hook(self._begin)

    def step(self) -> None:
        """Learn from the step, and be ready for the next."""
        for name, (found, values) in self.trainer.probed().items():
            layer, there = self.holder.names.index(name), ~np.isnan(found)
            if not self.trainer.overflowed:
                self.seen[layer] += 1
                part = 1 / min(self.seen[layer], REMEMBERED)
                self.resistance[layer] += part * (found[there].mean() - self.resistance[layer])
                self.size[layer] += part * (np.abs(values[there]).mean() - self.size[layer])

    def stop(self) -> None:
        """No more probes."""
        self._hook.detach()

    def states(self) -> Dict[str, np.ndarray]:
        """What a checkpoint needs."""
        return {name: getattr(self, name) for name in self.VECTORS}

    def loss(self, values: np.ndarray) -> np.ndarray:
        """What the removal of each structure costs, λ·r/2; infinite where nothing is known yet."""
        layer, slope = self.holder.layer, np.maximum(self.resistance, 0) / np.maximum(self.size, 1e-12)
        return np.where(self.seen[layer] > 0, slope[layer] * values ** 2 / 2, np.inf)

    def _begin(self, net, inputs) -> None:
        holder, candidates = self.holder, self.candidates()
        seen = self.seen[holder.layer]
        known = (seen[candidates] > 0).all()
        if known and holder.steps_done % EVERY or not autograd.is_recording() or not autograd.is_training() or \
                self.trainer.probing or any(isinstance(x, mx.sym.Symbol) for x in inputs):  # parts of a batch; a trace
            return
        draw = np.random.default_rng((SEED, holder.steps_done)).random(candidates.size) * candidates
        first = np.maximum.reduceat(draw, np.append(0, holder.ends[:-1]))
        chosen = candidates & ~holder.may_vanish & (draw == first[holder.layer])
        blocks = np.flatnonzero(candidates & holder.may_vanish)
        if blocks.size:
            chosen[blocks[np.argmin(seen[blocks] + draw[blocks])]] = True
        with autograd.pause():
            self.trainer.probe(holder.split(chosen))
