"""Every operator of ``onnx_cases`` in ONNX Runtime is what MXNet computes, at batch sizes the export did not see."""
import mxnet as mx
import numpy as np
import pytest
from onnx_cases import CASES

from sss_gluon.errors import SSSError
from sss_gluon.graph.ir import Program, from_symbol
from sss_gluon.graph.onnx import write_onnx
from sss_gluon.graph.onnx_operators import TRANSLATIONS

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')
VERSION = tuple(map(int, runtime.__version__.split('.')[:2]))
# Averages over windows that reach over the edge were wrong in ONNX Runtime before 1.21, which Python 3.8 and 3.9 lack
AVERAGES = {'pooling avg full', 'pooling avg valid', 'pooling full, even'} if VERSION < (1, 21) else set()


def build(case, shape=(1, 4, 6, 6)):
    values, random = {}, np.random.RandomState(0)

    def parameter(name, given):
        value = random.standard_normal(given) if isinstance(given, tuple) else given
        values[name] = np.asarray(value, 'int32' if getattr(given, 'dtype', None) == np.int32 else 'float32')
        return mx.sym.var(name)

    symbol = case(mx.sym.var('data'), parameter)
    return Program(from_symbol(symbol), values, {'data': shape})


def agree(program, path, sizes=(2, 5)):
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for size in sizes:
        x = np.random.RandomState(size).standard_normal((size,) + program.input_shape[1:]).astype('float32')
        found = session.run(None, {'data': x})
        for a, b in zip(program.run(x), found):
            assert a.shape == b.shape
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * max(np.abs(a).max(), 1e-30))


@pytest.mark.parametrize('name', CASES)
def test_the_same_outputs(name, tmp_path):
    program = build(CASES[name])
    if name in AVERAGES:
        with pytest.raises(SSSError, match='Pooling'):
            write_onnx(program, tmp_path / 'net.onnx')
        assert not list(tmp_path.iterdir())
        return
    assert write_onnx(program, tmp_path / 'net.onnx') < 1e-5
    agree(program, tmp_path / 'net.onnx')


def test_every_translation_is_a_case():
    used = {node.op for case in CASES.values() for node in build(case).nodes()}
    assert TRANSLATIONS.keys() <= used


def test_a_larger_batch_in_the_trace(tmp_path):
    """Sizes that equal the batch size, or depend on it, are told from those that are constant."""
    for name in ('reshape -4 of the batch', 'channel shuffle', 'broadcast_like of the batch', 'slice_like'):
        program = build(CASES[name], (4, 4, 6, 6))
        write_onnx(program, tmp_path / 'net.onnx')
        agree(program, tmp_path / 'net.onnx', (1, 4, 6))


@pytest.mark.parametrize('case, sizes', [
    (lambda x, p: mx.sym.reshape(x, (0, -1)), ['N', 144]),
    (lambda x, p: mx.sym.reshape(x, (-1, 36)), [None, 36]),         # 4 N
    (lambda x, p: mx.sym.reshape(x, (1, -1)), [1, None]),
])
def test_names_of_sizes(case, sizes, tmp_path):
    write_onnx(build(case), tmp_path / 'net.onnx')
    given, = onnx.load(str(tmp_path / 'net.onnx')).graph.output
    assert [size.dim_param or size.dim_value or None for size in given.type.tensor_type.shape.dim] == sizes


def wrong(case):
    """A network in which one operator is computed wrongly by MXNet's exporter, or by ours, between right ones."""
    return lambda x, p: mx.sym.relu(case(mx.sym.broadcast_add(x, p('shift', (1, 4, 1, 1))), p))


@pytest.mark.parametrize('operator', ['Softsign', 'Neg'])
def test_the_first_wrong_operator_is_named(operator, tmp_path, monkeypatch):
    monkeypatch.setitem(TRANSLATIONS, 'sign', lambda w: w(operator, w.x))
    program = build(wrong(lambda x, p: mx.sym.sign(x, name='turn') * 2))
    with pytest.raises(SSSError, match=r'batch of 1 .* it first differs in sign\(turn\); nothing was written'):
        write_onnx(program, tmp_path / 'net.onnx')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('case, message', [
    (lambda x, p: mx.sym.gamma(x, name='factorial'), r'gamma\(factorial\) cannot be translated'),
    (lambda x, p: mx.sym.softmin(x, temperature=2, name='low'), r'softmin\(low\) cannot be translated'),
    (lambda x, p: mx.sym.Dropout(x, p=0.5, mode='always', name='noise'), r'Dropout\(noise\) cannot be translated'),
    (lambda x, p: x + mx.sym.zeros((1, 4, 6, 6)), 'takes 1 and not 2'),
])
def test_what_has_no_translation(case, message, tmp_path):
    with pytest.raises(SSSError, match=message):
        write_onnx(build(case), tmp_path / 'net.onnx')
    assert list(tmp_path.iterdir()) == []


def nearly_equal(x, p):
    """Each number twice, once through a root: rounding decides which of the two comes first."""
    sums = mx.sym.sum(x, axis=(2, 3))
    twice = mx.sym.concat(sums, mx.sym.cbrt(sums * sums * sums), dim=1)
    return mx.sym.broadcast_add(mx.sym.argsort(twice, name='order'), p('shift', (1, 8)))


def test_an_order_that_rounding_decides(tmp_path, monkeypatch):
    program = build(nearly_equal)
    batch = np.random.RandomState(0).standard_normal((8, 4, 6, 6)).astype('float32')
    assert write_onnx(program, tmp_path / 'net.onnx', batch) < 1e-5
    session = runtime.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    plain, = session.run(None, {'data': batch})
    assert np.abs(plain - program.run(batch)[0]).max() > 0.5        # another order, as the test is about
    for name, translation in {'argsort': lambda w: w('Floor', w.x), 'cbrt': lambda w: w('Mul', w.x, 0.5),
                              'broadcast_add': lambda w: w('Sub', *w.inputs)}.items():
        with monkeypatch.context() as patched:
            patched.setitem(TRANSLATIONS, name, translation)
            with pytest.raises(SSSError, match='differs by'):
                write_onnx(program, tmp_path / 'wrong.onnx', batch)
