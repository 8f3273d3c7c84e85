"""The channel analysis on small networks, each made of the operators that one case is about.

A network is a function of the input symbol. ``unit`` is convolution, batch normalisation ``<name>_bn`` and ReLU; a
zero channel is one whose BatchNorm gamma and beta are 0, as a folded factor of 0 leaves them. The widths that must
remain, [outputs, inputs] of every convolution and dense layer, are worked out by hand.
"""
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon
from small_networks import (
    S,
    between,
    constant_branch,
    conv,
    deconv,
    dense,
    excitation_with_new_axes,
    head,
    norm,
    pool,
    shared_weights,
    shuffle,
    slices,
    split,
    squeeze_and_excitation,
    two_outputs,
    unit,
)

ALL = slice(None)
SHAPE = (2, 3, 8, 8)


class Case(NamedTuple):
    build: Callable
    zeros: Dict[str, Sequence[int]]                 # {unit: channels}
    widths: Dict[str, Optional[List[int]]]          # None: removed
    values: Dict[str, object] = {}                  # {parameter: value or values}
    removed: Sequence[str] = ()                     # operators that must not remain
    left: Sequence[str] = ()                        # operators that must remain
    unhandled: Sequence[str] = ()                   # operators that are reported
    after: Dict[str, Dict[str, str]] = {}           # {layer: attributes}


LOST = {'a': [3, 3], 'b': [4, 3], 'out': [5, 4]}            # for ``between``
KEPT = {'a': [4, 3], 'b': [4, 4], 'out': [5, 4]}
GAMMA_ZERO = {'b_bn_gamma': 0, 'b_bn_beta': [0.5, 0.1, 1, 2]}       # a constant that ReLU lets through
POSITIVE = {'b_bn_beta': 1, 'b_bn_moving_mean': 0}          # the BatchNorm of zero
NEGATIVE = {'b_bn_beta': -1, 'b_bn_moving_mean': 0}

CASES = {
    # Chains
    'chain': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': [0, 2]},
                  {'a': [2, 3], 'b': [5, 2], 'out': [5, 5]}),
    'chain, two layers': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': [0], 'b': [1, 4]},
                              {'a': [3, 3], 'b': [3, 3], 'out': [5, 3]}),
    'nothing is zero': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {},
                            {'a': [4, 3], 'b': [5, 4], 'out': [5, 5]}),
    'whole layer, then positive constants': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': ALL},
                                                 {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]}, POSITIVE),
    'whole layer, then nothing': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': ALL},
                                      {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]}, NEGATIVE),
    'everything': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': ALL, 'b': ALL},
                       {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]}),
    'biased convolution': Case(lambda x: head(unit(unit(x, 'a', 4, no_bias=False), 'b', 5, no_bias=False)), {'a': [3]},
                               {'a': [3, 3], 'b': [5, 3], 'out': [5, 5]}),
    'weights that are zero': Case(lambda x: head(unit(conv(x, 'a', 4), 'b', 5)), {},
                                  {'a': [2, 3], 'b': [5, 2], 'out': [5, 5]},
                                  {'a_weight': np.reshape([1, 0, 2, 0], (4, 1, 1, 1))}),
    'a channel that nothing reads': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {},
                                         {'a': [2, 3], 'b': [5, 2], 'out': [5, 5]},
                                         {'b_weight': np.reshape([0, 1, 0, 1], (1, 4, 1, 1))}),
    'strides and dilation': Case(lambda x: head(unit(unit(x, 'a', 4, stride=(2, 2)), 'b', 5, dilate=(2, 2))),
                                 {'a': [1]}, {'a': [3, 3], 'b': [5, 3], 'out': [5, 5]}),
    'features are the output': Case(lambda x: unit(unit(x, 'a', 4), 'b', 5), {'a': [0], 'b': [0]},
                                    {'a': [3, 3], 'b': [5, 3]}),
    'normalised input': Case(lambda x: head(unit(norm(x, 'input_bn'), 'a', 4)), {'input': [1]},
                             {'a': [4, 3], 'out': [5, 4]}),
    'two outputs': Case(two_outputs, {'a': [0], 'b': [1, 2]},
                        {'a': [3, 3], 'b': [2, 3], 'small': [2, 3], 'out': [5, 2]}),
    # Additions
    'addition': Case(lambda x: (lambda a: head(a + unit(a, 'b', 4)))(unit(x, 'a', 4)), {'a': [0, 1], 'b': [1, 2]},
                     {'a': [3, 3], 'b': [3, 3], 'out': [5, 3]}, left=['elemwise_add']),
    'addition of a branch of zeros': Case(lambda x: (lambda a: head(a + unit(a, 'b', 4)))(unit(x, 'a', 4)), {'b': ALL},
                                          {'a': [4, 3], 'b': None, 'out': [5, 4]}, removed=['elemwise_add']),
    'addition to zeros': Case(lambda x: head(unit(x, 'a', 4) + unit(x, 'b', 4)), {'a': ALL, 'b': [3]},
                              {'a': None, 'b': [3, 3], 'out': [5, 3]}, removed=['elemwise_add']),
    'addition of zeros to zeros': Case(lambda x: head(unit(x, 'a', 4) + unit(x, 'b', 4)), {'a': ALL, 'b': ALL},
                                       {'a': None, 'b': [1, 3], 'out': [5, 1]}, removed=['elemwise_add']),
    'a branch dies at its root': Case(
        lambda x: (lambda a: head(a + conv(unit(a, 'b', 3), 'c', 4)))(unit(x, 'a', 4)), {'b': ALL},
        {'a': [4, 3], 'b': None, 'c': None, 'out': [5, 4]}, removed=['elemwise_add']),
    'pre-activation chain of blocks': Case(
        lambda x: (lambda a: (lambda b: head(b + conv(unit(b, 'd', 3), 'e', 4)))(a + conv(unit(a, 'b', 3), 'c', 4)))(
            conv(x, 'a', 4)), {'b': ALL, 'd': [1]},
        {'a': [4, 3], 'b': None, 'c': None, 'd': [2, 4], 'e': [4, 2], 'out': [5, 4]}),
    'ReLU of ReLU': Case(
        lambda x: (lambda a: head(S.Activation(a + unit(a, 'b', 4, act=None), act_type='relu')))(unit(x, 'a', 4)),
        {'b': ALL}, {'a': [4, 3], 'b': None, 'out': [5, 4]}, after={}, removed=['elemwise_add']),
    'addition of the input': Case(lambda x: head(x + unit(x, 'a', 3)), {'a': [1]}, {'a': [3, 3], 'out': [5, 3]}),
    'added to itself': Case(lambda x: (lambda a: head(a + a))(unit(x, 'a', 4)), {'a': [1]},
                            {'a': [3, 3], 'out': [5, 3]}),
    'sum of three': Case(lambda x: head(S.add_n(*[unit(x, name, 4) for name in 'abc'])),
                         {'a': [0, 1], 'b': [0, 2], 'c': [0, 3]},
                         {'a': [3, 3], 'b': [3, 3], 'c': [3, 3], 'out': [5, 3]}),
    'difference': Case(lambda x: head(unit(x, 'a', 4) - unit(x, 'b', 4)), {'a': [0, 1], 'b': [1, 2]},
                       {'a': [3, 3], 'b': [3, 3], 'out': [5, 3]}),
    'product': Case(lambda x: head(unit(x, 'a', 4) * unit(x, 'b', 4)), {'a': [0], 'b': [1]},
                    {'a': [2, 3], 'b': [2, 3], 'out': [5, 2]}),
    'maximum': Case(lambda x: head(S.maximum(unit(x, 'a', 4), unit(x, 'b', 4))), {'a': [0, 1], 'b': [1, 2]},
                    {'a': [3, 3], 'b': [3, 3], 'out': [5, 3]}),
    'quotient': Case(lambda x: head(unit(x, 'a', 4) / (unit(x, 'b', 4) + 1)), {'a': [0], 'b': [1]},
                     {'a': [4, 3], 'b': [4, 3], 'out': [5, 4]}),     # 0/0 would not be 0
    # Constants
    'constant branch': Case(constant_branch(lambda b: b), {}, {'a': [4, 3], 'b': None, 'out': [5, 4]}, GAMMA_ZERO,
                            removed=['elemwise_add'], left=['broadcast_add']),
    'constant through an unpadded convolution': Case(
        constant_branch(lambda b: unit(b, 'c', 4, kernel=1, no_bias=False)), {},
        {'a': [4, 3], 'b': None, 'c': None, 'out': [5, 4]}, GAMMA_ZERO, removed=['elemwise_add'],
        left=['broadcast_add']),
    'constant into padding is none': Case(
        constant_branch(lambda b: unit(b, 'c', 4)), {},
        {'a': [4, 3], 'b': [4, 4], 'c': [4, 4], 'out': [5, 4]}, GAMMA_ZERO, left=['elemwise_add']),
    'zero into padding is zero': Case(
        constant_branch(lambda b: conv(b, 'c', 4, no_bias=False)), {'b': ALL},
        {'a': [4, 3], 'b': None, 'c': None, 'out': [5, 4]}, removed=['elemwise_add'], left=['broadcast_add']),
    'constant through average pooling with zeros is none': Case(
        constant_branch(pool), {}, {'a': [4, 3], 'b': [4, 4], 'out': [5, 4]}, GAMMA_ZERO, left=['elemwise_add']),
    'constant through average pooling without zeros': Case(
        constant_branch(lambda b: pool(b, count_include_pad=False)), {},
        {'a': [4, 3], 'b': None, 'out': [5, 4]}, GAMMA_ZERO, left=['broadcast_add']),
    'constant through max pooling': Case(
        constant_branch(lambda b: pool(b, pool_type='max')), {},
        {'a': [4, 3], 'b': None, 'out': [5, 4]}, GAMMA_ZERO, left=['broadcast_add']),
    'constant through sum pooling is not known': Case(
        constant_branch(lambda b: pool(b, pool_type='sum')), {},
        {'a': [4, 3], 'b': [4, 4], 'out': [5, 4]}, GAMMA_ZERO, left=['elemwise_add']),
    'constant through scalars and functions': Case(
        constant_branch(lambda b: S.tanh(S.sqrt(2 * (3 - b) ** 2 / 4) ** 2) + S.clip(b, 0.2, 0.7) - S.exp(-b)), {},
        {'a': [4, 3], 'b': None, 'out': [5, 4]}, GAMMA_ZERO, left=['broadcast_add']),
    'constant of some channels only': Case(
        constant_branch(lambda b: b), {}, {'a': [4, 3], 'b': [4, 4], 'out': [5, 4]},
        {'b_bn_gamma': [0, 0, 1, 1], 'b_bn_beta': 1}, left=['elemwise_add']),
    'constant of a dead channel': Case(     # batch normalisation turns it into 1 or less than 0; c pads with zeros
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4, kernel=1), 'c', 3)), {'a': ALL},
        {'a': [1, 3], 'b': [2, 1], 'c': [3, 2], 'out': [5, 3]}, {'b_bn_beta': [1, -1, 1, -1], 'b_bn_moving_mean': 0}),
    # Concatenation, slices, parts
    'concatenation loses a branch': Case(
        lambda x: head(unit(S.concat(unit(x, 'a', 4), unit(x, 'b', 3), unit(x, 'c', 2)), 'd', 4)),
        {'a': [1], 'b': ALL}, {'a': [3, 3], 'b': None, 'c': [2, 3], 'd': [4, 5], 'out': [5, 4]}, left=['Concat']),
    'concatenation loses all but one': Case(
        lambda x: head(unit(S.concat(unit(x, 'a', 4), unit(x, 'b', 3), unit(x, 'c', 2)), 'd', 4)),
        {'a': ALL, 'c': ALL}, {'a': None, 'b': [3, 3], 'c': None, 'd': [4, 3], 'out': [5, 4]}, removed=['Concat']),
    'a dead layer needs nothing': Case(
        lambda x: head(unit(unit(unit(unit(x, 'a', 4), 'c', 4), 'b', 4), 'd', 2)), {'b': ALL},
        {'a': [1, 3], 'c': [1, 1], 'b': [1, 1], 'd': [1, 1], 'out': [5, 1]},
        {'d_bn_beta': 1, 'd_bn_moving_mean': 0}),
    'a dead layer that others feed on': Case(       # c reads a too, so that only b gets narrow
        lambda x: (lambda a: head(unit(S.concat(unit(unit(a, 'b', 4), 'd', 2), unit(a, 'c', 3)), 'e', 4)))(
            unit(x, 'a', 4)),
        {'b': ALL, 'a': [0]}, {'a': [3, 3], 'b': [1, 3], 'd': [2, 1], 'c': [3, 3], 'e': [4, 5], 'out': [5, 4]},
        {'d_bn_beta': 1, 'd_bn_moving_mean': 0}),
    'a layer that is dead because of constants needs them': Case(       # c is 1 and 2, d negative, e positive
        lambda x: (lambda a: head(unit(S.concat(unit(unit(unit(unit(a, 'b', 2, 1), 'c', 2, 1), 'd', 2, 1), 'e', 2, 1),
                                                a), 'f', 3)))(unit(x, 'a', 4)), {'b': ALL},
        {'a': [4, 3], 'b': [1, 4], 'c': [1, 1], 'd': [1, 1], 'e': [2, 1], 'f': [3, 6], 'out': [5, 3]},
        {'c_bn_beta': [1, 2], 'c_bn_moving_mean': 0, 'd_bn_beta': -100, 'e_bn_beta': 1, 'e_bn_moving_mean': 0}),
    'concatenation loses all': Case(
        lambda x: head(unit(S.concat(unit(x, 'a', 4), unit(x, 'c', 3)), 'b', 4)), {'a': ALL, 'c': ALL},
        {'a': [1, 3], 'c': None, 'b': [1, 1], 'out': [5, 1]}, POSITIVE, removed=['Concat']),
    'dense connection': Case(
        lambda x: (lambda a: head(conv(S.Activation(norm(S.concat(a, conv(a, 'b', 3)), 'n_bn'), act_type='relu'),
                                       'c', 4)))(conv(x, 'a', 4)), {'n': [0, 4, 6]},
        {'a': [4, 3], 'b': [1, 4], 'c': [4, 5], 'out': [5, 4]}),    # channel 0 of a stays, b reads it
    'slices': Case(lambda x: slices(x, (0, 3), (3, None), (-2, 6)), {'a': [0, 4]},
                   {'a': [4, 3], 'part0': [2, 2], 'part1': [2, 2], 'part2': [2, 1], 'out': [5, 6]}),
    'a slice of nothing but zeros': Case(
        lambda x: slices(x, (0, 2), (2, 6)), {'a': [0, 1]},
        {'a': [4, 3], 'part0': None, 'part1': [2, 4], 'out': [5, 2]},
        {'part0_bn_beta': 1, 'part0_bn_moving_mean': 0}),
    'slice of the height': Case(between(lambda a: S.slice_axis(a, axis=2, begin=1, end=5)), {'a': [1]}, LOST),
    'the size of another result': Case(between(lambda a: S.slice_like(
        a, S.slice_axis(a, axis=2, begin=1, end=6) * 0, axes=(2, -1))), {'a': [1]}, LOST),
    'a grid of the size of a result': Case(
        between(lambda a: S.concat(a, S.slice_like(S.var('grid', shape=(2, 3, 16, 9)), a * 0, axes=(2, 3)))),
        {'a': [1]}, {'a': [3, 3], 'b': [4, 6], 'out': [5, 4]}),
    'the size of a result of zeros': Case(
        lambda x: head(unit(S.slice_like(S.var('grid', shape=(2, 3, 16, 9)), unit(x, 'a', 4), axes=(2, 3)), 'b', 4)),
        {'a': ALL}, {'a': [1, 3], 'b': [4, 3], 'out': [5, 4]}),
    'a vector of the size of the batch': Case(
        between(lambda a: S.broadcast_add(a, S.reshape(S.slice_like(S.var('each', shape=(9,)), a, axes=(0,)),
                                                       (-1, 1, 1, 1)))), {'a': [1]}, KEPT, unhandled=['Reshape']),
    'as many channels as another result': Case(
        between(lambda a: S.slice_like(a, S.slice_axis(a, axis=1, begin=0, end=3))), {'a': [1]},
        {'a': [4, 3], 'b': [4, 3], 'out': [5, 4]}, unhandled=['slice_like']),
    'equal parts': Case(split, {'a': [0, 3, 1]}, {'a': [4, 3], 'b': [2, 2], 'c': [3, 2], 'out': [5, 5]}),
    'input is concatenated': Case(lambda x: head(unit(S.concat(x, unit(x, 'a', 2)), 'b', 4)), {'a': [1]},
                                  {'a': [1, 3], 'b': [4, 4], 'out': [5, 4]}),
    # Groups
    'grouped convolution': Case(
        lambda x: head(unit(unit(unit(x, 'a', 8), 'g', 8, num_group=4), 'd', 3)), {'g': [0, 1, 2]},
        {'a': [6, 3], 'g': [6, 2], 'd': [3, 6], 'out': [5, 3]}, after={'g': {'num_group': '3', 'num_filter': '6'}}),
    'grouped convolution, uneven': Case(
        lambda x: head(unit(unit(unit(x, 'a', 6), 'g', 9, num_group=3, no_bias=False), 'd', 3)), {'g': [3, 4, 5]},
        {'a': [4, 3], 'g': [6, 2], 'd': [3, 6], 'out': [5, 3]}, after={'g': {'num_group': '2', 'num_filter': '6'}}),
    'grouped convolution without input': Case(
        lambda x: head(unit(unit(unit(x, 'a', 8), 'b', 8, num_group=4), 'd', 3)), {'a': [0, 1, 2]},
        {'a': [6, 3], 'b': [6, 2], 'd': [3, 6], 'out': [5, 3]}, NEGATIVE),
    'all groups': Case(
        lambda x: head(unit(unit(unit(x, 'a', 8), 'g', 8, num_group=4), 'b', 3)), {'g': ALL},
        {'a': [1, 3], 'g': [1, 1], 'b': [1, 1], 'out': [5, 1]}, POSITIVE, after={'g': {'num_group': '1'}}),
    'one group, and a part of it': Case(        # a plain convolution remains
        lambda x: head(unit(unit(unit(x, 'a', 4), 'g', 4, num_group=2), 'd', 3)), {'a': [2], 'g': [0, 1, 3]},
        {'a': [1, 3], 'g': [1, 1], 'd': [3, 1], 'out': [5, 3]},
        after={'g': {'num_group': '1', 'num_filter': '1'}}),
    'depthwise': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'g', 4, num_group=4), 'd', 3)), {'g': [1]},
        {'a': [3, 3], 'g': [3, 1], 'd': [3, 3], 'out': [5, 3]}, after={'g': {'num_group': '3'}}),
    'depthwise makes a constant of zero': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4, num_group=4), 'd', 3)), {'a': [1]},
        {'a': [4, 3], 'b': [4, 1], 'd': [3, 4], 'out': [5, 3]}, POSITIVE),
    # Dense layers
    'flatten': Case(lambda x: dense(S.Flatten(unit(x, 'a', 4))), {'a': [1]}, {'a': [3, 3], 'out': [5, 3 * 64]}),
    'reshape to two axes': Case(lambda x: dense(S.reshape(unit(x, 'a', 4), shape=(-1, 256))), {'a': [1]},
                                {'a': [3, 3], 'out': [5, 3 * 64]}),
    'dense layer that flattens': Case(lambda x: dense(unit(x, 'a', 4)), {'a': [1, 2]},
                                      {'a': [2, 3], 'out': [5, 2 * 64]}),
    'hidden dense layer': Case(
        lambda x: dense(S.Activation(dense(S.Flatten(unit(x, 'a', 4)), 'hidden', 6), act_type='relu')), {'a': [1]},
        {'a': [3, 3], 'hidden': [4, 3 * 64], 'out': [5, 4]},
        {'hidden_weight': np.reshape([1, 0, 1, 0, 1, 1], (6, 1)), 'hidden_bias': [1, 0, 1, -1, 1, 1]}),
    'normalised dense layer': Case(
        lambda x: dense(S.Activation(norm(dense(unit(x, 'a', 4), 'hidden', 6), 'hidden_bn'), act_type='relu')),
        {'a': [0], 'hidden': [0, 5]}, {'a': [3, 3], 'hidden': [4, 3 * 64], 'out': [5, 4]}),
    'dense layer over the last axis': Case(
        lambda x: S.reshape(dense(unit(x, 'a', 4), flatten=False), shape=(0, -1)), {'a': [1]},
        {'a': [4, 3], 'out': [5, 8]}, unhandled=['FullyConnected(out)']),
    # Attention
    'squeeze and excitation': Case(squeeze_and_excitation, {'a': [2, 5]},
                                   {'a': [4, 3], 'squeeze': [3, 4], 'excite': [4, 3], 'out': [5, 4]}),
    'excitation with new axes': Case(excitation_with_new_axes, {'a': [2, 5]},
                                     {'a': [4, 3], 'excite': [4, 4], 'out': [5, 4]}),
    'one channel for all': Case(
        lambda x: (lambda a: head(S.broadcast_mul(a, unit(a, 'm', 1, act='sigmoid'))))(unit(x, 'a', 4)), {'a': [1]},
        {'a': [3, 3], 'm': [1, 3], 'out': [5, 3]}),
    'a parameter per channel': Case(
        lambda x: head(S.broadcast_mul(unit(x, 'a', 4), S.var('scale', shape=(1, 4, 1, 1)))), {'a': [1]},
        {'a': [3, 3], 'out': [5, 3]}),
    'a parameter per channel that is zero': Case(
        lambda x: head(S.broadcast_mul(unit(x, 'a', 4), S.var('scale', shape=(1, 4, 1, 1)))), {},
        {'a': [2, 3], 'out': [5, 2]}, {'scale': np.reshape([0, 1, 0, 1], (1, 4, 1, 1))}),
    'a parameter for all channels': Case(
        lambda x: head(S.broadcast_mul(unit(x, 'a', 4), S.var('scale', shape=(1, 1, 8, 8)))), {'a': [1]},
        {'a': [3, 3], 'out': [5, 3]}),
    # Transposed convolution
    'transposed convolution': Case(lambda x: head(deconv(unit(x, 'a', 4), 'd', 6)), {'a': [0], 'd': [1, 5]},
                                   {'a': [3, 3], 'd': [4, 3], 'out': [5, 4]}),
    'transposed convolution with bias, all input zero': Case(
        lambda x: head(deconv(unit(x, 'a', 4), 'b', 6, no_bias=False)), {'a': ALL},
        {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]}, {'b_bias': [1, -1, 1, -1, -1, -1], 'b_bn_gamma': 1, 'b_bn_beta': 0,
                                                   'b_bn_moving_mean': 0}),
    'grouped transposed convolution': Case(
        lambda x: head(deconv(unit(x, 'a', 4), 'd', 6, num_group=2)), {'d': [0, 1, 2, 3]},
        {'a': [2, 3], 'd': [2, 2], 'out': [5, 2]}, after={'d': {'num_group': '1', 'num_filter': '2'}}),
    # One operator between two layers: channel 1 of the first is zero
    **{f'between, {name}': Case(between(middle), {'a': [1]}, LOST) for name, middle in {
        'dropout': lambda a: S.Dropout(a, p=0.5), 'copy': S.identity, 'stopped gradient': S.BlockGrad,
        'cast': lambda a: S.cast(a, dtype='float32'), 'max pooling': lambda a: pool(a, pool_type='max'),
        'average pooling': pool, 'sum pooling': lambda a: pool(a, pool_type='sum'),
        'average pooling, ceiling': lambda a: pool(a, pooling_convention='full', stride=(2, 2)),
        'global max pooling': lambda a: S.Pooling(a, global_pool=True, pool_type='max', kernel=(1, 1)),
        'adaptive pooling': lambda a: S.contrib.AdaptiveAvgPooling2D(a, output_size=3),
        'bilinear resize': lambda a: S.contrib.BilinearResize2D(a, height=11, width=5),
        'upsampling': lambda a: S.UpSampling(a, scale=2, sample_type='nearest'),
        'padding': lambda a: S.pad(a, mode='constant', constant_value=0, pad_width=(0, 0, 0, 0, 1, 2, 0, 1)),
        'edge padding': lambda a: S.pad(a, mode='edge', pad_width=(0, 0, 0, 0, 1, 2, 0, 1)),
        'sum': lambda a: S.sum(a, axis=(2, 3), keepdims=True), 'mean': lambda a: S.mean(a, axis=3, keepdims=True),
        'maximum over axes': lambda a: S.max(a, axis=(2, 3), keepdims=True),
        'squeeze': lambda a: S.squeeze(S.expand_dims(a, axis=4), axis=4),
        'reshape of the size': lambda a: S.reshape(a, shape=(0, 0, 4, 16)),
        'softsign': lambda a: S.Activation(a, act_type='softsign'), 'relu6': lambda a: S.clip(a, 0, 6),
        'tanh': S.tanh, 'relu': S.relu, 'abs': S.abs, 'square': S.square,
        'erf': S.erf, 'negative': lambda a: -a, 'twice': lambda a: a * 2, 'half': lambda a: a / 2,
        'power': lambda a: a ** 2, 'one': lambda a: S.exp(a) - 1, 'maximum with a number': lambda a: S.maximum(a, 0),
        'minimum with a number': lambda a: S.minimum(a, 3),
        'hard swish': lambda a: a * S.clip(a + 3, 0, 6) / 6, 'swish': lambda a: a * S.sigmoid(a),
        'hard sigmoid': lambda a: a * S.hard_sigmoid(a),
        **{act: lambda a, act=act: S.LeakyReLU(a, act_type=act) for act in ('leaky', 'elu', 'gelu', 'selu')},
        'slope per channel': lambda a: S.LeakyReLU(a - 0.0, S.var('slope', shape=(4,)), act_type='prelu'),
        'one slope': lambda a: S.LeakyReLU(a, S.var('slope', shape=(1,)), act_type='prelu'),
    }.items()},
    **{f'between, {name}': Case(between(middle), {'a': [1]}, KEPT) for name, middle in {
        'plus one': lambda a: a + 1, 'one minus': lambda a: 1 - a, 'sigmoid': S.sigmoid, 'exp': S.exp,
        'clip above zero': lambda a: S.clip(a, 1, 6), 'maximum with one': lambda a: S.maximum(a, 1),
        'softrelu': lambda a: S.Activation(a, act_type='softrelu'), 'power zero': lambda a: a ** 0,
        'padding with ones': lambda a: S.pad(a, mode='constant', constant_value=1, pad_width=(0,) * 4 + (1,) * 4),
    }.items()},
    # Operators that are unknown, at least in this form
    **{f'between, {name}': Case(between(middle), {'a': [1]}, KEPT, unhandled=unhandled)
       for name, (middle, unhandled) in {
        'local normalisation': (lambda a: S.LRN(a, nsize=3, name='lrn'), ['LRN(lrn)']),
        'softmax': (lambda a: S.softmax(a, axis=1, name='softmax'), ['softmax(softmax)']),
        'instance normalisation': (lambda a: S.InstanceNorm(a, name='n'), ['InstanceNorm(n)']),
        'mean over channels': (lambda a: S.broadcast_add(a, S.mean(a, axis=1, keepdims=True, name='m')), ['mean(m)']),
        'mean over all': (lambda a: S.broadcast_mul(a, S.mean(a, keepdims=True, name='m')), ['mean(m)']),
        'negative axis': (lambda a: S.concat(a, a, dim=-1, name='c'), ['Concat(c)']),
        'bilinear upsampling': (lambda a: S.UpSampling(a, S.var('up_weight'), scale=2, sample_type='bilinear',
                                                       num_filter=4, name='up'), ['UpSampling(up)']),
        'transposed': (lambda a: S.transpose(S.transpose(a, axes=(0, 2, 3, 1), name='t'), axes=(0, 3, 1, 2), name='u'),
                       ['transpose(t)', 'transpose(u)']),
        'normalised over the width': (lambda a: S.BatchNorm(a, axis=3, name='n'), ['BatchNorm(n)']),
    }.items()},
    'channel shuffle': Case(shuffle, {'a': [1]}, KEPT, unhandled=['Reshape', 'SwapAxis', 'Reshape']),
    'shared weights': Case(shared_weights, {'a': [1], 'first': [0], 'second': [1]},
                           {'a': [4, 3], 'first': [4, 4], 'second': [4, 4], 'out': [5, 4]},
                           unhandled=['Convolution', 'Convolution']),
    'unknown further down': Case(
        lambda x: head(S.LRN(unit(unit(x, 'a', 4), 'b', 4), nsize=3, name='lrn')), {'a': [1], 'b': [2]},
        {'a': [3, 3], 'b': [4, 3], 'out': [5, 4]}, unhandled=['LRN(lrn)']),
}


def network(case, fill):
    """A SymbolBlock of the case with random values, its zero channels and its values."""
    symbol = case.build(S.var('data'))
    net = gluon.SymbolBlock(symbol, S.var('data', dtype='float32'))
    arguments, _, auxiliary = symbol.infer_shape(data=SHAPE)
    shapes = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + auxiliary))
    parameters = net.collect_params()
    for name, parameter in parameters.items():
        parameter.shape = shapes[name]
    fill(net)
    for name, channels in case.zeros.items():
        case_values = {f'{name}_bn_{part}': (channels, 0) for part in ('gamma', 'beta')}
        for parameter, (where, value) in case_values.items():
            array = parameters[parameter].data().asnumpy()
            array[where] = value
            parameters[parameter].set_data(mx.nd.array(array))
    for name, value in case.values.items():
        array = parameters[name].data().asnumpy()
        factor = np.broadcast_to(np.asarray(value, 'float32'), array.shape)
        parameters[name].set_data(mx.nd.array(array * factor if name.endswith('weight') else factor))
    return net
