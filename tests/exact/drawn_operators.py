"""The operators that random networks are drawn from: the arguments of each, its layer and its result."""
from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
from hypothesis import strategies as st
from mxnet.gluon import nn

from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D

LARGEST = 12        # height and width


class Operator(NamedTuple):
    """How a kind of line is drawn and computed.

    ``inputs``: which tuples of earlier results it may take, a key of ``PICKS``. ``draw(draw, *shapes)``: its
    arguments. ``layer(arguments, *shapes)``: the Gluon layer that has its parameters. ``forward(F, layer, arguments,
    *inputs)``: its result.
    """
    inputs: str
    draw: Callable
    forward: Callable
    layer: Optional[Callable] = None


PICKS = {
    'image': lambda shapes: [(a,) for a, s in shapes.items() if len(s) == 4],
    'small image': lambda shapes: [(a,) for a, s in shapes.items() if len(s) == 4 and 2 * s[2] <= LARGEST],
    'any': lambda shapes: [(a,) for a in shapes],
    'even': lambda shapes: [(a,) for a, s in shapes.items() if s[1] % 2 == 0],
    'alike': lambda shapes: sorted([(a, b) for a in shapes for b in shapes if shapes[a] == shapes[b]],
                                   key=lambda pair: pair[0] != pair[1]),
    'three alike': lambda shapes: [(a, b, c) for a in shapes for b in shapes for c in shapes
                                   if shapes[a] == shapes[b] == shapes[c]],
    'gate': lambda shapes: [(a, b) for a, s in shapes.items() for b, t in shapes.items() if len(s) == len(t) == 4
                            and s != t and t in ((s[0], s[1], 1, 1), (s[0], 1) + s[2:])],
    'side by side': lambda shapes: [(a, b) for a, s in shapes.items() for b, t in shapes.items()
                                    if len(s) == len(t) and s[2:] == t[2:] and s[1] + t[1] <= 16],
}


# Arguments

def indices(draw, size: int) -> Tuple[int, ...]:
    """Indices of some, or all, of ``size`` channels."""
    some = st.integers(0, size - 1)
    chosen = draw(st.one_of(st.sets(some), st.sets(some, min_size=1), st.just(set(range(size)))))
    return tuple(sorted(chosen))


def window(draw, shape, dilations=(1, 2)) -> dict:
    """Kernel, stride, padding and dilation that fit an image; half of the draws keep its size."""
    if draw(st.booleans()):
        kernel = draw(st.sampled_from([1, 3]))
        return dict(kernel=kernel, stride=1, padding=kernel // 2, dilation=1)
    kernel = draw(st.sampled_from([1, 3, 2] if min(shape[2:]) > 1 else [1, 3]))
    dilation = draw(st.sampled_from(dilations)) if kernel > 1 else 1
    least = max(0, (dilation * (kernel - 1) + 2 - min(shape[2:])) // 2)
    padding = draw(st.integers(least, max(least, dilation)))
    return dict(kernel=kernel, stride=draw(st.sampled_from([1, 2])), padding=padding, dilation=dilation)


def conv_arguments(draw, shape, kind=None, groups=None) -> dict:
    channels = shape[1]
    if groups is None:
        groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
    width = draw(st.one_of(st.just(channels), st.integers(1, max(1, 6 // groups)).map(lambda n: n * groups)))
    found = dict(width=width, groups=groups, bias=draw(st.booleans()), **window(draw, shape))
    size = {None: width, 'neuron': width, 'group': groups, 'block': 1}[kind]
    return dict(found, zeros=indices(draw, size))       # zero channels, or zero factors


def transposed_arguments(draw, shape) -> dict:
    groups = draw(st.sampled_from([g for g in (1, 2, shape[1]) if shape[1] % g == 0]))
    width, stride = groups * draw(st.integers(1, 3)), draw(st.sampled_from([1, 2]))
    kernel = draw(st.sampled_from([2, 3]))
    return dict(width=width, groups=groups, bias=draw(st.booleans()), kernel=kernel, stride=stride, padding=0,
                extra=draw(st.integers(0, stride - 1)), zeros=indices(draw, width))


def norm_arguments(draw, shape) -> dict:
    return dict(scale=draw(st.sampled_from([True, True, False])), center=draw(st.sampled_from([True, True, False])),
                zeros=indices(draw, shape[1]), constant=indices(draw, shape[1]))


def scaled_norm_arguments(kind):
    def arguments(draw, shape):
        groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
        size = {'neuron': shape[1], 'group': groups, 'block': 1}[kind]
        return dict(groups=groups, zeros=indices(draw, size))
    return arguments


def pool_arguments(draw, shape) -> dict:
    found = window(draw, shape, dilations=(1,))
    found.pop('dilation')
    found['padding'] = min(found['padding'], found['kernel'] - 1)
    if found['kernel'] > min(shape[2:]):
        found.update(kernel=1, padding=0)
    return dict(found, type=draw(st.sampled_from(['max', 'avg', 'sum'])), whole=draw(st.booleans()),
                padding_counts=draw(st.booleans()), convention=draw(st.sampled_from(['valid', 'full'])))


def slice_arguments(draw, shape) -> dict:
    axis = draw(st.sampled_from(range(1, len(shape))))
    begin = draw(st.integers(0, shape[axis] - 1))
    return dict(axis=axis, begin=begin, end=draw(st.integers(begin + 1, shape[axis])))


def one_of(key, *values):
    return lambda draw, *_: {key: draw(st.sampled_from(values))}


def nothing(draw, *_):
    return {}


# Layers

def conv_layer(make, **fixed):
    def layer(a, shape):
        return make(a['width'], a['kernel'], a['stride'], a['padding'], dilation=a['dilation'], groups=a['groups'],
                    use_bias=a['bias'], in_channels=shape[1], **fixed)
    return layer


def transposed_layer(a, shape):
    return nn.Conv2DTranspose(a['width'], a['kernel'], a['stride'], a['padding'], a['extra'], groups=a['groups'],
                              use_bias=a['bias'], in_channels=shape[1])


def dense_layer(a, shape):
    return nn.Dense(a['units'], flatten=a['flatten'], in_units=int(np.prod(shape[1:])) if a['flatten'] else shape[-1])


def call(F, layer, a, x):
    return layer(x)


# Results

def pool(F, layer, a, x):
    return F.Pooling(x, kernel=(a['kernel'],) * 2, stride=(a['stride'],) * 2, pad=(a['padding'],) * 2,
                     pool_type=a['type'], global_pool=a['whole'], count_include_pad=a['padding_counts'],
                     pooling_convention=a['convention'])


def padded(F, layer, a, x):
    return F.pad(x, mode=a['mode'], pad_width=(0, 0, 0, 0, 1, 1, 1, 1), constant_value=a['value'])


def gated_parts(F, layer, a, x):
    first, second = F.split(x, num_outputs=2, axis=1)
    return first * F.sigmoid(second)


def shuffled(F, layer, a, x):
    """Channels of two groups alternate."""
    return F.reshape(F.swapaxes(F.reshape(x, shape=(0, -4, 2, -1, -2)), dim1=1, dim2=2), shape=(0, -3, -2))


SCALARS = {
    'plus': lambda F, x: x + 0.5, 'minus': lambda F, x: 0.3 - x, 'times': lambda F, x: x * -1.5,
    'over': lambda F, x: x / 2, 'clip': lambda F, x: F.clip(x, -0.5, 0.7), 'maximum': lambda F, x: F.maximum(x, 0.2),
    'tanh': lambda F, x: F.tanh(x), 'square': lambda F, x: F.square(x), 'abs': lambda F, x: F.abs(x),
    'hard sigmoid': lambda F, x: F.hard_sigmoid(x),
}
PAIRS = {
    'add': lambda F, a, b: a + b, 'subtract': lambda F, a, b: a - b, 'multiply': lambda F, a, b: a * b,
    'maximum': lambda F, a, b: F.maximum(a, b), 'minimum': lambda F, a, b: F.minimum(a, b),
}
UNKNOWN = {     # {operator that the pass does not know: its result}
    'LRN': lambda F, x: F.LRN(x, nsize=3), 'softmax': lambda F, x: F.softmax(x, axis=1),
    'L2Normalization': lambda F, x: F.L2Normalization(x, mode='channel'), 'reverse': lambda F, x: F.reverse(x, axis=1),
}
GATES = {'broadcast_mul': lambda F, a, b: F.broadcast_mul(a, b), 'broadcast_add': lambda F, a, b: F.broadcast_add(a, b)}

OPERATORS: Dict[str, Operator] = {
    'conv': Operator('image', conv_arguments, call, conv_layer(nn.Conv2D)),
    'depthwise': Operator('image', lambda draw, shape: conv_arguments(draw, shape, groups=shape[1]), call,
                          conv_layer(nn.Conv2D)),
    'transposed': Operator('small image', transposed_arguments, call, transposed_layer),
    'norm': Operator('any', norm_arguments, call,
                     lambda a, shape: nn.BatchNorm(scale=a['scale'], center=a['center'], in_channels=shape[1])),
    **{f'conv_{kind}': Operator('image', lambda draw, shape, kind=kind: conv_arguments(draw, shape, kind), call,
                                conv_layer(ScaledConv2D, kind=kind)) for kind in ('neuron', 'group', 'block')},
    **{f'norm_{kind}': Operator('any', scaled_norm_arguments(kind), call, lambda a, shape, kind=kind: ScaledBatchNorm(
        shape[1], kind, a['groups'] if kind == 'group' else None)) for kind in ('neuron', 'group', 'block')},
    'dense': Operator('any', lambda draw, shape: dict(units=draw(st.integers(1, 5)), zeros=(),
                                                      flatten=draw(st.sampled_from([True, True, False]))),
                      call, dense_layer),
    'activation': Operator('any', one_of('type', 'relu', 'sigmoid', 'tanh', 'softrelu', 'softsign'),
                           lambda F, layer, a, x: F.Activation(x, act_type=a['type'])),
    'leaky': Operator('any', one_of('type', 'leaky', 'elu', 'selu', 'gelu'),
                      lambda F, layer, a, x: F.LeakyReLU(x, act_type=a['type'])),
    'prelu': Operator('image', nothing, call, lambda a, shape: nn.PReLU(in_channels=shape[1])),
    'pool': Operator('image', pool_arguments, pool),
    'adaptive_pool': Operator('image', nothing, lambda F, layer, a, x: F.contrib.AdaptiveAvgPooling2D(x, 2)),
    'upsample': Operator('small image', nothing, lambda F, layer, a, x: F.UpSampling(x, scale=2,
                                                                                    sample_type='nearest')),
    'pad': Operator('small image', lambda draw, _: dict(mode=draw(st.sampled_from(['constant', 'edge'])),
                                                        value=draw(st.sampled_from([0, 1]))), padded),
    'dropout': Operator('any', nothing, lambda F, layer, a, x: F.Dropout(x, p=0.5)),
    'function': Operator('any', one_of('of', *SCALARS), lambda F, layer, a, x: SCALARS[a['of']](F, x)),
    'pair': Operator('alike', one_of('of', 'add', 'add', *PAIRS), lambda F, layer, a, x, y: PAIRS[a['of']](F, x, y)),
    'sum_of_three': Operator('three alike', nothing, lambda F, layer, a, *xs: F.add_n(*xs)),
    'gate': Operator('gate', one_of('of', *GATES), lambda F, layer, a, x, y: GATES[a['of']](F, x, y)),
    'concat': Operator('side by side', nothing, lambda F, layer, a, x, y: F.concat(x, y, dim=1)),
    'gated_parts': Operator('even', nothing, gated_parts),
    'slice': Operator('any', slice_arguments, lambda F, layer, a, x: F.slice_axis(x, **a)),
    'flatten': Operator('any', nothing, lambda F, layer, a, x: F.flatten(x)),
    'reshape': Operator('image', nothing, lambda F, layer, a, x: F.reshape(x, shape=(0, 0, -1))),
    'mean': Operator('image', one_of('keepdims', True, False),
                     lambda F, layer, a, x: F.mean(x, axis=(2, 3), **a)),
    'sum': Operator('image', one_of('keepdims', True, False), lambda F, layer, a, x: F.sum(x, axis=(2, 3), **a)),
    'unknown': Operator('image', one_of('of', *UNKNOWN), lambda F, layer, a, x: UNKNOWN[a['of']](F, x)),
    'shuffle': Operator('even', nothing, shuffled),
}
