"""VGG-16 with batch normalisation: the CIFAR form (one dense layer) and the ImageNet form.

Neuron factors sit on the output of every BatchNorm (from memory of the paper; not checked against a source).
"""
from __future__ import annotations

from typing import List, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from .layers import Layers

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.HybridBlock):
    """Thirteen convolutions in five stages, a 2x2 max-pool after each stage, then dense layers.

    Parameters
    ----------
    layers : Layers
    classes, in_channels : int
    hidden : sequence of int
        Widths of the dense layers before the classifier, each with ReLU and dropout 0.5; empty for CIFAR.
    final_size : int
        Height and width after five pools (input size / 32).
    conv_bias : bool
        True in the published ImageNet network, which has a bias in every convolution (138.36 M parameters).
    stages : sequence of sequences of int
        Output channels of each convolution.

    Inputs: (N, in_channels, 32·final_size, 32·final_size). Outputs: (N, classes).
    """

    def __init__(self, layers: Layers, classes: int, in_channels: int, hidden: Sequence[int] = (),
                 final_size: int = 1, conv_bias: bool = False, stages=STAGES, **kwargs):
        super().__init__(**kwargs)
        self._forward_order: List[gluon.HybridBlock] = []
        with self.name_scope():
            channels = in_channels
            for stage, widths in enumerate(stages, 1):
                for i, width in enumerate(widths, 1):
                    self._then(f'conv{stage}_{i}', layers.conv(channels, width, 3, use_bias=conv_bias))
                    self._then(f'norm{stage}_{i}', layers.norm(width, 'neuron'))
                    self._then(f'relu{stage}_{i}', layers.relu())
                    channels = width
                self._then(f'pool{stage}', nn.MaxPool2D(2, 2))
            self._then('flatten', nn.Flatten())
            units = channels * final_size ** 2
            for i, width in enumerate(hidden, 6):
                self._then(f'fc{i}', layers.dense(units, width))
                self._then(f'relu{i}', layers.relu())
                self._then(f'dropout{i}', nn.Dropout(0.5))
                units = width
            self._then('output', layers.dense(units, classes))

    def _then(self, name, layer):
        setattr(self, name, layer)
        self._forward_order.append(layer)

    def hybrid_forward(self, F, x):
        for layer in self._forward_order:
            x = layer(x)
        return x


def cifar_vgg16(layers, classes, in_channels, **options):
    return VGG(layers, classes, in_channels, **options)


def vgg16(layers, classes, in_channels, **options):
    return VGG(layers, classes, in_channels, hidden=(4096, 4096), final_size=7, conv_bias=True, **options)
