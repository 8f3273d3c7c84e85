"""The rule of each MXNet operator. An operator without one keeps all its channels and is reported."""
from __future__ import annotations

import math
from typing import Dict

import numpy as np

from .rules import (
    Axes,
    BatchNorm,
    Channelwise,
    Concat,
    Elementwise,
    Flatten,
    Linear,
    Pad,
    Pooling,
    PReLU,
    Rule,
    SliceAxis,
    SliceLike,
    Split,
    Take,
    Unknown,
    UpSampling,
)


def _activation(node, value):
    return {'relu': lambda v: np.maximum(v, 0), 'sigmoid': lambda v: 1 / (1 + np.exp(-v)), 'tanh': np.tanh,
            'softrelu': lambda v: np.log1p(np.exp(v)), 'softsign': lambda v: v / (1 + np.abs(v))
            }.get(node.get('act_type'), lambda v: np.nan * v)(value)


def _scalar(function):
    return Channelwise(lambda node, value: function(value, float(node.get('scalar', 0))))


def _same(node, value):
    return value


def _add(a, b):
    return a + b


def _multiply(a, b):
    return a * b


IDENTITY = ('_copy', 'BlockGrad', 'Dropout', 'Cast', 'identity', '_contrib_AdaptiveAvgPooling2D',
            '_contrib_BilinearResize2D')

RULES: Dict[str, Rule] = {
    **{op: Channelwise(_same) for op in IDENTITY},
    'UpSampling': UpSampling(_same),
    'Activation': Channelwise(_activation),
    'relu': Channelwise(lambda _, v: np.maximum(v, 0)),
    'sigmoid': Channelwise(lambda _, v: 1 / (1 + np.exp(-v))),
    'hard_sigmoid': Channelwise(lambda n, v: np.clip(n.get('alpha', 0.2) * v + n.get('beta', 0.5), 0, 1)),
    'erf': Channelwise(lambda _, v: np.vectorize(math.erf, otypes=[float])(v)),
    **{op: Channelwise(lambda _, v, f=f: f(v)) for op, f in
       dict(tanh=np.tanh, exp=np.exp, sqrt=np.sqrt, square=np.square, abs=np.abs, negative=np.negative).items()},
    'clip': Channelwise(lambda n, v: np.clip(v, n.get('a_min'), n.get('a_max'))),
    '_plus_scalar': _scalar(lambda v, s: v + s), '_minus_scalar': _scalar(lambda v, s: v - s),
    '_rminus_scalar': _scalar(lambda v, s: s - v), '_mul_scalar': _scalar(lambda v, s: v * s),
    '_div_scalar': _scalar(lambda v, s: v / s), '_maximum_scalar': _scalar(np.maximum),
    '_minimum_scalar': _scalar(np.minimum), '_power_scalar': _scalar(np.power),
    'LeakyReLU': PReLU(),
    'Pooling': Pooling(),
    'Pad': Pad(), 'pad': Pad(),
    **{op: BatchNorm() for op in ('BatchNorm', '_contrib_BatchNormWithReLU', '_contrib_SyncBatchNorm')},
    **{op: Elementwise(_add) for op in ('elemwise_add', 'broadcast_add', '_plus', '_Plus', 'add_n', 'broadcast_plus')},
    **{op: Elementwise(np.subtract) for op in ('elemwise_sub', 'broadcast_sub', '_minus', 'broadcast_minus')},
    **{op: Elementwise(_multiply, zero_wins=True) for op in ('elemwise_mul', 'broadcast_mul', '_mul')},
    **{op: Elementwise(np.divide) for op in ('elemwise_div', 'broadcast_div', '_div')},
    **{op: Elementwise(np.maximum) for op in ('_maximum', 'broadcast_maximum')},
    **{op: Elementwise(np.minimum) for op in ('_minimum', 'broadcast_minimum')},
    'Convolution': Linear('conv'), 'Deconvolution': Linear('deconv'), 'FullyConnected': Linear('dense'),
    'Concat': Concat(), 'concat': Concat(),
    'Flatten': Flatten(), 'flatten': Flatten(), 'Reshape': Flatten(), 'reshape': Flatten(),
    'expand_dims': Axes(_same), 'squeeze': Axes(_same), 'mean': Axes(_same), 'max': Axes(_same),
    'sum': Axes(None),
    'slice_axis': SliceAxis(), 'slice_like': SliceLike(),
    'SliceChannel': Split(), 'split': Split(),
    'take': Take(),
}
UNKNOWN = Unknown()
ADDITIONS = ('elemwise_add', 'broadcast_add', '_plus', '_Plus', 'broadcast_plus')
