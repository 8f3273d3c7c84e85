"""What the loss says of structures that are zero, learnt from steps in which a few of them are."""
from __future__ import annotations

from typing import Callable, Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from .holder import Holder

SEED = 20181121
EVERY = 2                   # steps; in the others the running statistics see the whole network
REMEMBERED = 20             # probes of a structure
SHARE = 0.02, 0.1           # of the neurons and groups in one probe, which must all have had their turns


class Probes:
    """Learns what the removal of each structure would cost.

    While λ is where γ balances the loss, its gradient is −γ for every structure, whatever that is worth. What equation
    10 compares with γ to keep a factor at zero is the resistance r = −∂L/∂λ at λ = 0. So a few structures are zero in
    every second step, as in stochastic depth (Huang et al., ECCV 2016), and have their values back after it. Between
    λ, where the loss does not change any more, and 0, where it rises by r, removal costs about λ·r/2.

    Parameters
    ----------
    holder : Holder
        Whose structures are probed: ``step`` is to be called after every step of its trainer.
    net : mxnet.gluon.HybridBlock
        The whole network. A probe begins when it, or the smaller network in its place, is called while gradients are
        recorded.
    steps : int
        In which all structures should be probed several times.
    candidates : callable
        Returns booleans, (number of structures,): those that may be probed now.

    Attributes
    ----------
    resistance : numpy.ndarray
        r of each structure, a mean of the last probes.
    seen : numpy.ndarray
        How often each was probed.
    """
    VECTORS: List[str] = ['resistance', 'seen']

    def __init__(self, holder: Holder, net: gluon.HybridBlock, steps: int, candidates: Callable[[], np.ndarray]):
        self.holder, self.trainer, self.candidates = holder, holder.trainer, candidates
        self.share = float(np.clip(REMEMBERED * EVERY / steps, *SHARE))
        self.resistance, self.seen = np.zeros(holder.held.size), np.zeros(holder.held.size)
        self._hook = net.register_forward_pre_hook(self._begin)

    def step(self) -> None:
        """Learn from the step, and be ready for the next."""
        holder = self.holder
        for name, found in self.trainer.probed().items():
            inside = np.flatnonzero(holder.layer == holder.names.index(name))
            inside, found = inside[~np.isnan(found)], found[~np.isnan(found)]
            if not self.trainer.overflowed:
                self.seen[inside] += 1
                self.resistance[inside] += (found - self.resistance[inside]) / np.minimum(self.seen[inside], REMEMBERED)

    def stop(self) -> None:
        """No more probes."""
        self._hook.detach()

    def states(self) -> Dict[str, np.ndarray]:
        """What a checkpoint needs."""
        return {name: getattr(self, name) for name in self.VECTORS}

    def loss(self, values: np.ndarray) -> np.ndarray:
        """What the removal of each structure costs, λ·r/2; infinite where nothing is known yet."""
        return np.where(self.seen > 0, np.abs(values) * np.maximum(self.resistance, 0) / 2, np.inf)

    def _begin(self, net, inputs) -> None:
        holder, candidates = self.holder, self.candidates()
        known = (self.seen[candidates] > 0).all()
        if known and holder.steps_done % EVERY or not autograd.is_recording() or not autograd.is_training() or \
                self.trainer.probing or any(isinstance(x, mx.sym.Symbol) for x in inputs):  # parts of a batch; a trace
            return
        draw = np.random.default_rng((SEED, holder.steps_done)).random(candidates.size)
        chosen = candidates & ~holder.may_vanish & (draw < self.share)
        blocks = np.flatnonzero(candidates & holder.may_vanish)
        if blocks.size:
            chosen[blocks[np.argmin(self.seen[blocks] + draw[blocks])]] = True
        with autograd.pause():
            self.trainer.probe(holder.split(chosen))
