"""What the pass removes from a network that is used, and what it must leave in one that trains.

A channel of zeros is one whose scale and shift are held at 0. In training mode a BatchNorm uses the statistics of the
batch, and any other constant may change in the next step.
"""
from typing import Callable, Dict, NamedTuple

import mxnet as mx
import numpy as np
import pytest
from channel_cases import ALL, GAMMA_ZERO, KEPT, LOST, NEGATIVE, POSITIVE, SHAPE, network
from channel_cases import Case as Network
from mxnet import autograd
from small_networks import S, between, constant_branch, conv, head, norm, pool, unit

from sss_gluon.graph.block import to_block
from sss_gluon.graph.fold import fold
from sss_gluon.graph.prune import prune_graph
from sss_gluon.graph.trace import trace

WITHOUT_B = {'a': [4, 3], 'b': None, 'out': [5, 4]}


class Case(NamedTuple):
    build: Callable
    zeros: Dict[str, object]
    used: Dict[str, object]         # {layer: [outputs, inputs] that remain, None: removed} for inference
    trains: Dict[str, object]       # and for training
    values: Dict[str, object] = {}


CASES = {
    # The same in both
    'chain': Case(lambda x: head(unit(unit(x, 'a', 4), 'b', 4)), {'a': [1]}, LOST, LOST),
    # with a chance at which nothing drops: the draw depends on the width
    'dropout of zeros': Case(between(lambda a: S.Dropout(a, p=1e-7)), {'a': [1]}, LOST, LOST),
    'average of zeros': Case(between(pool), {'a': [1]}, LOST, LOST),
    'a branch of zeros': Case(lambda x: (lambda a: head(a + unit(a, 'b', 4)))(unit(x, 'a', 4)), {'b': ALL},
                              WITHOUT_B, WITHOUT_B),
    'a branch that dies at its root': Case(
        lambda x: (lambda a: head(a + conv(unit(a, 'b', 3), 'c', 4)))(unit(x, 'a', 4)), {'b': ALL},
        {**WITHOUT_B, 'c': None}, {**WITHOUT_B, 'c': None}),
    'a product with zeros': Case(lambda x: head(unit(x, 'a', 4) * unit(x, 'b', 4)), {'a': [0], 'b': [1]},
                                 {'a': [2, 3], 'b': [2, 3], 'out': [5, 2]}, {'a': [2, 3], 'b': [2, 3], 'out': [5, 2]}),
    'a concatenation loses a branch': Case(
        lambda x: head(unit(S.concat(unit(x, 'a', 4), unit(x, 'b', 3)), 'c', 4)), {'b': ALL},
        {'a': [4, 3], 'b': None, 'c': [4, 4], 'out': [5, 4]}, {'a': [4, 3], 'b': None, 'c': [4, 4], 'out': [5, 4]}),
    'whole groups': Case(
        lambda x: head(unit(unit(unit(x, 'a', 8), 'g', 8, num_group=4), 'd', 3)), {'g': [0, 1, 2]},
        {'a': [6, 3], 'g': [6, 2], 'd': [3, 6], 'out': [5, 3]}, {'a': [6, 3], 'g': [6, 2], 'd': [3, 6], 'out': [5, 3]}),
    'the sigmoid of zero': Case(between(S.sigmoid), {'a': [1]}, KEPT, KEPT),
    # Gone in inference, left in training
    'batch normalisation of zeros, then a ReLU': Case(
        lambda x: head(unit(S.relu(norm(unit(x, 'a', 4), 'n')), 'b', 4)), {'a': [1]}, LOST, KEPT,
        {'n_beta': -1, 'n_moving_mean': 0, 'n_gamma': 1}),
    'a layer without neurons, then negative constants': Case(
        lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': ALL}, {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]},
        {'a': [1, 3], 'b': [5, 1], 'out': [5, 5]}, NEGATIVE),
    'a layer without neurons, then positive constants': Case(
        lambda x: head(unit(unit(x, 'a', 4), 'b', 5)), {'a': ALL}, {'a': [1, 3], 'b': [1, 1], 'out': [5, 1]},
        {'a': [1, 3], 'b': [5, 1], 'out': [5, 5]}, POSITIVE),
    'a branch of constants': Case(constant_branch(lambda b: b), {}, WITHOUT_B, KEPT, GAMMA_ZERO),
    'dropout of constants': Case(constant_branch(lambda b: S.Dropout(b, p=0.5)), {}, WITHOUT_B, KEPT, GAMMA_ZERO),
    'a biased convolution of zeros': Case(
        lambda x: (lambda a: head(a + conv(unit(a, 'b', 4), 'c', 4, no_bias=False)))(unit(x, 'a', 4)), {'b': ALL},
        {**WITHOUT_B, 'c': None}, {'a': [4, 3], 'b': [1, 4], 'c': [4, 1], 'out': [5, 4]}),
    'a depthwise convolution of zeros, normalised': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'b', 4, num_group=4), 'd', 3)), {'a': [1]},
        {'a': [3, 3], 'b': [3, 1], 'd': [3, 3], 'out': [5, 3]}, {'a': [4, 3], 'b': [4, 1], 'd': [3, 4], 'out': [5, 3]},
        NEGATIVE),
    'a part of the last group': Case(
        lambda x: head(unit(unit(unit(x, 'a', 4), 'g', 4, num_group=2), 'd', 3)), {'a': [2], 'g': [0, 1, 3]},
        {'a': [1, 3], 'g': [1, 1], 'd': [3, 1], 'out': [5, 3]}, {'a': [2, 3], 'g': [2, 2], 'd': [3, 2], 'out': [5, 3]}),
    'the minimum with a positive parameter': Case(
        between(lambda a: S.broadcast_minimum(a, S.var('bound', shape=(1, 4, 1, 1)))), {'a': [1]}, LOST, KEPT,
        {'bound': 1}),
    'one minus one': Case(between(lambda a: S.exp(a) - 1), {'a': [1]}, LOST, KEPT),
}


def widths(program, layers):
    found = {node.name: list(program.values[node.inputs[1].node.name].shape[:2]) for node in program.nodes()
             if node.op in ('Convolution', 'FullyConnected')}
    return {layer: found.get(layer) for layer in layers}


@pytest.mark.parametrize('name', CASES)
def test_what_remains(name, fill, batch):
    case = CASES[name]
    program = fold(trace(network(Network(case.build, case.zeros, {}, case.values), fill), SHAPE))
    for training, expected in ((False, case.used), (True, case.trains)):
        reduced, _ = prune_graph(program, training=training)
        assert widths(reduced, expected) == expected
        whole, small = (to_block(part) for part in (program, reduced))
        for seed in (1, 2):     # the second time with other running statistics
            outputs = []
            for net in (whole, small):
                mx.random.seed(seed)
                with autograd.record(train_mode=training):
                    y = net(batch(*SHAPE, seed=seed))
                outputs.append(y.asnumpy())
            np.testing.assert_allclose(outputs[1], outputs[0], rtol=0, atol=1e-5 * np.abs(outputs[0]).max())
