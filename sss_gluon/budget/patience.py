"""Without a budget: a structure that has been zero for some time is held at zero."""
from __future__ import annotations

from typing import List

import numpy as np

from ..errors import SSSError
from .holder import Holder

LOOKS = 10      # the factors are read so many times within ``patience`` steps


class Patience(Holder):
    """Holds each structure once it has been zero for ``patience`` steps, so that the network can be cut for good.

    Parameters
    ----------
    net, trainer, input_shape :
        As for ``Holder``.
    patience : int
        In steps of the trainer. The paper lets a structure come back at any time; the longer it has been zero, the
        rarer that is.
    """
    SCALARS: List[str] = Holder.SCALARS
    VECTORS: List[str] = [*Holder.VECTORS, 'since']

    def __init__(self, net, trainer, input_shape, patience: int):
        super().__init__(net, trainer, input_shape)
        if patience < 1:
            raise SSSError(f'patience={patience} must be at least 1 step')
        self.patience, self.interval = patience, max(1, patience // LOOKS)
        self.since = np.full(self.held.size, -1)        # the step at which a structure was first seen at zero

    def step(self) -> None:
        self.steps_done += 1
        if self.steps_done % self.interval:
            return
        zero = (self.read() == 0) & ~self.inside
        self.since = np.where(zero, np.where(self.since < 0, self.steps_done, self.since), -1)
        ready = zero & ~self.held & (self.steps_done - self.since >= self.patience)
        ready &= ~self.needed(~(self.held | ready), np.where(self.held, -1, self.since))
        self.hold(np.flatnonzero(ready))
