"""Networks that were exported, which have a graph and no layers."""
import mxnet as mx
import numpy as np
import pytest
from families import FAMILIES, SHAPE, conv, head, residual_v1
from mxnet import autograd, gluon
from mxnet.gluon import nn

import sss_gluon as sss

NAMES = [name for name in FAMILIES if name not in ('norms', 'own layers')]


def imported(net, fill, folder):
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros(SHAPE))
    fill(net)
    net.export(str(folder / 'net'))
    return gluon.SymbolBlock.imports(str(folder / 'net-symbol.json'), ['data'], str(folder / 'net-0000.params'))


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('name', NAMES)
def test_the_same_factors_as_before_the_export(name, fill, batch, tmp_path):
    net, x = FAMILIES[name][0](), batch(*SHAPE)
    block = imported(net, fill, tmp_path)
    before, parameters = block(x).asnumpy(), dict(block.collect_params().items())
    sss.add_factors(block, input_shape=SHAPE, log=None)
    sss.add_factors(net, input_shape=SHAPE, log=None)
    assert np.array_equal(block(x).asnumpy(), before)
    assert all(block.collect_params()[key] is parameter for key, parameter in parameters.items())
    mine, theirs = sss.scaling_factors(block), sss.scaling_factors(net)
    assert sorted((f.kind, f.parameter.shape) for f in mine) == sorted((f.kind, f.parameter.shape) for f in theirs)
    assert len({factor.name for factor in mine}) == len(mine)
    for factor in mine + theirs:
        size = factor.parameter.shape[0]
        factor.parameter.set_data(mx.nd.array(np.arange(size) % 2 if size > 1 else [0.5]))
    np.testing.assert_allclose(block(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-5)
    assert sss.compact(block, SHAPE).after.macs == sss.compact(net, SHAPE).after.macs


def test_it_trains_shrinks_and_gets_no_factor_twice(fill, batch, tmp_path):
    block, x = imported(residual_v1(), fill, tmp_path), batch(*SHAPE)
    sss.add_factors(block, input_shape=SHAPE, share=True, log=None)
    count = len(sss.scaling_factors(block))
    sss.add_factors(block, input_shape=SHAPE, share=True, log=None)
    assert len(sss.scaling_factors(block)) == count == 7
    trainer = sss.make_trainer(block, gamma=0.1, learning_rate=0.01)
    for _ in range(2):
        with autograd.record():
            loss = (block(x) ** 2).mean()
        loss.backward()
        trainer.step(1)
    assert all((factor.values() != 1).any() for factor in sss.scaling_factors(block))
    masks = {factor.name: np.arange(factor.parameter.shape[0]) == 0 for factor in sss.scaling_factors(block)
             if factor.kind != 'block'}
    trainer.hold(masks)
    shrunk = sss.shrink(block, trainer, SHAPE, align=1)
    assert sss.count(shrunk.net, SHAPE).macs < sss.count(block, SHAPE).macs
    np.testing.assert_allclose(shrunk.net(x).asnumpy(), block(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_symbol_block_inside_of_a_network(fill, batch, tmp_path):
    features = imported(body(), fill, tmp_path)
    net = nn.HybridSequential()
    net.register_child(features, 'features')
    net.add(conv(5), nn.BatchNorm(), nn.Activation('relu'), nn.GlobalAvgPool2D(), nn.Dense(3))
    net.initialize()
    before = net(batch(*SHAPE)).asnumpy()
    sss.add_factors(net, input_shape=SHAPE, log=None)
    assert np.array_equal(net(batch(*SHAPE)).asnumpy(), before)
    assert [(f.kind, f.parameter.shape) for f in sss.scaling_factors(net)] == [('neuron', (4,)), ('neuron', (6,)),
                                                                              ('neuron', (5,))]
    assert sss.scaling_factors(net)[0].name.startswith('features.')
    for factor in sss.scaling_factors(net):
        factor.parameter.set_data(mx.nd.array(np.arange(factor.parameter.shape[0]) % 2))
    small = sss.compact(net, SHAPE)
    assert sorted(row['after'][0] for row in small.structure.layers.values()) == [2, 2, 3, 3]


def body():
    net = nn.HybridSequential()
    net.add(conv(4), nn.BatchNorm(), nn.Activation('relu'), conv(6, bias=True), nn.Activation('relu'))
    return net


def test_a_norm_without_gamma(fill, batch, tmp_path):
    block = imported(head(conv(4), nn.BatchNorm(scale=False), 'relu'), fill, tmp_path)
    x = batch(*SHAPE)
    before = block(x).asnumpy()
    sss.add_factors(block, input_shape=SHAPE, log=None)
    np.testing.assert_array_equal(block(x).asnumpy(), before)
