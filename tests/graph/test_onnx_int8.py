"""INT8 in ONNX: ONNX Runtime computes in integers what it should, close to float32, from smaller files."""
import collections

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.errors import SSSError
from sss_gluon.graph.fold import fold
from sss_gluon.graph.inference import for_inference
from sss_gluon.graph.onnx_int8 import LARGEST, Scale, write_onnx_int8
from sss_gluon.graph.prune import prune_graph
from sss_gluon.graph.trace import trace
from sss_gluon.models import ARCHITECTURES, get_model

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')
VERSION = tuple(map(int, runtime.__version__.split('.')[:2]))
MOVING = {'Transpose', 'Flatten', 'Reshape', 'NhwcMaxPool', 'MaxPool', 'Gather'}
INTEGER = {'QLinearConv', 'QGemm', 'QLinearAdd', 'QLinearConcat', 'QLinearMul', 'QLinearGlobalAveragePool',
           'QLinearAveragePool', 'QLinearLeakyRelu', 'QLinearSigmoid'}


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype='float64'))))


def outputs(path, images):
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'data': images})


def kernels(path, tmp_path):
    """{operator: number} of what ONNX Runtime makes of a file."""
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / 'optimized.onnx'), 3
    runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return collections.Counter(node.op_type for node in onnx.load(tmp_path / 'optimized.onnx').graph.node)


def quantized(program, images, tmp_path):
    left = write_onnx_int8(program, tmp_path / 'int8.onnx', images)
    found = outputs(tmp_path / 'int8.onnx', images)[0]
    return left, rms(found - program.run(images)[0]) / rms(program.run(images)[0])


@pytest.mark.parametrize('name', ['cifar_vgg16', 'cifar_resnet20', 'cifar_resnet164', 'cifar_resnext20', 'resnet50',
                                  'peleenet'])
def test_networks_are_integers_from_end_to_end(name, narrow, fill, zero, tmp_path):
    options, size = narrow[name]
    net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, **options)), 0.3)
    program = for_inference(prune_graph(fold(trace(net, (1, 3, size, size))))[0])
    images = np.random.RandomState(0).standard_normal((32, 3, size, size)).astype('float32')
    left, error = quantized(program, images, tmp_path)
    assert 0 < error < 0.08 and left == []
    if VERSION < (1, 20):
        return      # it does not merge them all
    found = kernels(tmp_path / 'int8.onnx', tmp_path)
    assert set(found) - MOVING - INTEGER == {'QuantizeLinear'} and found['QuantizeLinear'] == 1     # of the input
    layers = [node for node in program.nodes() if node.op == 'Convolution']
    norms = [node for node in program.nodes() if node.op == 'BatchNorm']
    assert found['QLinearConv'] == len(layers) + len(norms)


def between(operator, **options):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1, in_channels=4), nn.HybridLambda(operator),
            nn.Conv2D(8, 3, padding=1, in_channels=8, **options), nn.Dense(5))
    return net


# {name: (network, what is left in float32 in ONNX's words)}
LAYERS = {
    'relu': (lambda: between('relu'), []),
    'ReLU6': (lambda: between(lambda F, x: F.clip(x, 0, 6)), []),
    'leaky ReLU': (lambda: between(lambda F, x: F.LeakyReLU(x, slope=0.1)), []),
    'swish': (lambda: between(lambda F, x: x * F.sigmoid(x)), []),
    'groups': (lambda: between('relu', groups=2), []),
    'depthwise': (lambda: between('relu', groups=8), []),
    'no bias': (lambda: between('relu', use_bias=False), []),
    'max pooling': (lambda: between(lambda F, x: F.Pooling(x, kernel=(2, 2), stride=(2, 2))), []),
    'average': (lambda: between(lambda F, x: F.Pooling(x, kernel=(2, 2), pool_type='avg')), []),
    'concatenation': (lambda: between(lambda F, x: F.slice_axis(F.concat(x, F.relu(x), dim=1), 1, 4, 12)), []),
    'a sum': (lambda: between(lambda F, x: x + F.relu(x)), []),
    'exp': (lambda: between(lambda F, x: F.exp(x)), ['Exp']),
    'square': (lambda: between(lambda F, x: F.square(x)), ['Pow']),
}


@pytest.mark.parametrize('name', LAYERS)
def test_layers(name, tmp_path):
    make, kept = LAYERS[name]
    net = make()
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    images = np.random.RandomState(0).standard_normal((32, 4, 6, 6)).astype('float32')
    net(mx.nd.array(images))
    program = for_inference(fold(trace(net, (1, 4, 6, 6))))
    left, error = quantized(program, images, tmp_path)
    assert 0 < error < 0.05 and [text.partition('(')[0] for text in left] == kept
    assert not {'Conv', 'Gemm'} & set(kernels(tmp_path / 'int8.onnx', tmp_path))


@pytest.mark.parametrize('low, high, scale, zero', [(0, 255, 1, 0), (-1, 0.5, 1.5 / 255, 170), (2, 5.1, 0.02, 0),
                                                    (-5.1, -2, 0.02, 255), (0, 0, 1, 0)])
def test_scales_hold_zero(low, high, scale, zero):
    assert Scale.of(low, high) == (pytest.approx(scale), zero)


def test_by_hand(tmp_path):
    """A convolution of one pixel: weights of 64ths, and pixels of 255ths, are exact; so is a bias."""
    net = nn.Conv2D(2, 1, in_channels=1)
    net.initialize()
    net.weight.set_data(mx.nd.array([[[[1.0]]], [[[-0.5]]]]))
    net.bias.set_data(mx.nd.array([0.0, 0.5]))
    program = fold(trace(net, (1, 1, 4, 4)))
    images = (np.arange(256)[:, None, None, None] * np.ones((1, 1, 4, 4)) / 255).astype('float32')
    write_onnx_int8(program, tmp_path / 'net.onnx', images)
    model = onnx.load(tmp_path / 'net.onnx')
    stored = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    weight, = (value for value in stored.values() if value.dtype == np.int8 and value.ndim == 4)
    assert weight.ravel().tolist() == [LARGEST, -LARGEST]
    bias, = (value for value in stored.values() if value.dtype == np.int32 and value.any())
    assert bias.tolist() == [0, round(0.5 / (0.5 / LARGEST / 255))]
    found = outputs(tmp_path / 'net.onnx', images)[0][:, :, 0, 0]
    expected = np.stack([np.arange(256) / 255, 0.5 - 0.5 * np.arange(256) / 255], axis=1)
    np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-6)      # outputs are rounded to 255ths


def test_of_what_compact_returns_and_files_are_smaller(fill, zero, tmp_path):
    net = zero(fill(get_model('cifar_resnet20', depths=(1, 1, 1), widths=(32, 64, 64))), 0.3)
    small = sss.compact(net, (1, 3, 16, 16))
    images = mx.nd.random.normal(shape=(32, 3, 16, 16))
    small.export_onnx(tmp_path / 'float.onnx', images)
    assert small.export_onnx_int8(tmp_path / 'int8.onnx', images, dict(mean='0')) == []
    assert (tmp_path / 'int8.onnx').stat().st_size < 0.4 * (tmp_path / 'float.onnx').stat().st_size
    expected, found = (outputs(tmp_path / f'{name}.onnx', images.asnumpy())[0] for name in ('float', 'int8'))
    assert 0 < rms(found - expected) < 0.08 * rms(expected)
    assert {entry.key: entry.value for entry in onnx.load(tmp_path / 'int8.onnx').metadata_props} == dict(mean='0')
    with pytest.raises(SSSError, match=r'calibration needs float32 images of shape \(N, 3, 16, 16\)'):
        small.export_onnx_int8(tmp_path / 'x.onnx', images[:, :, :8])
    assert not (tmp_path / 'x.onnx').exists()
