"""Comparing two networks: at other sizes, around operators whose result jumps, and with random numbers."""
import ast

import mxnet as mx
import numpy as np
import pytest
from called import Unit
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.graph.fold import fold
from sss_gluon.graph.ir import Program
from sss_gluon.graph.prune import prune_graph
from sss_gluon.graph.trace import trace
from sss_gluon.graph.verify import defined, verify


class Tail(nn.HybridBlock):
    """Six channels, of which some are zero, and what ``tail(F, x)`` makes of them."""

    def __init__(self, tail):
        super().__init__()
        self.tail = tail
        with self.name_scope():
            self.first, self.body, self.last = Unit(6, 3), Unit(6, 6), nn.Conv2D(6, 1, in_channels=6)

    def hybrid_forward(self, F, x):
        return self.tail(F, self.last(self.body(self.first(x))))


@pytest.fixture
def pruned(fill, set_factors):
    """A function that gives a network with a tail, and four of its channels less."""
    def make(tail, shape=(1, 3, 8, 8)):
        net = set_factors(fill(Tail(tail)), {'first.norm': [1, 0, 1, 0, 1, 1], 'body.norm': [0, 1, 0, 1, 1, 1]})
        return net, sss.compact(net, shape)
    return make


def changed(program, name, by):
    """A copy of a program with another value of one parameter."""
    return Program(program.outputs, {**program.values, name: program.values[name] * by}, program.inputs)


# A reshape says more than the traced batch shows

SHAPES = {      # what a reshape behind 6 channels is given: batch sizes and heights at which it keeps images apart
    '(1, 6, -1)': ([1, 2], [8, 16]), '(0, 6, -1)': ([1, 2, 3], [8, 16]), '(-1, 6, 64)': ([1, 2, 3], [8]),
    '(0, -1, 64)': ([1, 2, 3], [8]), '(0, 0, -1)': ([1, 2, 3], [8, 16]), '(-1, 384)': ([1, 2, 3], [8]),
    '(0, -1)': ([1, 2, 3], [8, 16]), '(1, 384)': ([1], [8]), '(-2,)': ([1, 2], [8, 16]),
    '(0, -1, 4, 16)': ([1, 2, 3], [8]), '(0, 0, 4, -1)': ([1, 2], [8, 16]), '(0, -2)': ([1, 2], [8, 16]),
    '(0, 0, -3)': ([1, 2], [8, 16]), '(0, -4, 2, -1, -2)': ([1, 2], [8, 16]), '(0, 0, -4, 2, -1, 8)': ([1, 2], [8]),
    '(-1, 6, 8, 8)': ([1, 2], [8]), '(6, -1)': ([1, 2], [8, 16]), '(-1,)': ([1, 2], [8, 16]),
    '(2, 3, -1)': ([1, 2], [8, 16]),
}


@pytest.mark.parametrize('where', ['behind', 'between'])
@pytest.mark.parametrize('shape', SHAPES)
def test_reshapes(shape, where, fill, set_factors, batch, difference):
    """The compact network reshapes other batches and sizes as the network does, wherever channels go."""
    def reshaped(F, x):
        return F.reshape(x, shape=ast.literal_eval(shape))

    class Between(Tail):
        def hybrid_forward(self, F, x):
            return F.sum(F.relu(reshaped(F, self.first(x)) + 1), axis=-1, keepdims=True)

    net = fill(Tail(reshaped) if where == 'behind' else Between(None))
    set_factors(net, {'first.norm': [1, 0, 1, 0, 1, 1]})
    small = sss.compact(net, (1, 3, 8, 8))
    for size in SHAPES[shape][0]:
        for height in SHAPES[shape][1]:
            x = batch(size, 3, height, 8)
            assert difference(net(x), small.net(x)) < 1e-5
    if where == 'behind':
        assert small.after.params < small.before.params


def test_a_literal_batch_is_named(fill):
    class Between(Tail):
        def hybrid_forward(self, F, x):
            return F.mean(F.reshape(self.first(x), shape=(1, 6, -1)), axis=2)

    small = sss.compact(fill(Between(None)), (1, 3, 8, 8))
    assert any(text.endswith('shape=(1, 6, -1) fixes the batch size') for text in small.unhandled)


@pytest.mark.parametrize('tail, shape, fault', [        # what is wrong at the traced shape shows nowhere but at another
    (lambda F, x: F.reshape(x, (0, -1, 8)), (1, 3, 8, 8), {'shape': '(1, 48, -1)'}),
    (lambda F, x: F.reshape(x, (0, 6, -1)), (1, 3, 8, 8), {'shape': '(0, -1, 64)'}),
    (lambda F, x: F.slice(x, begin=(0, 0), end=(None, None)), (1, 3, 8, 8), {'end': '(1, None)'}),
    (lambda F, x: F.slice(x, begin=(0, 0), end=(None, None)), (2, 3, 8, 8), {'end': '(2, None)'}),
    (lambda F, x: F.slice(x, begin=(0, 0, 0), end=(None, None, None)), (1, 3, 8, 8), {'end': '(None, None, 8)'}),
    (lambda F, x: F.mean(x, axis=(2, 3)), (1, 3, 8, 8), {'axis': '(0, 2, 3)', 'keepdims': 'False'}),
])
def test_another_size_shows_it(tail, shape, fault, pruned):
    net, small = pruned(tail, shape)
    program = trace(net, shape)
    assert verify(program, small.program) < 1e-5
    node = small.program.outputs[0].node
    node.attrs.update(fault)
    with pytest.raises(sss.SSSError, match='the compact network'):
        verify(program, small.program)


@pytest.mark.parametrize('tail', [
    lambda F, x: F.slice_axis(F.BilinearResize2D(x, height=8, width=8) if hasattr(F, 'BilinearResize2D') else
                              F.contrib.BilinearResize2D(x, height=8, width=8), axis=2, begin=0, end=8),
    lambda F, x: F.FullyConnected(x, F.ones((4, 384)), num_hidden=4, no_bias=True),
    lambda F, x: F.broadcast_add(x, F.ones((1, 1, 8, 8))),
])
def test_networks_of_one_size(tail, pruned):
    """A network that takes one size, or one batch, is compared at what it takes."""
    net, small = pruned(tail)
    assert small.max_difference < 1e-5 and small.after.macs < small.before.macs


# Operators whose result jumps

def twins(F, x):
    """(N, values): each sum of channels twice, in another order, so that rounding decides which is the larger one."""
    sums = [F.reshape(F.sum(part / 3, axis=1), shape=(0, -1)) for part in (x, F.reverse(x, axis=1), x * 1.3 / 1.3)]
    return F.concat(*sums, dim=1)


def boxes(F, x):
    """(N, boxes, 6): class, score, corners."""
    scores = F.expand_dims(F.sigmoid(twins(F, x)), axis=2)
    corners = F.transpose(F.reshape(F.slice_axis(x, axis=1, begin=2, end=6), shape=(0, 0, -1)), axes=(0, 2, 1))
    return F.concat(F.zeros_like(scores), scores, F.tile(corners, reps=(1, 3, 1)), dim=2)


JUMPING = {
    'box_nms': lambda F, x: F.contrib.box_nms(boxes(F, x), overlap_thresh=0.5, id_index=0),
    'topk': lambda F, x: F.topk(twins(F, x), k=5, axis=1),
    'argsort': lambda F, x: F.argsort(twins(F, x), axis=1),
    'argmax': lambda F, x: F.argmax(twins(F, x), axis=1),
    'rounding': lambda F, x: F.round(x * 1e6), 'floor': lambda F, x: F.floor(x * 1e6),
    'whole numbers': lambda F, x: F.cast(F.cast(x * 1e6, 'int32'), 'float32'),
    'comparison': lambda F, x: F.broadcast_greater(F.sum(x, axis=1), F.sum(F.reverse(x, axis=1), axis=1)),
    'two in a row': lambda F, x: F.round(1e6 * F.topk(twins(F, x), k=64, axis=1, ret_typ='value')),
    'gathered': lambda F, x: F.pick(twins(F, x), F.argmax(twins(F, x), axis=1), axis=1),
}


@pytest.mark.parametrize('name', JUMPING)
def test_jumps_are_compared_at_what_goes_in(name, pruned):
    net, small = pruned(JUMPING[name])
    assert small.max_difference < 1e-4 and small.after.macs < small.before.macs


@pytest.mark.parametrize('name', JUMPING)
@pytest.mark.parametrize('parameter', ['last_weight', 'last_bias', 'first_conv_weight'])
def test_a_fault_in_front_of_a_jump_is_seen(parameter, name, pruned):
    net, small = pruned(JUMPING[name])
    program = trace(net, (1, 3, 8, 8))
    with pytest.raises(sss.SSSError, match='differs by'):
        verify(program, changed(small.program, parameter, np.float32(1.01)))


class Behind(Tail):
    """A head behind a jump, as in detectors of two stages."""

    def hybrid_forward(self, F, x):
        x = self.body(self.first(x))
        chosen = F.topk(twins(F, x), k=64, axis=1, is_ascend=True)
        return self.last(F.broadcast_add(x, F.reshape(chosen, shape=(0, 1, 8, 8))))


def test_what_follows_a_jump_is_compared(fill, set_factors):
    net = set_factors(fill(Behind(None)), {'first.norm': [1, 0, 1, 0, 1, 1]})
    small = sss.compact(net, (1, 3, 8, 8))
    assert small.max_difference < 1e-5
    with pytest.raises(sss.SSSError, match='differs by'):
        verify(trace(net, (1, 3, 8, 8)), changed(small.program, 'last_weight', np.float32(1.001)))


# An operator whose result depends on what is in memory, and on threads

def align(F, x):
    """Features of one region of the image and of 99 regions of no image, as on each level of an FPN."""
    return F.contrib.ROIAlign(x, F.concat(F.zeros((1, 5)), F.zeros((99, 5)) - 1, dim=0), (8, 8), 1.0, 2)


def test_regions_of_no_image(fill, pruned):
    program = trace(fill(Tail(lambda F, x: align(F, F.ones_like(x)))), (1, 3, 8, 8))
    expected = np.zeros((100, 6, 8, 8))
    expected[0] = 1
    np.testing.assert_array_equal(defined(program).run(np.zeros((1, 3, 8, 8), 'float32'))[0], expected)
    _, small = pruned(lambda F, x: align(F, F.exp(x)))
    assert small.max_difference < 1e-5 and small.after.macs < small.before.macs


# Random numbers

@pytest.mark.parametrize('tail', [
    lambda F, x: F.broadcast_add(x, F.random.normal(shape=(1, 6, 1, 1))),
    lambda F, x: x + F.random.uniform_like(x) if F is mx.nd else x + F.random.uniform(shape=(1, 6, 8, 8)),
    lambda F, x: F.Dropout(x, mode='always', p=0.5),
])
def test_random_operators_behind(tail, fill, set_factors):
    """All of the operator is left, so both networks can go on with the same draw."""
    net = set_factors(fill(Tail(tail)), {'first.norm': [1, 0, 1, 0, 1, 1]})
    small = sss.compact(net, (1, 3, 8, 8))
    assert small.after.macs < small.before.macs and small.max_difference < 1e-5


def test_random_operators_are_named(fill, set_factors):
    class Between(Tail):
        def hybrid_forward(self, F, x):
            return self.last(self.body(F.Dropout(self.first(x), mode='always', p=0.5)))

    net = set_factors(fill(Between(None)), {'first.norm': [1, 0, 1, 0, 1, 1]})
    with pytest.raises(sss.SSSError, match=r'because Dropout\(.*\) draws random numbers in inference'):
        sss.compact(net, (1, 3, 8, 8))


# Outputs that say little

@pytest.mark.parametrize('tail', [
    lambda F, x: F.slice_axis(x, axis=1, begin=0, end=1) * 0, lambda F, x: F.cast(x, 'int32'),
    lambda F, x: F.cast(x * 3, 'uint8'),
])
def test_outputs_of_other_types(tail, pruned):
    assert pruned(tail)[1].max_difference < 1e-5


def test_outputs_that_are_not_finite(pruned):
    with pytest.raises(sss.SSSError, match='outputs that are not finite'):
        pruned(lambda F, x: F.log(F.relu(x) * 0))


def test_folding_is_exact(pruned):
    net, _ = pruned(lambda F, x: x)
    program = trace(net, (1, 3, 8, 8))
    assert verify(program, fold(program)) < 1e-6


# Layers that are known in another form

@pytest.mark.parametrize('build, operator, reason', [
    (lambda: nn.BatchNorm(axis=2, in_channels=8), 'BatchNorm', 'over axis 2'),
    (lambda: nn.BatchNorm(axis=-1, in_channels=8), 'BatchNorm', 'over axis -1'),
    (lambda: nn.Dense(5, flatten=False, in_units=8), 'FullyConnected', 'flatten=False, over the last of 4 axes'),
    (lambda: nn.HybridLambda(lambda F, x: F.mean(x, axis=1, keepdims=True)), 'mean', 'over axis 1'),
    (lambda: nn.HybridLambda(lambda F, x: F.concat(x, x, dim=2)), 'Concat', 'over axis 2'),
    (lambda: nn.HybridLambda(lambda F, x: F.reshape(x, (0, 2, -1, 8))), 'Reshape', 'moves the channels'),
    (lambda: nn.HybridLambda(lambda F, x: F.LRN(x, nsize=3)), 'LRN', ''),
    (lambda: nn.HybridLambda(lambda F, x: F.FullyConnected(F.Flatten(x), F.reshape(x, (1, 384)), num_hidden=1,
                                                           no_bias=True)), 'FullyConnected', 'depends on the input'),
])
def test_reasons(build, operator, reason, fill):
    net = nn.HybridSequential()
    net.add(Unit(6, 3), build())
    found, = [text for text in sss.compact(fill(net), (1, 3, 8, 8)).unhandled if text.startswith(f'{operator}(')]
    assert reason in found if reason else ':' not in found


def test_layouts_say_so(fill):
    net = nn.HybridSequential()
    net.add(Unit(6, 3), nn.Conv2D(4, 1, layout='NHWC', in_channels=8))
    with pytest.raises(sss.SSSError, match=r'Convolution\(1\) has layout NHWC, which MXNet computes on GPUs only'):
        sss.compact(fill(net), (1, 3, 8, 8))
    _, unhandled = prune_graph(fold(trace(net, (1, 3, 8, 8))))
    assert unhandled == ['Convolution(1): layout NHWC, and channels are known as axis 1 only']


def test_shared_layers_say_so(fill):
    net, shared = nn.HybridSequential(), nn.Conv2D(6, 3, padding=1, in_channels=6)
    net.add(Unit(6, 3), shared, nn.Activation('relu'), shared)
    told = sss.compact(fill(net), (1, 3, 8, 8)).unhandled
    assert len(told) == 2 and all('shares 1.weight, 1.bias with another layer' in text for text in told)
