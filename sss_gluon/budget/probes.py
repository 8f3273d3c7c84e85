"""What the loss says of blocks that are zero, learnt from steps in which one of them is."""
from __future__ import annotations

from typing import Callable, Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from .holder import Holder

SEED = 20181121
EVERY = 2                   # steps; in the others the running statistics see the whole network
REMEMBERED = 20             # probes of a block


class Probes:
    """Learns what the removal of each block would cost.

    While λ is where γ balances the loss, its gradient is −γ for every block, whatever that is worth. What equation 10
    compares with γ to keep a factor at zero is the resistance r = −∂L/∂λ at λ = 0. So in every second step one block is
    zero, as in stochastic depth (Huang et al., ECCV 2016), and has its value back after it. Between λ, where the loss
    does not change any more, and 0, where it rises by r, removal costs about λ·r/2. (Neurons and groups are many and
    alike: among them, γ itself makes the least useful ones small.)

    Parameters
    ----------
    holder : Holder
        Whose blocks are probed: ``step`` is to be called after every step of its trainer.
    net : mxnet.gluon.HybridBlock
        The whole network. A probe begins when it, or the smaller network in its place, is called while gradients are
        recorded.
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

    def __init__(self, holder: Holder, net: gluon.HybridBlock, candidates: Callable[[], np.ndarray]):
        self.holder, self.trainer, self.candidates = holder, holder.trainer, candidates
        self.resistance, self.seen = np.zeros((2, holder.held.size))
        self._hook = net.register_forward_pre_hook(self._begin)

    def step(self) -> None:
        """Learn from the step, and be ready for the next."""
        for name, found in self.trainer.probed().items():
            block = self.holder.ends[self.holder.names.index(name)] - 1
            if not self.trainer.overflowed:
                self.seen[block] += 1
                self.resistance[block] += (found[0] - self.resistance[block]) / min(self.seen[block], REMEMBERED)

    def stop(self) -> None:
        """No more probes."""
        self._hook.detach()

    def states(self) -> Dict[str, np.ndarray]:
        """What a checkpoint needs."""
        return {name: getattr(self, name) for name in self.VECTORS}

    def loss(self, values: np.ndarray) -> np.ndarray:
        """What the removal of each block costs, λ·r/2; infinite where nothing is known yet."""
        return np.where(self.seen > 0, np.abs(values) * np.maximum(self.resistance, 0) / 2, np.inf)

    def _begin(self, net, inputs) -> None:
        holder = self.holder
        blocks = np.flatnonzero(self.candidates() & holder.may_vanish)
        known = (self.seen[blocks] > 0).all()
        if not blocks.size or known and holder.steps_done % EVERY or \
                not autograd.is_recording() or not autograd.is_training() or \
                self.trainer.probing or any(isinstance(x, mx.sym.Symbol) for x in inputs):  # parts of a batch; a trace
            return
        draw = np.random.default_rng((SEED, holder.steps_done)).random(blocks.size)
        chosen = np.zeros(holder.held.size, bool)
        chosen[blocks[np.argmin(self.seen[blocks] + draw)]] = True
        with autograd.pause():
            self.trainer.probe(holder.split(chosen))
