"""The network that a run computes with: the whole network, or what is left of it."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

import numpy as np
from mxnet import gluon

from ..structures.shrink import Shrunk
from . import precision
from .factor_trainer import FactorTrainer


class CutNetwork:
    """The whole network keeps all its arrays, so that checkpoints and results do not depend on what was cut out.

    Parameters
    ----------
    whole : mxnet.gluon.HybridBlock
    input_shape : sequence of int
    precision_name : str
        In which the network computes.

    Attributes
    ----------
    net : mxnet.gluon.HybridBlock
        The network that computes.
    """

    def __init__(self, whole: gluon.HybridBlock, input_shape: Sequence[int], precision_name: str):
        self.whole = self.net = whole
        self.input_shape, self.precision = input_shape, precision_name
        self._shrunk: Optional[Shrunk] = None

    def cut(self, trainer: FactorTrainer, removed: Mapping[str, np.ndarray]) -> None:
        """Go on with a network without some structures, whose factors are 0; ``trainer`` goes on with it."""
        shrunk = Shrunk(self.restore(), self.input_shape, removed)
        trainer.rebind(shrunk.parameters, shrunk.kept, shrunk.removed)
        self.net.hybridize(False)       # frees what was compiled
        self._shrunk, self.net = shrunk, precision.mixed(shrunk.net, self.precision)
        self.net.hybridize(static_alloc=True, static_shape=True)

    def restore(self) -> gluon.HybridBlock:
        """The whole network with the present parameters and running statistics."""
        return self._shrunk.restore() if self._shrunk else self.whole
