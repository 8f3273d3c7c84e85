"""The interface of a pruning method: hooks before the network is built and around every optimizer update."""
from __future__ import annotations

from typing import Dict, Optional, Sequence

import numpy as np
from mxnet import gluon

from .config import Config
from .run_folder import RunFolder


class Regularizer:
    """Changes parameters or gradients while a network trains; this base class changes nothing.

    It is made before the trainer, which may move arrays: fetch them anew in every call (``parameter.data()``).
    """

    def start(self, training) -> None:
        """Called once before training, with the ``Training`` whose trainer now exists."""

    def before_update(self, batch_size: float) -> None:
        """Called with fresh gradients: sums over images, ``batch_size`` times as large as their mean."""

    def after_update(self, learning_rate: float) -> None:
        """Called after every step of the optimizer, unless that step was skipped."""

    def values(self) -> Dict[str, np.ndarray]:
        """{factor name: size of every structure}, 0 for a removed one; logged every epoch."""
        return {}

    def acted(self, since: int) -> bool:
        """Did structures change after step ``since`` of the run? Running statistics lag behind them then."""
        return bool(self.values())

    def columns(self) -> Dict[str, str]:
        """More columns of metrics.csv for an epoch."""
        return {}

    def left(self) -> str:
        """'54.3% params', where the run was asked for something else than a share of the MACs; '' otherwise."""
        return ''

    def to_remove(self) -> Optional[Dict[str, np.ndarray]]:
        """{factor name: mask} of all structures to be cut out of the training network; None to leave it as it is."""
        return None

    def states(self) -> Dict[str, np.ndarray]:
        """What a checkpoint needs to continue bit for bit."""
        return {}

    def set_states(self, states: Dict[str, np.ndarray], source: str) -> None:
        """Restore ``states()``; called after the parameters and the trainer were restored."""

    def explain(self, training) -> Optional[str]:
        """Why a finished run changed nothing, or left nothing of use; None otherwise."""


class Method:
    """A pruning method as the training loop sees it; this one trains the network of the configuration."""

    def prepare(self, config: Config, run: RunFolder, log) -> Config:
        """Write what the run starts from, unless it exists already; return the configuration to train with."""
        return config

    def regularizer(self, config: Config, net: gluon.Block, input_shape: Sequence[int]) -> Regularizer:
        """The regularizer that acts on the network while it trains."""
        return Regularizer()
