"""Neurons of several adjacent channels: what they scale, and what is left when some are zero."""
from math import gcd

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.methods import train
from sss_gluon.models import ARCHITECTURES

SHAPE = (2, 3, 9, 9)
WITH_NEURONS = [name for name, row in ARCHITECTURES.items() if 'neuron' in row.offered]


def own():
    """Layers of 12, 16 and 10 channels that can lose some, and one that cannot."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(12, 3), nn.BatchNorm(), nn.Activation('relu'), nn.Conv2D(16, 3, activation='relu'), nn.Dense(10),
            nn.Dense(5))
    return net


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name == 'vgg16' else ())
                                  for name in WITH_NEURONS])
def test_whole_neurons_go_and_the_same_network_is_rebuilt(name, narrow, fill, zero, batch, tmp_path):
    options, size = narrow[name]
    net = zero(fill(sss.get_model(name, 5, ['neuron'], neuron_block=2, **options)))
    small = sss.compact(net, (2, 3, size, size))
    parameters = net._collect_params_with_prefix()
    for factor in sss.scaling_factors(net):
        width, row = parameters[f'{factor.name}.gamma'].shape[0], small.structure.factors[factor.name]
        assert row['size'] == width // gcd(width, 2) and row.get('channels', 1) == gcd(width, 2)
        assert set(row['kept']) <= set(np.flatnonzero(factor.values()))
    left = [row['after'][0] for row in small.structure.layers.values() if row['after'] and row['before'][0] % 2 == 0]
    assert left and not any(width % 2 for width in left if width > 1)      # a placeholder is a single channel
    small.export(tmp_path / 'x')
    x = batch(2, 3, size, size)
    same = sss.rebuild(tmp_path / 'x-structure.json', params=tmp_path / 'x-0000.params')
    np.testing.assert_array_equal(same(x).asnumpy(), small.net(x).asnumpy())


@pytest.mark.parametrize('initialised', [True, False])
def test_added_to_a_network_of_ones_own(initialised, fill, batch):
    net = own()
    if initialised:
        net.initialize()
        net(mx.nd.zeros(SHAPE))
    table = sss.add_factors(net, input_shape=SHAPE, neuron_block=8, log=None)
    assert [row.number for row in table.rows if row.kind] == [3, 2, 5]      # of 4, 8 and 2 channels
    net.initialize()
    net(mx.nd.zeros(SHAPE))
    fill(net)
    first, second, third = sss.scaling_factors(net)
    x = batch(*SHAPE)
    whole = net(x).asnumpy()
    second.parameter.set_data(mx.nd.array([1, 0]))
    by_hand = [layer for layer in net]
    y = by_hand[3](by_hand[2](by_hand[1](by_hand[0](x)))).asnumpy()
    assert (y[:, 8:] == 0).all() and (y[:, :8] != 0).any()
    assert not np.allclose(net(x).asnumpy(), whole)
    first.parameter.set_data(mx.nd.array([0, 1, 1]))
    third.parameter.set_data(mx.nd.array([1, 0, 0, 1, 1]))
    small = sss.compact(net, SHAPE)
    assert [row['after'][0] for row in small.structure.layers.values()] == [8, 8, 6, 5]
    assert small.structure.removed() == {'neuron': 4} and 'of 2 to 8 channels' in small.structure.summary()
    again = sss.add_factors(net, input_shape=SHAPE, neuron_block=8, log=None)
    assert [row.number for row in again.rows if row.kind] == [3, 2, 5]


def test_a_network_of_gluoncv(fill):
    net = fill(sss.get_model('gluoncv:cifar_resnet20_v1', 10, ['neuron'], 3, (1, 3, 32, 32), 8))
    assert {factor.parameter.shape[0] for factor in sss.scaling_factors(net)} == {2, 4, 8}
    small = sss.compact(net, (1, 3, 32, 32))
    assert sss.count(sss.rebuild(small.structure), (1, 3, 32, 32)) == small.after


@pytest.mark.parametrize('method', ['l1', 'taylor', 'slimming'])
def test_other_methods_rank_the_same_neurons(method, configure, trained):
    """A neuron counts once, whatever the number of its channels."""
    settings = dict(model='cifar_vgg16', image_size=32, epochs=1,
                    model_options=dict(stages=[[4, 4], [8, 8], [8], [8], [8]]))
    run = train(configure(method=method, source=str(trained(factors=[], **settings)), target_macs=0.6, neuron_block=4,
                          method_options=dict(kinds=['neuron']), **settings))
    rows = sss.Structure.load(f'{run.selection}-structure.json').factors
    assert {row['size'] for row in rows.values()} == {1, 2} and {row.get('channels') for row in rows.values()} == {4}
    assert any(len(row['kept']) < row['size'] for row in rows.values())


@pytest.mark.parametrize('arguments', [
    dict(name='cifar_resnet20'), dict(name='cifar_resnext20'), dict(name='cifar_vgg16', factors=()),
    dict(name='gluoncv:cifar_resnet20_v1', classes=10, factors=['block'], input_shape=(1, 3, 32, 32))])
def test_without_neurons_it_is_refused(arguments):
    with pytest.raises(sss.SSSError, match='neuron_block=8'):
        sss.get_model(neuron_block=8, **arguments)
