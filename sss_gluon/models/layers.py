"""The layers of the networks, plain or scaled, initialised as in the paper."""
from __future__ import annotations

from typing import Callable, List, Optional, Sequence

import mxnet as mx
from mxnet.gluon import nn

from ..errors import SSSError
from ..factors import ScaledBatchNorm, ScaledConv2D


def weight_initializer() -> mx.init.Initializer:
    """N(0, 2/fan_in), as in the authors' code."""
    return mx.init.Xavier('gaussian', 'in', 2)


class Layers:
    """Makes the layers of one network.

    Parameters
    ----------
    kinds : sequence of str
        Kinds of structures that carry scaling factors. A layer made with any other ``kind`` is a plain Gluon layer,
        so a network with ``kinds=()`` contains nothing of this package.
    neuron_block : int
        Adjacent channels that share a factor of a neuron.
    """

    def __init__(self, kinds: Sequence[str], neuron_block: int = 1):
        self.kinds, self.neuron_block = frozenset(kinds), neuron_block

    def conv(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1,
             use_bias: bool = False, kind: Optional[str] = None):
        """A square convolution, zero-padded to keep the size at stride 1."""
        arguments = dict(kernel_size=kernel, strides=stride, padding=kernel // 2, groups=groups,
                         use_bias=use_bias, in_channels=in_channels, weight_initializer=weight_initializer())
        if kind in self.kinds:
            return ScaledConv2D(channels, kind=kind, neuron_block=self.neuron_block, **arguments)
        return nn.Conv2D(channels, **arguments)

    def norm(self, channels: int, kind: Optional[str] = None, groups: Optional[int] = None):
        """Batch normalisation with the paper's eps 1e-5 and momentum 0.9."""
        arguments = dict(in_channels=channels, epsilon=1e-5, momentum=0.9)
        if kind in self.kinds:
            return ScaledBatchNorm(kind=kind, groups=groups, neuron_block=self.neuron_block, **arguments)
        return nn.BatchNorm(**arguments)

    def dense(self, in_units: int, units: int):
        return nn.Dense(units, in_units=in_units, weight_initializer=weight_initializer())

    @staticmethod
    def relu():
        """``Activation`` instead of the ``relu`` operator, because it keeps oneDNN's blocked layout."""
        return nn.Activation('relu')

    @staticmethod
    def global_pool():
        """Mean over positions, (N, C, H, W) to (N, C, 1, 1)."""
        return GlobalMean()


class GlobalMean(nn.HybridBlock):
    """Global average pooling by ``mean``.

    The backward pass of oneDNN's pooling picks a layout for which the BatchNorm before it has no fast code: a training
    step of ResNet-20 took 240 ms instead of 196.
    """

    def hybrid_forward(self, F, x):
        return F.mean(x, axis=(2, 3), keepdims=True)


def residual_stages(net: nn.HybridBlock, channels: int, depths: Sequence[int], widths: Sequence[int],
                    block: Callable[..., nn.HybridBlock]) -> List[nn.HybridSequential]:
    """Register ``stage1``, ``stage2``, … on a residual network, and return them in forward order.

    The first block of every stage has a projection shortcut; in every stage but the first it halves the size.

    Parameters
    ----------
    net : HybridBlock
    channels : int
        Channels that enter the first stage.
    depths, widths : sequences of int
        Blocks, and output channels, per stage.
    block : callable
        ``block(in_channels, channels, stride, project)``.
    """
    if len(depths) != len(widths):
        raise SSSError(f'{type(net).__name__}: {len(depths)} depths and {len(widths)} widths do not match; give one of '
                       f'each per stage')
    stages = []
    for i, (depth, width) in enumerate(zip(depths, widths), 1):
        stage = nn.HybridSequential(prefix=f'stage{i}_')
        with stage.name_scope():
            for j in range(depth):
                stage.add(block(channels, width, 2 if i > 1 and j == 0 else 1, j == 0))
                channels = width
        setattr(net, f'stage{i}', stage)
        stages.append(stage)
    return stages
