"""INT8 of single layers: close to float32 for every operator, and what MXNet cannot quantize stays and is named."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn, rnn

import sss_gluon as sss
import sss_gluon.graph.int8 as ours
from sss_gluon.errors import SSSError
from sss_gluon.graph.fold import fold
from sss_gluon.graph.inference import for_inference
from sss_gluon.graph.trace import trace


class Between(nn.HybridBlock):
    """An operator between two layers, of which the second has a dense layer behind it."""

    def __init__(self, operator, first, second):
        super().__init__()
        self.operator = operator
        with self.name_scope():
            self.first, self.second, self.out = first, second, nn.Dense(5)

    def hybrid_forward(self, F, x):
        return self.out(self.second(self.operator(F, self.first(x))))


def convolutions(operator, **options):
    return Between(operator, nn.Conv2D(8, 3, padding=1, in_channels=4), nn.Conv2D(8, 3, padding=1, **options))


def dense(operator):
    return Between(operator, nn.Dense(8, in_units=144), nn.Dense(8))


class Recurrent(nn.HybridBlock):
    def __init__(self, layer):
        super().__init__()
        with self.name_scope():
            self.layer, self.out = layer, nn.Dense(3)

    def hybrid_forward(self, F, x):
        return self.out(self.layer(F.reshape(x, (0, 4, 36))))


def leaky(**options):
    return lambda F, x: F.LeakyReLU(x, **options)


OPERATORS = {       # name: (operator, what stays in float32 behind a convolution, and behind a dense layer)
    'relu': (lambda F, x: F.relu(x), [], []),
    'Activation relu': (lambda F, x: F.Activation(x, act_type='relu'), [], []),
    'ReLU6': (lambda F, x: F.clip(x, 0, 6), [], []),
    'sigmoid': (lambda F, x: F.sigmoid(x), ['sigmoid'], ['sigmoid']),
    'swish': (lambda F, x: x * F.sigmoid(x), ['sigmoid', 'elemwise_mul'], ['sigmoid', 'elemwise_mul']),
    'GELU': (leaky(act_type='gelu'), ['LeakyReLU'], ['LeakyReLU']),
    'leaky ReLU': (leaky(act_type='leaky', slope=0.1), [], ['LeakyReLU']),
    'ELU': (leaky(act_type='elu'), ['LeakyReLU'], ['LeakyReLU']),
    'hard swish': (lambda F, x: x * F.clip(x + 3, 0, 6) / 6, ['_plus_scalar', 'clip', 'elemwise_mul', '_div_scalar'],
                   ['_plus_scalar', 'clip', 'elemwise_mul', '_div_scalar']),
    'sum': (lambda F, x: x + F.relu(x), [], []),
    'square': (lambda F, x: F.square(x), ['square'], ['square']),
    'concatenation': (lambda F, x: F.concat(x, 2 * x, dim=1), ['_mul_scalar'], ['_mul_scalar']),
}
POOLINGS = {'max': [], 'avg': [], 'sum': ['Pooling'], 'lp': ['Pooling']}


def pooling(kind):
    return lambda F, x: F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type=kind, p_value=2)


LAYERS = {          # what stays in float32 is a list of operators
    'global pooling of a kernel': (lambda: convolutions(lambda F, x: F.Pooling(
        x, kernel=(7, 7), stride=(1, 1), global_pool=True, pool_type='max')), []),
    'groups': (lambda: convolutions(lambda F, x: F.relu(x), groups=2), ['Convolution']),
    'depthwise': (lambda: convolutions(lambda F, x: F.relu(x), groups=8), []),
    'one dimension': (lambda: Between(lambda F, x: F.relu(F.reshape(x, (0, 0, -1))), nn.Conv2D(8, 3, in_channels=4),
                                      nn.Conv1D(8, 3, in_channels=8)), ['Activation', 'Convolution']),
    'three dimensions': (lambda: Between(lambda F, x: F.expand_dims(x, axis=2), nn.Conv2D(8, 3, in_channels=4),
                                         nn.Conv3D(8, (1, 3, 3), in_channels=8)), []),
    'transposed': (lambda: Between(lambda F, x: x, nn.Conv2D(8, 3, in_channels=4),
                                   nn.Conv2DTranspose(8, 3, in_channels=8)), ['Deconvolution']),
    'PReLU': (lambda: convolutions(lambda F, x: F.LeakyReLU(x, F.ones((8,)) * 0.2, act_type='prelu')),
              ['LeakyReLU']),
    'LSTM': (lambda: Recurrent(rnn.LSTM(8, layout='NTC', input_size=36)), ['RNN']),
    'GRU': (lambda: Recurrent(rnn.GRU(8, layout='NTC', input_size=36)), ['RNN']),
    **{f'{kind} pooling': (lambda kind=kind: convolutions(pooling(kind)), kept) for kind, kept in POOLINGS.items()},
    **{f'{name} behind a convolution': (lambda operator=operator: convolutions(operator), kept)
       for name, (operator, kept, _) in OPERATORS.items()},
    **{f'{name} behind a dense layer': (lambda operator=operator: dense(operator), kept)
       for name, (operator, _, kept) in OPERATORS.items()},
}


def prepared(make):
    net = make()
    mx.random.seed(0)
    np.random.seed(0)
    net.initialize(mx.init.Xavier())
    images = np.random.RandomState(0).standard_normal((32, 4, 6, 6)).astype('float32')
    net(mx.nd.array(images))
    return net, for_inference(fold(trace(net, (1, 4, 6, 6)))), images


@pytest.mark.parametrize('name', LAYERS)
def test_close_and_named(name):
    make, kept = LAYERS[name]
    _, program, images = prepared(make)
    quantized = ours.quantize(program, images)
    expected, found = program.run(images)[0], quantized.run(images)[0]
    assert 0 < np.sqrt(np.square(found - expected).mean()) < 0.05 * np.sqrt(np.square(expected).mean())
    listed = [text.partition('(')[0] for text in ours.float32_operators(quantized)]
    assert [op for op in listed if op not in ('_ones', '_mul_scalar')] == [op for op in kept if op != '_mul_scalar']
    layers = [node.name for node in program.nodes() if node.op in ('Convolution', 'FullyConnected')]
    plain = [f'{node.op}({node.name})' for node in quantized.nodes() if node.name in layers]
    assert set(plain) <= set(ours.float32_operators(quantized))


def test_outputs_that_are_wrong_are_refused(monkeypatch):
    """With ranges that are far too small."""
    _, program, images = prepared(LAYERS['relu behind a convolution'][0])
    measured = ours._Ranges

    def narrow(*given):
        found = measured(*given)
        found.min_max_dict = {name: (low / 50, high / 50) for name, (low, high) in found.min_max_dict.items()}
        return found

    monkeypatch.setattr(ours, '_Ranges', narrow)
    with pytest.raises(SSSError, match='INT8 outputs are off by .* does not bear 8 bits'):
        ours.quantize(program, images)


def test_of_what_compact_returns(tmp_path):
    """The weights are those that the compact network has now, in both formats."""
    runtime = pytest.importorskip('onnxruntime')
    net, _, images = prepared(lambda: convolutions(lambda F, x: x * F.sigmoid(x)))
    small = sss.compact(net, (1, 4, 6, 6))
    for parameter in small.net.collect_params().values():
        parameter.set_data(parameter.data() * 1.1)
    x = mx.nd.array(images)
    expected = small.net(x).asnumpy()
    assert np.abs(expected - net(x).asnumpy()).max() > 0.01 * np.abs(expected).max()

    assert small.export_onnx(tmp_path / 'net.onnx', x, dict(mean='0')) < 1e-5
    session = runtime.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    np.testing.assert_allclose(session.run(None, {'data': images})[0], expected, atol=1e-5 * np.abs(expected).max())
    assert session.get_modelmeta().custom_metadata_map == dict(mean='0')

    quantized = small.quantize(x)
    assert [text.partition('(')[0] for text in quantized.float32] == ['sigmoid', 'elemwise_mul']
    quantized.export(tmp_path / 'int8')
    found = sss.load(tmp_path / 'int8')(x).asnumpy()
    np.testing.assert_array_equal(found, quantized.net(x).asnumpy())
    assert 0 < np.sqrt(np.square(found - expected).mean()) < 0.05 * np.sqrt(np.square(expected).mean())
    assert len(repr(quantized)) < 200
