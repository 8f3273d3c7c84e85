"""PeleeNet (Wang et al., "Pelee: A Real-Time Object Detection System on Mobile Devices").

Neuron factors sit on the output of every BatchNorm (from memory of the paper; not checked against a source).
"""
from __future__ import annotations

from typing import Sequence

from mxnet.gluon import nn

from ..errors import SSSError
from .layers import Layers

GROWTH = 32


class ConvNorm(nn.HybridBlock):
    """Convolution without bias, norm·λ, ReLU."""

    def __init__(self, layers: Layers, in_channels: int, channels: int, kernel: int, stride: int = 1, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv = layers.conv(in_channels, channels, kernel, stride)
            self.norm = layers.norm(channels, 'neuron')
            self.relu = layers.relu()

    def hybrid_forward(self, F, x):
        return self.relu(self.norm(self.conv(x)))


class Stem(nn.HybridBlock):
    """3x3/2, then a 1x1-3x3/2 branch parallel to a 2x2/2 max-pool, concatenated and fused. (H, W) to (H/4, W/4)."""

    def __init__(self, layers: Layers, in_channels: int, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = ConvNorm(layers, in_channels, 32, 3, 2)
            self.branch1 = ConvNorm(layers, 32, 16, 1)
            self.branch2 = ConvNorm(layers, 16, 32, 3, 2)
            self.pool = nn.MaxPool2D(2, 2)
            self.fuse = ConvNorm(layers, 64, 32, 1)

    def hybrid_forward(self, F, x):
        x = self.first(x)
        return self.fuse(F.concat(self.branch2(self.branch1(x)), self.pool(x), dim=1))


class DenseLayer(nn.HybridBlock):
    """Two-way dense layer: two branches of growth/2 channels, with one and two 3x3, concatenated to the input."""

    def __init__(self, layers: Layers, in_channels: int, bottleneck_width: int, **kwargs):
        super().__init__(**kwargs)
        grow = GROWTH // 2
        inner = int(grow * bottleneck_width / 4) * 4
        if inner > in_channels / 2:
            inner = int(in_channels / 8) * 4
        with self.name_scope():
            self.branch1a = ConvNorm(layers, in_channels, inner, 1)
            self.branch1b = ConvNorm(layers, inner, grow, 3)
            self.branch2a = ConvNorm(layers, in_channels, inner, 1)
            self.branch2b = ConvNorm(layers, inner, grow, 3)
            self.branch2c = ConvNorm(layers, grow, grow, 3)

    def hybrid_forward(self, F, x):
        return F.concat(x, self.branch1b(self.branch1a(x)), self.branch2c(self.branch2b(self.branch2a(x))), dim=1)


class PeleeNet(nn.HybridBlock):
    """Stem, four stages of two-way dense layers with 1x1 transitions, global average pool, dropout 0.05, dense.

    Inputs: (N, in_channels, H, W). Outputs: (N, classes).
    """

    def __init__(self, layers: Layers, classes: int, in_channels: int, depths: Sequence[int] = (3, 4, 8, 6),
                 bottleneck_widths: Sequence[int] = (1, 2, 4, 4), **kwargs):
        if len(depths) != len(bottleneck_widths):
            raise SSSError(f'PeleeNet: {len(depths)} depths and {len(bottleneck_widths)} bottleneck_widths do not '
                           f'match; give one of each per stage')
        super().__init__(**kwargs)
        with self.name_scope():
            self.stem = Stem(layers, in_channels)
            channels, self._stages = 32, []
            for i, (depth, width) in enumerate(zip(depths, bottleneck_widths), 1):
                stage = nn.HybridSequential(prefix=f'stage{i}_')
                with stage.name_scope():
                    for _ in range(depth):
                        stage.add(DenseLayer(layers, channels, width))
                        channels += GROWTH
                    stage.add(ConvNorm(layers, channels, channels, 1))
                    if i < len(depths):
                        stage.add(nn.AvgPool2D(2, 2))
                setattr(self, f'stage{i}', stage)
                self._stages.append(stage)
            self.pool = layers.global_pool()
            self.flatten = nn.Flatten()
            self.dropout = nn.Dropout(0.05)
            self.output = layers.dense(channels, classes)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        for stage in self._stages:
            x = stage(x)
        return self.output(self.dropout(self.flatten(self.pool(x))))


def peleenet(layers, classes, in_channels, **options):
    return PeleeNet(layers, classes, in_channels, **options)
