"""Factors in front of a layer: selections of channels in a stream, constants in biases, and zeros that stay."""
import mxnet as mx
import numpy as np
import onnx
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from sss_gluon import load
from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D, scaling_factors
from sss_gluon.graph import count
from sss_gluon.graph.inference import for_inference
from sss_gluon.graph.int8 import quantize
from sss_gluon.graph.onnx import write_onnx
from sss_gluon.structures import MaskedCounter, Shrunk, compact, rebuild

SHAPE = (2, 3, 8, 8)


class Stream(nn.HybridBlock):
    """Two pre-activation branches, one of them depthwise, and a layer that pads constants of 0.5."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.stem = nn.Conv2D(8, 3, padding=1, in_channels=3)
            self.norm = ScaledBatchNorm(8)
            self.conv = nn.Conv2D(8, 3, padding=1, in_channels=8)
            self.expand, self.expand_norm = nn.Conv2D(12, 1, in_channels=8, use_bias=False), ScaledBatchNorm(12)
            self.depthwise = nn.Conv2D(12, 3, padding=1, groups=12, in_channels=12, use_bias=False)
            self.depthwise_norm = nn.BatchNorm(in_channels=12)
            self.project = nn.Conv2D(8, 1, in_channels=12, use_bias=False)
            self.project_norm = ScaledBatchNorm(8)
            self.last, self.last_norm = nn.Conv2D(6, 1, in_channels=8), ScaledBatchNorm(6)
            self.padded = nn.Conv2D(4, 3, padding=1, in_channels=6)
            self.output = nn.Dense(5, in_units=4)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        x = x + self.conv(F.relu(self.norm(x)))
        y = F.relu(self.expand_norm(self.expand(x)))
        x = x + self.project_norm(self.project(F.relu(self.depthwise_norm(self.depthwise(y)))))
        y = F.sigmoid(self.last_norm(self.last(x)))
        return self.output(F.Pooling(self.padded(y), global_pool=True, pool_type='avg', kernel=(1, 1)))


HALF = {'norm': [0, 1] * 4, 'expand_norm': [0, 1] * 6, 'project_norm': [0, 1] * 4, 'last_norm': [1, 0, 1, 0, 1, 1]}
WIDTHS = {'stem': [8, 3], 'conv': [8, 4], 'expand': [6, 8], 'depthwise': [6, 1], 'project': [8, 6], 'last': [6, 8],
          'padded': [4, 6], 'output': [5, 4]}


@pytest.fixture
def stream(fill, set_factors):
    return set_factors(fill(Stream()), HALF)


def widths(small):
    return {name: row['after'] for name, row in small.structure.layers.items()}


def test_what_is_gone_and_what_stays(stream, difference, batch):
    small = compact(stream, SHAPE)
    assert widths(small) == WIDTHS
    assert difference(stream(batch(*SHAPE)), small.net(batch(*SHAPE))) < 1e-5
    rows = small.structure.factors
    assert {name: row.get('stay') for name, row in rows.items()} \
        == {'norm': None, 'expand_norm': None, 'project_norm': [0, 2, 4, 6], 'last_norm': [1, 3]}
    assert all(row['kept'] == np.flatnonzero(HALF[name]).tolist() for name, row in rows.items())
    assert small.structure.removed() == {'neuron': 4 + 6}
    stream_line, padded_line = small.stays
    assert '4 of 8' in stream_line and 'project_norm' in stream_line
    assert '2 of 6' in padded_line and 'last_norm' in padded_line and ' padded' in padded_line


@pytest.mark.parametrize('zeros, line', [
    ({'last_norm': 0}, '6 of 6 neurons of last_norm are zero but stay'),
    ({'last_norm': [0, 1, 1, 1, 1, 1]}, '1 of 6 neurons of last_norm is zero but stays'),
    ({'project_norm': [0, 1, 1, 1, 1, 1, 1, 1]}, '1 of 8 neurons of project_norm is zero but stays'),
])
def test_zeros_that_stay(zeros, line, fill, set_factors):
    small = compact(set_factors(fill(Stream()), zeros), SHAPE)
    assert small.after.macs == small.before.macs and small.structure.removed() == {'neuron': 0}
    assert len(small.stays) == 1 and small.stays[0].startswith(line)


@pytest.mark.parametrize('wrap, last, words', [
    (lambda F, x: x, 4, 'output of the network'),
    (lambda F, x: F.LRN(F.relu(x), nsize=3), 4, 'LRN'),
    (lambda F, x: F.mean(F.relu(x), axis=(2, 3)), 1, 'without channels'),
])
def test_other_reasons(wrap, last, words, fill, set_factors):
    class Layer(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.conv, self.norm = nn.Conv2D(4, 3, in_channels=3), ScaledBatchNorm(4)
                self.output = nn.Dense(2, in_units=4)

        def hybrid_forward(self, F, x):
            y = wrap(F, self.norm(self.conv(x)))
            return self.output(y) if last == 1 else y

    small = compact(set_factors(fill(Layer()), {'norm': 0 if last == 1 else [0, 0, 0, 1]}), SHAPE)
    stay = 1 if last == 1 else 3
    assert small.structure.removed() == {'neuron': 4 - stay if last == 1 else 0}
    begin = 'all 4 neurons of norm are zero; 1 stays' if last == 1 else '3 of 4 neurons of norm are zero but stay'
    assert small.stays[0].startswith(begin) and words in small.stays[0]


def test_every_macs_is_counted(stream):
    """8 · 8 positions: inputs · outputs · taps of the layers that are left."""
    small = compact(stream, SHAPE)
    by_hand = 64 * (8 * 3 * 9 + 8 * 4 * 9 + 6 * 8 + 6 * 9 + 8 * 6 + 6 * 8 + 4 * 6 * 9) + 5 * 4
    assert small.after.macs == by_hand == count(small.net, SHAPE).macs
    trained = [p for p in small.net.collect_params().values() if p.grad_req != 'null']
    assert small.after.params == sum(int(np.prod(p.shape)) for p in trained)
    assert MaskedCounter(stream, SHAPE, weights='nonzero').count(HALF).macs == by_hand


def test_files_and_rebuilt_networks(stream, batch, tmp_path):
    small, x = compact(stream, SHAPE), batch(*SHAPE)
    small.export(tmp_path / 'x')
    expected = small.net(x).asnumpy()
    np.testing.assert_array_equal(load(tmp_path / 'x')(x).asnumpy(), expected)
    same = rebuild(tmp_path / 'x-structure.json', params=tmp_path / 'x-0000.params', model=Stream)
    np.testing.assert_array_equal(same(x).asnumpy(), expected)
    fresh = rebuild(small.structure, model=Stream)
    assert {key: p.shape for key, p in fresh.collect_params().items()} \
        == {key: p.shape for key, p in small.net.collect_params().items()}
    assert fresh.collect_params()['norm_selection_channels'].data().asnumpy().tolist() == [1, 3, 5, 7]
    assert not fresh.collect_params()['project_bias'].data().asnumpy().any()


def test_it_trains(stream, batch):
    """The indices neither train nor decay, and what is not selected gets its gradient through the other way."""
    small = compact(stream, SHAPE)
    trainer = gluon.Trainer(small.net.collect_params(), 'sgd', dict(learning_rate=1e-3, wd=0.1), kvstore=None)
    losses = []
    for _ in range(3):
        with autograd.record():
            loss = small.net(batch(*SHAPE)).square().mean()
        loss.backward()
        trainer.step(1)
        losses.append(float(loss.asscalar()))
    assert losses[0] > losses[1] > losses[2]
    assert small.net.collect_params()['norm_selection_channels'].data().asnumpy().tolist() == [1, 3, 5, 7]
    assert (small.net.collect_params()['stem_weight'].grad().asnumpy() != 0).all()


def test_onnx_has_one_gather(stream, tmp_path):
    small = compact(stream, SHAPE)
    assert write_onnx(for_inference(small.program), tmp_path / 'x.onnx') < 1e-5
    operators = [node.op_type for node in onnx.load(tmp_path / 'x.onnx').graph.node]
    assert operators.count('Gather') == 1 and not {'Transpose', 'Shape'} & set(operators)


def test_int8(stream, batch):
    small = for_inference(compact(stream, SHAPE).program)
    quantized = quantize(small, batch(64, *SHAPE[1:], seed=3).asnumpy())
    x = batch(8, *SHAPE[1:]).asnumpy()
    expected, found = small.run(x)[0], quantized.run(x)[0]
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize('align, left', [(2, 4), (3, 6), (8, 8)])
def test_align_fills_selections(align, left, fill, set_factors, difference, batch):
    net = set_factors(fill(Stream()), {'norm': HALF['norm']})
    small = compact(net, SHAPE, align=align)
    assert widths(small)['conv'] == [8, left] and widths(small)['stem'] == [8, 3]
    assert difference(net(batch(*SHAPE)), small.net(batch(*SHAPE))) < 1e-5


def test_training_leaves_selections_to_the_end(stream, batch):
    """``Shrunk`` trains the stream as it is; ``compact`` selects afterwards."""
    masks = {factor.name: factor.values() == 0 for factor in scaling_factors(stream)}
    expected, copies = [], (stream, Shrunk(stream, SHAPE, masks).net)
    for net in copies:
        with autograd.record():
            y = net(batch(*SHAPE))
        expected.append(y.asnumpy())
    np.testing.assert_allclose(expected[1], expected[0], rtol=0, atol=1e-5 * np.abs(expected[0]).max())
    shrunk = Shrunk(stream, SHAPE, masks)
    assert not any('selection' in name for name in shrunk.net.collect_params())
    assert compact(shrunk.restore(), SHAPE).structure.layers['conv']['after'] == [8, 4]


def test_a_bias_by_hand():
    """1·2 + 0.5·3 of two constants; the third input varies."""
    net = nn.HybridSequential()
    net.add(ScaledConv2D(3, 1, in_channels=1, use_bias=True, kind='neuron'), nn.BatchNorm(in_channels=3),
            nn.Conv2D(1, 1, in_channels=3, use_bias=False))
    net.initialize()
    net[0].factor.set_data(mx.nd.array([0, 0, 1]))
    net[1].beta.set_data(mx.nd.array([2, 3, 0]))
    net[2].weight.set_data(mx.nd.array([1, 0.5, 7]).reshape((1, 3, 1, 1)))
    small = compact(net, (1, 1, 2, 2))
    parameters = {name: p.data().asnumpy().ravel().tolist() for name, p in small.net.collect_params().items()}
    assert parameters['2_bias'] == [3.5] and parameters['2_weight'] == [7]
