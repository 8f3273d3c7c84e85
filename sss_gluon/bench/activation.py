"""The formulation that folding replaces: factors multiply activations, as in the authors' code. For comparison only."""
from __future__ import annotations

from typing import Optional, Sequence

from mxnet import gluon
from mxnet.gluon import nn

from ..factors import Scaled
from ..models import architecture
from ..models.layers import Layers


class ScaledOutput(Scaled, nn.HybridBlock):
    """A layer, and its output (N, C, H, W) multiplied by scaling factors: an operator on activations of its own.

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

    def hybrid_forward(self, F, x, factor):
        scale = F.reshape(self._per_channel(F, factor, 'float32'), (1, -1, 1, 1))
        return F.broadcast_mul(self.layer(x), scale)


class ActivationLayers(Layers):
    """Makes the layers of a network of this package, those with factors as ``ScaledOutput``."""

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
    """Values of a network into the same network in the other formulation, whose layers are one level deeper."""
    values = source._collect_params_with_prefix()
    for name, parameter in target._collect_params_with_prefix().items():
        parameter.set_data(values[name.replace('.layer.', '.')].data())
