"""Factors that multiply activations, as in the authors' code; folding replaces this form. For comparison only."""
from __future__ import annotations

from typing import Optional, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from ..factors import Scaled, per_channel
from ..models import architecture
from ..models.layers import Layers


class ScaledOutput(Scaled, nn.HybridBlock):
    """A layer whose output (N, C, H, W) is multiplied by scaling factors, by an operator on activations.

    Parameters
    ----------
    layer : HybridBlock
    channels : int
        C.
    kind : {'neuron', 'group', 'block'}
    groups : int, optional
        Number of factors for kind ``group``.
    """

    def __init__(self, layer: nn.HybridBlock, channels: int, kind: str, groups: Optional[int] = None):
        super().__init__()
        with self.name_scope():
            self.layer = layer
        self._add_factor(kind, channels, groups)
        self.channels = channels

    def hybrid_forward(self, F, x, factor):
        size = self.factor.shape[0]
        scale = per_channel(F, factor, size, self.channels // size, 'float32')
        return F.broadcast_mul(self.layer(x), F.reshape(scale, (1, -1, 1, 1)))


class ActivationLayers(Layers):
    """Makes the layers of a network of this package, with ``ScaledOutput`` for those with factors."""

    def conv(self, in_channels, channels, kernel, stride=1, groups=1, use_bias=False, kind=None):
        layer = super().conv(in_channels, channels, kernel, stride, groups, use_bias)
        return ScaledOutput(layer, channels, kind, groups) if kind in self.kinds else layer

    def norm(self, channels, kind=None, groups=None):
        layer = super().norm(channels)
        return ScaledOutput(layer, channels, kind, groups) if kind in self.kinds else layer


def activation_scaled(name: str, factors: Optional[Sequence[str]] = None, **options) -> gluon.HybridBlock:
    """``get_model(name, factors=factors, ...)`` with scaled activations, uninitialised."""
    row = architecture(name)
    return row.build(ActivationLayers(row.factors if factors is None else factors), row.classes, 3, **options)


def copy_parameters(source: gluon.Block, target: gluon.Block) -> None:
    """Copy the values of a network into its activation-scaled form, whose layers are one level deeper."""
    values = source._collect_params_with_prefix()
    for name, parameter in target._collect_params_with_prefix().items():
        parameter.set_data(values[name.replace('.layer.', '.')].data())
