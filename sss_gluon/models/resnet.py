"""Pre-activation residual networks (He et al., "Identity Mappings in Deep Residual Networks").

Block factors sit on the last convolution of every block, before the addition. The projection shortcut, which starts
from relu(norm1), is not scaled and stays when its block is removed (authors' code). Neuron factors, which the paper
does not use here, may sit on the norms inside a block.
"""
from __future__ import annotations

from functools import partial
from typing import Sequence

from mxnet.gluon import nn

from .layers import Layers, residual_stages


class BasicBlock(nn.HybridBlock):
    """norm-relu-conv3x3(stride)-norm-relu-conv3x3·λ, plus the shortcut. (N, C, H, W) to (N, channels, H/s, W/s)."""

    def __init__(self, layers: Layers, in_channels: int, channels: int, stride: int, project: bool, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.norm1 = layers.norm(in_channels)
            self.conv1 = layers.conv(in_channels, channels, 3, stride)
            self.norm2 = layers.norm(channels, 'neuron')
            self.conv2 = layers.conv(channels, channels, 3, kind='block')
            self.shortcut = layers.conv(in_channels, channels, 1, stride) if project else None
            self.relu1, self.relu2 = layers.relu(), layers.relu()

    def hybrid_forward(self, F, x):
        y = self.relu1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(self.relu2(self.norm2(y)))
        return y + shortcut


class Bottleneck(nn.HybridBlock):
    """Pre-activation 1x1, 3x3(stride), 1x1·λ with a quarter of the channels inside, plus the shortcut."""

    def __init__(self, layers: Layers, in_channels: int, channels: int, stride: int, project: bool, **kwargs):
        super().__init__(**kwargs)
        inner = channels // 4
        with self.name_scope():
            self.norm1 = layers.norm(in_channels)
            self.conv1 = layers.conv(in_channels, inner, 1)
            self.norm2 = layers.norm(inner, 'neuron')
            self.conv2 = layers.conv(inner, inner, 3, stride)
            self.norm3 = layers.norm(inner, 'neuron')
            self.conv3 = layers.conv(inner, channels, 1, kind='block')
            self.shortcut = layers.conv(in_channels, channels, 1, stride) if project else None
            self.relu1, self.relu2, self.relu3 = layers.relu(), layers.relu(), layers.relu()

    def hybrid_forward(self, F, x):
        y = self.relu1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(self.relu2(self.norm2(y)))
        y = self.conv3(self.relu3(self.norm3(y)))
        return y + shortcut


class ResNet(nn.HybridBlock):
    """A stem, stages of residual blocks, norm-relu, global average pool, dense.

    Parameters
    ----------
    layers : Layers
    classes, in_channels : int
    block : type
        ``BasicBlock`` or ``Bottleneck``; the first block of every stage has a projection shortcut.
    depths, widths : sequences of int
        Blocks and output channels per stage. Every stage but the first halves the size.
    stem_width : int
    imagenet_stem : bool
        7x7/2 convolution, norm, ReLU and 3x3/2 max-pool; otherwise one 3x3 convolution without norm.

    Inputs: (N, in_channels, H, W). Outputs: (N, classes).
    """

    def __init__(self, layers: Layers, classes: int, in_channels: int, block: type, depths: Sequence[int],
                 widths: Sequence[int], stem_width: int, imagenet_stem: bool, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            if imagenet_stem:
                self.stem = nn.HybridSequential()
                self.stem.add(layers.conv(in_channels, stem_width, 7, 2), layers.norm(stem_width), layers.relu(),
                              nn.MaxPool2D(3, 2, 1))
            else:
                self.stem = layers.conv(in_channels, stem_width, 3)
            self._stages = residual_stages(self, stem_width, depths, widths, partial(block, layers))
            self.norm = layers.norm(widths[-1])
            self.relu = layers.relu()
            self.pool = layers.global_pool()
            self.flatten = nn.Flatten()
            self.output = layers.dense(widths[-1], classes)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        for stage in self._stages:
            x = stage(x)
        return self.output(self.flatten(self.pool(self.relu(self.norm(x)))))


def cifar_resnet20(layers, classes, in_channels, depths=(3, 3, 3), widths=(16, 32, 64)):
    return ResNet(layers, classes, in_channels, BasicBlock, depths, widths, stem_width=16, imagenet_stem=False)


def cifar_resnet164(layers, classes, in_channels, depths=(18, 18, 18), widths=(64, 128, 256)):
    return ResNet(layers, classes, in_channels, Bottleneck, depths, widths, stem_width=16, imagenet_stem=False)


def resnet50(layers, classes, in_channels, depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048)):
    return ResNet(layers, classes, in_channels, Bottleneck, depths, widths, stem_width=64, imagenet_stem=True)
