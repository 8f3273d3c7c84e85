"""ONNX files: equal in ONNX Runtime at any batch size, parameters as constants; unequal files are not written."""
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import sss_gluon.graph.onnx as ours
from sss_gluon.errors import SSSError
from sss_gluon.graph.batchnorm import fold_batchnorm
from sss_gluon.graph.fold import fold
from sss_gluon.graph.ir import Program, from_symbol
from sss_gluon.graph.onnx_runtime import open_session, placed
from sss_gluon.graph.prune import prune_graph
from sss_gluon.graph.trace import trace
from sss_gluon.models import ARCHITECTURES, get_model

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')


def outputs(path, batch):
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'data': batch})


@pytest.mark.parametrize('cut', [False, True], ids=['dense', 'compact'])
@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name == 'vgg16' else ())
                                  for name in ARCHITECTURES])
def test_all_networks(name, cut, narrow, fill, zero, batch, tmp_path):
    """With and without BatchNorm folded, against the network in training."""
    options, size = narrow[name]
    net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, classes=7, **options)), 0.3 if cut else 0)
    program = fold(trace(net, (1, 3, size, size)))
    if cut:
        program = prune_graph(program)[0]
    for number, one in enumerate((program, fold_batchnorm(program))):
        path = tmp_path / f'{number}.onnx'
        assert ours.write_onnx(one, path) < 1e-5
        for images in (1, 3):
            x = batch(images, 3, size, size)
            expected, (found,) = net(x).asnumpy(), outputs(path, x.asnumpy())
            assert found.shape == (images, 7) and found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def small(fill):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4), nn.Activation('relu'), nn.Flatten(),
            nn.Dropout(0.5), nn.Dense(5, in_units=4 * 6 * 6))
    return fold(trace(fill(net), (1, 3, 8, 8)))


def test_the_file(fill, tmp_path):
    program = small(fill)
    ours.write_onnx(program, tmp_path / 'net.onnx', name='mine', metadata=dict(mean='1 2', classes='5'))
    model = onnx.load(str(tmp_path / 'net.onnx'))
    onnx.checker.check_model(model, full_check=True)
    shapes = {given.name: [size.dim_param or size.dim_value for size in given.type.tensor_type.shape.dim]
              for given in [*model.graph.input, *model.graph.output]}
    assert shapes == {'data': ['N', 3, 8, 8], program.outputs[0].node.name: ['N', 5]}
    assert model.graph.name == 'mine' and [(o.domain, o.version) for o in model.opset_import] == [('', 13)]
    assert {pair.key: pair.value for pair in model.metadata_props} == dict(mean='1 2', classes='5')
    stored = {given.name: onnx.numpy_helper.to_array(given) for given in model.graph.initializer}
    assert set(stored) == set(program.values)       # constants, not inputs
    for name, value in program.values.items():
        np.testing.assert_array_equal(stored[name], value)
    assert [path.name for path in tmp_path.iterdir()] == ['net.onnx']


class After(nn.HybridBlock):
    """A convolution and an operator."""

    def __init__(self, operator):
        super().__init__()
        self.operator = operator
        with self.name_scope():
            self.layer = nn.Conv2D(4, 3, in_channels=3)

    def hybrid_forward(self, F, x):
        return self.operator(F, self.layer(x))


OPERATORS = {
    'outputs in another order': lambda F, x: (F.softmax(F.flatten(F.relu(x))), x),
    'parts': lambda F, x: [F.split(x, 2, axis=1)[i] for i in (1, 0)],
}


def test_a_batch_that_stays_where_it_is_computed(fill, tmp_path):
    """``placed`` gives the outputs of ``session.run``, again in a second call and for another batch size."""
    ours.write_onnx(small(fill), tmp_path / 'net.onnx')
    session = open_session(tmp_path / 'net.onnx')
    for count in (2, 5):
        images = np.random.RandomState(count).standard_normal((count, 3, 8, 8)).astype('float32')
        call, expected = placed(session, images), outputs(tmp_path / 'net.onnx', images)
        for _ in range(2):
            found = [output.numpy() for output in call()]
            assert len(found) == len(expected) == 1
            np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize('name', OPERATORS)
def test_operators_at_any_batch(name, fill, batch, tmp_path):
    net = fill(After(OPERATORS[name]))
    ours.write_onnx(fold(trace(net, (1, 3, 8, 8))), tmp_path / 'net.onnx')
    for images in (1, 3, 8):
        x = batch(images, 3, 8, 8)
        expected, found = net(x), outputs(tmp_path / 'net.onnx', x.asnumpy())
        expected = expected if isinstance(expected, (list, tuple)) else [expected]
        assert len(expected) == len(found)
        for a, b in zip(expected, found):
            np.testing.assert_allclose(b, a.asnumpy(), rtol=0, atol=1e-5 * np.abs(a.asnumpy()).max())


def test_fixed_gamma_and_a_negative_axis(tmp_path):
    """MXNet ignores the stored gamma of 5; its exporter does not."""
    norm = mx.sym.BatchNorm(mx.sym.var('data'), *(mx.sym.var(name) for name in ('gamma', 'beta', 'mean', 'variance')),
                            axis=-1, eps=0)
    values = {name: np.full(2, value, 'float32') for name, value in dict(gamma=5, beta=1, mean=3, variance=4).items()}
    ours.write_onnx(Program(from_symbol(norm), values, {'data': (1, 2)}), tmp_path / 'net.onnx')
    found, = outputs(tmp_path / 'net.onnx', np.array([[5, 7]], 'float32'))
    np.testing.assert_allclose(found, [[2, 3]], rtol=1e-6)


def test_outputs_that_are_the_same_or_the_input(batch, tmp_path):
    x = mx.sym.var('data')
    y = mx.sym.relu(x)
    ours.write_onnx(Program(from_symbol(mx.sym.Group([y, x, y, x])), {}, {'data': (1, 3)}), tmp_path / 'net.onnx')
    given = batch(2, 3).asnumpy()
    for found, expected in zip(outputs(tmp_path / 'net.onnx', given), [np.maximum(given, 0), given] * 2):
        np.testing.assert_array_equal(found, expected)


def test_a_file_that_is_not_equal_is_not_kept(fill, tmp_path, monkeypatch):
    program, model = small(fill), ours._model

    def wrong(*arguments):
        found = model(*arguments)
        weight = next(given for given in found.graph.initializer if given.name.endswith('bias'))
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.01, weight.name))
        return found

    (tmp_path / 'net.onnx').write_text('the one before', 'utf-8')
    monkeypatch.setattr(ours, '_model', wrong)
    with pytest.raises(SSSError, match=r'batch of 1 .*\(1e-04\)'):
        ours.write_onnx(program, tmp_path / 'net.onnx')
    assert [(path.name, path.read_text('utf-8')) for path in tmp_path.iterdir()] == [('net.onnx', 'the one before')]


def test_a_graph_that_is_not_valid_is_not_kept(fill, tmp_path, monkeypatch):
    program, model = small(fill), ours._model

    def wrong(*arguments):
        found = model(*arguments)
        found.graph.node[0].op_type = 'Convolution'
        return found

    monkeypatch.setattr(ours, '_model', wrong)
    with pytest.raises(SSSError, match='not valid ONNX'):
        ours.write_onnx(program, tmp_path / 'net.onnx')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_without_the_packages(package, fill, tmp_path, monkeypatch):
    program = small(fill)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SSSError, match='pip install .*onnxruntime'):
        ours.write_onnx(program, tmp_path / 'net.onnx')
    assert list(tmp_path.iterdir()) == []


def test_onnx_is_left_as_it_was(fill, tmp_path):
    """Later checks of the user use the newest opset again."""
    ours.write_onnx(small(fill), tmp_path / 'net.onnx')
    assert dict(onnx.checker.DEFAULT_CONTEXT.opset_imports) == {'': onnx.defs.onnx_opset_version()}
