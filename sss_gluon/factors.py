"""Scaling factors: the layers that carry them, and how to list those of a network.

A scaling factor λ multiplies the output of a *structure*: a neuron (channel), a group (one path of a grouped
convolution) or a whole residual block. Both layers fold it into the parameters that produce the structure:

    λ·conv(x; W, b) = conv(x; λW, λb)          λ·BN(x; γ, β) = BN(x; λγ, λβ),

Function and gradients stay the same, without a multiplication, or a saved tensor, of the size of the activation.
"""
from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np
from mxnet import gluon
from mxnet.gluon import nn

from .errors import SSSError

KINDS = ('neuron', 'group', 'block')


class ScalingFactor(NamedTuple):
    """One factor array of a network.

    Attributes
    ----------
    name : str
        Structural name of the layer that owns it, e.g. ``stage1.0.conv2``, the same in every instance of the network.
    kind : str
        ``neuron``, ``group`` or ``block``.
    parameter : mxnet.gluon.Parameter
        float32, shape (C,), (G,) or (1,).
    """
    name: str
    kind: str
    parameter: gluon.Parameter

    def values(self):
        """Current values as a float32 array of shape (size,)."""
        return self.parameter.list_data()[0].asnumpy()


class Scaled(gluon.HybridBlock):
    """Mixin of a Gluon layer with the parameter ``factor``, which is always float32, starts at 1 and does not decay."""

    def _add_factor(self, kind: str, channels: int, groups: Optional[int]) -> None:
        layer = type(self).__name__
        if kind not in KINDS:
            raise SSSError(f"{layer}: kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
        size = 1 if kind == 'block' else channels
        self.kind, self._repeats = kind, 1
        if kind == 'group':
            if not groups or channels % groups:
                raise SSSError(f'{layer}: kind group needs a number of groups that divides {channels} channels, '
                               f'but groups={groups}')
            size, self._repeats = groups, channels // groups
        with self.name_scope():
            self.factor = self.params.get('factor', shape=(size,), init='ones', wd_mult=0.0)

    def _per_channel(self, F, factor, like_dtype):
        """λ as one value per channel (or one for all), in the dtype ``like_dtype``."""
        if self._repeats > 1:
            factor = F.repeat(factor, repeats=self._repeats, axis=0)
        return factor if like_dtype == 'float32' else F.cast(factor, dtype=like_dtype)

    def cast(self, dtype):
        """Cast the layer, but not the factor: it reaches zero in small steps, which need float32."""
        values = None if self.factor._data is None else self.factor.list_data()[0].copy()
        super().cast(dtype)
        self.factor.cast('float32')
        if values is not None:      # casting to a narrower type rounded them, some to zero
            self.factor.set_data(values)


class ScaledConv2D(Scaled, nn.Conv2D):
    """A convolution whose output is multiplied by scaling factors, folded into weight and bias.

    Parameters
    ----------
    channels, kernel_size, strides, padding, dilation, groups, in_channels, use_bias, activation, ... :
        As in ``mxnet.gluon.nn.Conv2D``. ``in_channels`` is required, because shapes are not inferred through a
        computed weight. An activation is applied after the factor.
    kind : {'block', 'neuron', 'group'}
        ``block`` has one factor, ``neuron`` one per output channel, ``group`` one per group of the convolution.

    Inputs: (N, in_channels, H, W) float32. Outputs: (N, channels, H', W').
    """

    def __init__(self, channels, kernel_size, *args, kind='block', in_channels=0, groups=1, **kwargs):
        if not in_channels:
            raise SSSError('ScaledConv2D: give in_channels; it cannot be inferred through a scaled weight')
        super().__init__(channels, kernel_size, *args, in_channels=in_channels, groups=groups, **kwargs)
        self._add_factor(kind, channels, groups)

    def hybrid_forward(self, F, x, weight, factor, bias=None):
        scale = self._per_channel(F, factor, np.dtype(self.weight.dtype).name)
        weight = F.broadcast_mul(weight, F.reshape(scale, (-1, 1, 1, 1)))
        if bias is not None:
            bias = F.broadcast_mul(bias, scale)
        return super().hybrid_forward(F, x, weight, bias)


class ScaledBatchNorm(Scaled, nn.BatchNorm):
    """Batch normalisation whose output is multiplied by scaling factors, folded into BatchNorm.gamma and beta.

    Parameters
    ----------
    in_channels : int
        Number of channels C; required.
    kind : {'neuron', 'group', 'block'}
    groups : int, optional
        Number of factors for kind ``group``, each repeated over C/groups channels.
    axis, momentum, epsilon, center, ... :
        As in ``mxnet.gluon.nn.BatchNorm``, except ``scale=False``, which leaves no gamma to fold the factor into.

    Inputs and outputs: (N, C, ...).
    """

    def __init__(self, in_channels=0, kind='neuron', groups=None, **kwargs):
        if not in_channels:
            raise SSSError('ScaledBatchNorm: give in_channels; it cannot be inferred through a scaled gamma')
        if not kwargs.get('scale', True):
            raise SSSError('ScaledBatchNorm: scale=False leaves no gamma to fold the factor into')
        super().__init__(in_channels=in_channels, **kwargs)
        self._add_factor(kind, in_channels, groups)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var, factor):
        scale = self._per_channel(F, factor, 'float32')
        return super().hybrid_forward(F, x, F.broadcast_mul(gamma, scale), F.broadcast_mul(beta, scale),
                                      running_mean, running_var)


def scaling_factors(net: gluon.Block) -> List[ScalingFactor]:
    """All scaling factors of a network, in the order in which its layers were registered (forward order).

    A layer that is used several times is listed once, and so is a factor that several layers share.
    """
    found, seen = [], set()

    def visit(block, path):
        if id(block) in seen:
            return
        seen.add(id(block))
        if isinstance(block, Scaled) and id(block.factor) not in seen:
            seen.add(id(block.factor))
            found.append(ScalingFactor('.'.join(path), block.kind, block.factor))
        for name, child in block._children.items():
            visit(child, path + (name,))

    visit(net, ())
    return found


def factor_values(net: gluon.Block):
    """{name: float32 array} of all factors, copied to the host."""
    return {factor.name: factor.values() for factor in scaling_factors(net)}
