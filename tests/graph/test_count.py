import mxnet as mx
import pytest
from mxnet import gluon

from sss_gluon.graph import count
from sss_gluon.graph.count import LayerCount
from sss_gluon.models import get_model

S = mx.sym


def block(symbol, **shapes):
    """The symbol as an uninitialised network."""
    net = gluon.SymbolBlock(symbol, S.var('data', dtype='float32'))
    for name, parameter in net.collect_params().items():
        if name in shapes:
            parameter.shape = shapes[name]
    return net


# (layer on an input of (2, 6, 10, 8), its trained parameters, MACs of one image)
LAYERS = {
    'convolution': (lambda x: S.Convolution(x, num_filter=5, kernel=(3, 3), pad=(1, 1), name='x'),
                    5 * 6 * 9 + 5, 5 * 6 * 9 * 80),
    'without bias, stride, dilation': (
        lambda x: S.Convolution(x, num_filter=5, kernel=(3, 1), stride=(2, 2), dilate=(2, 1), no_bias=True, name='x'),
        5 * 6 * 3, 5 * 6 * 3 * (3 * 4)),        # (10 − 5)//2 + 1 rows and (8 − 1)//2 + 1 columns
    'grouped': (lambda x: S.Convolution(x, num_filter=9, kernel=(3, 3), pad=(1, 1), num_group=3, name='x'),
                9 * 2 * 9 + 9, 9 * 2 * 9 * 80),
    'depthwise': (lambda x: S.Convolution(x, num_filter=6, kernel=(3, 3), num_group=6, no_bias=True, name='x'),
                  6 * 9, 6 * 9 * 48),
    'transposed': (lambda x: S.Deconvolution(x, num_filter=4, kernel=(2, 2), stride=(2, 2), no_bias=False, name='x'),
                   6 * 4 * 4 + 4, 80 * 6 * 4 * 4),      # every input value goes to 4 channels of 2x2
    'transposed, grouped': (lambda x: S.Deconvolution(x, num_filter=4, kernel=(3, 3), num_group=2, name='x'),
                            6 * 2 * 9, 80 * 6 * 2 * 9),
    'dense': (lambda x: S.FullyConnected(x, num_hidden=7, name='x'), 7 * 480 + 7, 7 * 480),
    'dense, every position': (lambda x: S.FullyConnected(x, num_hidden=7, flatten=False, no_bias=True, name='x'),
                              7 * 8, 7 * 8 * 60),
    'norm': (lambda x: S.BatchNorm(x, fix_gamma=False, name='x'), 12, 0),
    'norm without gamma': (lambda x: S.BatchNorm(x, fix_gamma=True, name='x'), 6, 0),
    'layer norm': (lambda x: S.LayerNorm(x, axis=1, name='x'), 12, 0),
    'prelu': (lambda x: S.LeakyReLU(x, S.var('slope', shape=(6,)), act_type='prelu', name='x'), 6, 0),
}


@pytest.mark.parametrize('name', LAYERS)
def test_layers_by_hand(name):
    build, params, macs = LAYERS[name]
    symbol = build(S.var('data'))
    found = count(block(symbol), (2, 6, 10, 8))
    assert (found.params, found.macs) == (params, macs)
    assert found.params_without_bn == (0 if name.startswith('norm') else params)
    layer, = found.layers
    _, (shape,), _ = symbol.infer_shape(data=(2, 6, 10, 8))
    assert layer == LayerCount(layer.name, layer.op, shape, params, macs)
    assert count(block(symbol), (1, 6, 10, 8)).macs == macs     # per image


def test_one_dimensional_convolution():
    found = count(block(S.Convolution(S.var('data'), num_filter=5, kernel=(3,), name='x')), (1, 4, 10))
    assert (found.params, found.macs) == (5 * 4 * 3 + 5, 5 * 4 * 3 * 8)


def test_what_is_not_counted_is_listed():
    x = S.var('data')
    y = S.Activation(S.Convolution(x, num_filter=3, kernel=(1, 1)), act_type='relu')
    y = S.softmax(S.Flatten(S.Pooling(y + x, kernel=(2, 2), pool_type='max') + S.Pooling(y, kernel=(2, 2))))
    assert count(block(y), (1, 3, 4, 4)).uncounted \
        == {'Activation': 1, 'elemwise_add': 2, 'Pooling': 2, 'Flatten': 1, 'softmax': 1}


def test_shared_weights_are_counted_once_and_worked_with_twice():
    weight = S.var('weight', shape=(3, 3, 1, 1))
    y = S.var('data')
    for name in 'ab':
        y = S.Convolution(y, weight, num_filter=3, kernel=(1, 1), no_bias=True, name=name)
    found = count(block(y), (1, 3, 4, 4))
    assert [layer[3:] for layer in found.layers] == [(9, 144), (0, 144)]
    assert (found.params, found.macs) == (9, 288)


def test_fixed_parameters_are_not_trained():
    net = get_model('cifar_resnet20', depths=(1,), widths=(4,))
    before = count(net, (1, 3, 8, 8))
    net.stem.weight.grad_req = net.norm.gamma.grad_req = 'null'
    after = count(net, (1, 3, 8, 8))
    assert before.params - after.params == 16 * 3 * 9 + 4 and after.macs == before.macs
    assert before.params_without_bn - after.params_without_bn == 16 * 3 * 9


def test_factors_count_as_nothing():
    counts = {count(get_model('cifar_resnet20', factors=factors, depths=(1,), widths=(4,)), (1, 3, 8, 8)).params
              for factors in ((), 'block', 'neuron', ('neuron', 'block'))}
    # stem, BatchNorm 16 and 4, two 3x3, projection, last BatchNorm, dense layer
    assert counts == {432 + 32 + 8 + 16 * 4 * 9 + 4 * 4 * 9 + 16 * 4 + 8 + 4 * 10 + 10}


def test_sums_are_those_of_the_layers():
    found = count(get_model('peleenet'), (1, 3, 64, 64))
    assert found.params == sum(layer.params for layer in found.layers)
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.params - found.params_without_bn \
        == sum(layer.params for layer in found.layers if layer.op == 'BatchNorm') == 2 * 4_864
    assert [layer.name for layer in found.layers][:2] == ['stem_first_conv', 'stem_first_norm']
