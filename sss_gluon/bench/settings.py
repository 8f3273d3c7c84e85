"""Settings that all benchmarks share, and the networks that they measure."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon

from ..models import architecture, get_model

# Narrow and shallow networks, which show in seconds whether everything works.
QUICK: Dict[str, dict] = {
    'cifar_vgg16': dict(stages=((8, 8), (8, 8), (8, 8, 8), (8, 8, 8), (8, 8, 8))),
    'cifar_resnet20': dict(depths=(2, 1, 1), widths=(8, 8, 16)),
    'cifar_resnet164': dict(depths=(2, 1, 1), widths=(8, 16, 32)),
    'cifar_resnext20': dict(depths=(1, 1, 1), widths=(8, 16, 32), groups=4),
    'resnet50': dict(depths=(2, 2, 1, 1), widths=(16, 32, 32, 64)),
    'resnext50_32x4d': dict(depths=(1, 2, 1, 1), widths=(16, 32, 48, 64), groups=8),
    'peleenet': dict(depths=(1, 1, 1, 1)),
}


class Skipped(Exception):
    """A benchmark cannot run here; the message says why."""


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    Attributes
    ----------
    rounds : int
        Interleaved rounds.
    quick : bool
        Small networks and batches: they show that a benchmark works, the numbers mean nothing.
    torch_python : str, optional
        A Python interpreter that can import torch.
    cores : tuple of int
        Numbers of the cores to run on.
    """
    rounds: int = 20
    quick: bool = False
    torch_python: Optional[str] = None
    cores: Tuple[int, ...] = (0, 1)

    @property
    def batch(self) -> int:
        """Images in a training step."""
        return 8 if self.quick else 64

    def options(self, name: str) -> dict:
        """Arguments of a network beyond its name."""
        return QUICK[name] if self.quick else {}

    def neuron_block(self, channels: int) -> int:
        """Channels of a neuron: at most 2 in quick networks, whose layers may be only 8 channels wide."""
        return min(channels, 2) if self.quick else channels

    def net(self, name: str, factors: Optional[Sequence[str]] = None, **options) -> gluon.HybridBlock:
        """A network with the same initial values in every call; ``factors`` and options as in ``get_model``."""
        net = get_model(name, factors=factors, **self.options(name), **options)
        mx.random.seed(0)
        net.initialize()
        return net

    def image_shape(self, name: str) -> Tuple[int, int, int]:
        """(C, H, W) of one image."""
        row = architecture(name)
        side = max(row.minimum_size, 32) if self.quick else row.size
        return 3, side, side
