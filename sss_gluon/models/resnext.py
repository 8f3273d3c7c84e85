"""ResNeXt (Xie et al.), post-activation, as in the authors' code.

Group factors sit on norm2, after the grouped 3x3 and before its ReLU, and each is repeated over the channels of its
group. Block factors sit on norm3, before the addition and the ReLU.
"""
from __future__ import annotations

from functools import partial
from typing import Sequence

from mxnet.gluon import nn

from ..errors import SSSError
from .layers import Layers, residual_stages


class ResNeXtBlock(nn.HybridBlock):
    """1x1, grouped 3x3(stride)·λ_groups, 1x1·λ_block, each with norm, plus the shortcut, then ReLU.

    It has ``inner_ratio * channels`` channels inside, in ``groups`` groups. (N, C, H, W) to (N, channels, H/s, W/s).
    """

    def __init__(self, layers: Layers, in_channels: int, channels: int, stride: int, project: bool, groups: int,
                 inner_ratio: float, **kwargs):
        inner = int(channels * inner_ratio)
        if groups < 1 or not inner or inner % groups:
            raise SSSError(f'ResNeXt: groups={groups} does not divide the {inner} channels inside a block of '
                           f'{channels}; change groups, widths or inner_ratio')
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv1 = layers.conv(in_channels, inner, 1)
            self.norm1 = layers.norm(inner)
            self.conv2 = layers.conv(inner, inner, 3, stride, groups=groups)
            self.norm2 = layers.norm(inner, 'group', groups)
            self.conv3 = layers.conv(inner, channels, 1)
            self.norm3 = layers.norm(channels, 'block')
            self.shortcut = layers.conv(in_channels, channels, 1, stride) if project else None
            self.shortcut_norm = layers.norm(channels) if project else None
            self.relu1, self.relu2, self.relu3 = layers.relu(), layers.relu(), layers.relu()

    def hybrid_forward(self, F, x):
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.relu2(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return self.relu3(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


class ResNeXt(nn.HybridBlock):
    """A stem, stages of grouped residual blocks, global average pool, dense.

    Parameters
    ----------
    layers : Layers
    classes, in_channels : int
    depths, widths : sequences of int
        Blocks and output channels per stage; every stage but the first halves the size.
    groups : int
        Cardinality.
    inner_ratio : float
        Ratio of the channels inside a block to its output channels.
    imagenet_stem : bool
        True: 7x7/2 and a 3x3/2 max-pool; False: one 3x3. Both have 64 channels, norm and ReLU.

    Inputs: (N, in_channels, H, W). Outputs: (N, classes).
    """

    def __init__(self, layers: Layers, classes: int, in_channels: int, depths: Sequence[int], widths: Sequence[int],
                 imagenet_stem: bool, groups: int = 32, inner_ratio: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.stem = nn.HybridSequential()
            self.stem.add(layers.conv(in_channels, 64, 7, 2) if imagenet_stem else layers.conv(in_channels, 64, 3),
                          layers.norm(64), layers.relu())
            if imagenet_stem:
                self.stem.add(nn.MaxPool2D(3, 2, 1))
            block = partial(ResNeXtBlock, layers, groups=groups, inner_ratio=inner_ratio)
            self._stages = residual_stages(self, 64, depths, widths, block)
            self.pool = layers.global_pool()
            self.flatten = nn.Flatten()
            self.output = layers.dense(widths[-1], classes)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        for stage in self._stages:
            x = stage(x)
        return self.output(self.flatten(self.pool(x)))


def cifar_resnext20(layers, classes, in_channels, depths=(2, 2, 2), widths=(64, 128, 256), **options):
    return ResNeXt(layers, classes, in_channels, depths, widths, imagenet_stem=False, **options)


def cifar_resnext164(layers, classes, in_channels, depths=(18, 18, 18), widths=(64, 128, 256), **options):
    return ResNeXt(layers, classes, in_channels, depths, widths, imagenet_stem=False, **options)


def resnext50_32x4d(layers, classes, in_channels, depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), **options):
    return ResNeXt(layers, classes, in_channels, depths, widths, imagenet_stem=True, **options)
