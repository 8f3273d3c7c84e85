"""What trains faster in other operators, beside the same symbol without them."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.contrib.amp.amp import bfloat16

from sss_gluon.errors import SSSError
from sss_gluon.graph.onednn import for_onednn
from sss_gluon.train.precision import check_bfloat16

S = mx.sym

# (input channels, output channels, groups, kernel, groups that it becomes); None: it stays as it is
CASES = {
    'four channels a group': (32, 32, 8, (3, 3), 2),
    'two channels a group': (32, 32, 16, (3, 3), 2),
    'other channels out than in': (32, 64, 8, (1, 3), 2),
    'half a block more': (48, 48, 2, (1, 1), 1),
    'whole blocks': (32, 32, 2, (3, 3), None),
    'depthwise': (16, 16, 16, (3, 3), None),
    'groups of four that do not fit': (24, 24, 6, (3, 3), 1),
    'others that do not fit': (24, 24, 3, (3, 3), None),
    'no groups': (3, 8, 1, (3, 3), None),
    'one dimension': (32, 32, 8, (3,), None),
}


def convolution(channels, groups, kernel, weight, bias=None, data=None):
    arguments = dict(bias=bias) if bias is not None else dict(no_bias=True)
    return S.Convolution(S.var('data') if data is None else data, weight, num_filter=channels, num_group=groups,
                         kernel=kernel, name='conv', **arguments)


def values_and_gradients(symbol, arrays):
    arrays = {name: mx.nd.array(array) for name, array in arrays.items()}
    for array in arrays.values():
        array.attach_grad()
    with autograd.record():
        output = mx.nd.CachedOp(symbol)(*(arrays[name] for name in symbol.list_inputs()))
        error = (mx.nd.sin(output.astype('float32'))).sum()
    error.backward()
    return [output.asnumpy()] + [arrays[name].grad.asnumpy() for name in sorted(arrays)]


def groups_of(symbol):
    return [int(node.get('attrs', {}).get('num_group', 1)) for node in json.loads(symbol.tojson())['nodes']
            if node['op'] == 'Convolution']


@pytest.mark.parametrize('case', CASES)
def test_it_is_the_same_function_with_the_same_gradients(case):
    inside, channels, groups, kernel, expected = CASES[case]
    shapes = {'data': (2, inside) + (5, 6)[:len(kernel)], 'weight': (channels, inside // groups) + kernel,
              'bias': (channels,)}
    symbol = convolution(channels, groups, kernel, S.var('weight'), S.var('bias'))
    new = for_onednn(symbol, shapes, 16)
    if expected is None:
        assert new is symbol
        return
    assert groups_of(new) == [expected]
    assert new.list_inputs() == symbol.list_inputs() and new.list_outputs() == symbol.list_outputs()
    random = np.random.RandomState(0)
    arrays = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    for found, wanted in zip(values_and_gradients(new, arrays), values_and_gradients(symbol, arrays)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


# {what is pooled: (attributes, whether it becomes a mean)}
POOLED = {'a global average': (dict(global_pool=True, pool_type='avg', kernel=(1, 1)), True),
          'a global maximum': (dict(global_pool=True, pool_type='max', kernel=(1, 1)), False),
          'averages': (dict(pool_type='avg', kernel=(2, 2)), False),
          'one dimension': (dict(global_pool=True, pool_type='avg', kernel=(1,)), False)}


@pytest.mark.parametrize('case', POOLED)
def test_a_global_average_is_a_mean_over_rows_and_columns(case):
    attributes, expected = POOLED[case]
    symbol = S.Pooling(S.var('data') * 2, name='pool', **attributes)
    shape = (2, 3, 4, 5)[:2 + len(attributes['kernel'])]
    new = for_onednn(symbol, {'data': shape}, 16)
    assert ('mean' in [node['op'] for node in json.loads(new.tojson())['nodes']]) == expected
    assert new.list_outputs() == symbol.list_outputs()
    arrays = {'data': np.random.RandomState(0).standard_normal(shape)}
    for found, wanted in zip(values_and_gradients(new, arrays), values_and_gradients(symbol, arrays)):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    symbol = cast(symbol)
    assert for_onednn(symbol, {'data': shape}, 16) is symbol


def test_weights_may_be_computed():
    """As those with a scaling factor are."""
    weight = S.broadcast_mul(S.var('weight'), S.reshape(S.var('factor'), (-1, 1, 1, 1)))
    shapes = {'data': (2, 32, 5, 5), 'weight': (32, 4, 3, 3), 'factor': (32,)}
    for block, expected in ((16, 2), (8, 4), (1, 8)):
        assert groups_of(for_onednn(convolution(32, 8, (3, 3), weight), shapes, block)) == [expected]


def works():
    try:
        check_bfloat16()
    except SSSError:
        return False
    return True


def cast(symbol):
    return S.amp_cast(symbol, dtype=bfloat16)


@pytest.mark.parametrize('inside', [1, 2, 3, 17])
def test_few_input_channels_become_even_in_bfloat16(inside):
    shapes = {'data': (2, inside, 5, 5), 'weight': (8, inside, 3, 3)}
    symbol = convolution(8, 1, (3, 3), cast(S.var('weight')), data=cast(S.var('data')))
    new = for_onednn(symbol, shapes, 16)
    if inside not in (1, 3):
        assert new is symbol
        return
    entering = new.get_internals()
    inputs = dict(zip(entering.list_outputs(), entering.infer_shape(**shapes)[1]))
    assert inputs['conv_concat_output'][1] == inside + 1
    if works():
        arrays = {name: np.random.RandomState(0).standard_normal(shape) for name, shape in shapes.items()}
        found, expected = (values_and_gradients(S.amp_cast(one, dtype='float32'), arrays) for one in (new, symbol))
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * np.abs(other).max())
    wide = convolution(8, 1, (3, 3), S.var('weight'))
    assert for_onednn(wide, shapes, 16) is wide
