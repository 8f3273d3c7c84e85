"""How a method other than sss takes part in a run: before its network is built, and around every update."""
from __future__ import annotations

from typing import Dict, Optional, Sequence

import numpy as np
from mxnet import gluon

from .config import Config
from .run import RunFolder


class Penalty:
    """What is done to the parameters of a network while it trains. Made before the trainer.

    Arrays are fetched anew in every call (``parameter.data()``): the trainer may move them.
    """

    def before_update(self, batch_size: float) -> None:
        """After the gradients are there: sums over images, ``batch_size`` times as large as their mean."""

    def after_update(self, learning_rate: float) -> None:
        """After the optimizer's step, unless it was skipped."""

    def values(self) -> Dict[str, np.ndarray]:
        """{factor name: size of every structure}, 0 where it is gone; logged in place of the factors."""
        raise NotImplementedError

    def explain(self) -> Optional[str]:
        """Of a finished run that changed nothing: why."""


class Hook:
    """A method, as ``train`` sees it; this one does nothing."""

    def prepare(self, config: Config, run: RunFolder, log) -> Config:
        """Write what the run starts from, unless it is there; the configuration to train with."""
        return config

    def penalty(self, config: Config, net: gluon.Block, input_shape: Sequence[int]) -> Optional[Penalty]:
        """What is done while training, if anything."""
