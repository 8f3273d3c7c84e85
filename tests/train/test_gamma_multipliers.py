"""Multipliers of γ: by name, by MACs, and arguments of make_trainer that are refused."""
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import nn
from trained_net import assert_equal, make_net, values

from sss_gluon import ScaledConv2D, get_model, make_trainer, scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.structures.masked_count import mac_weights
from sss_gluon.train.parameters import gamma_multipliers


@pytest.mark.parametrize('gamma_mult, expected', [
    (None, [1, 1, 1]), ({}, [1, 1, 1]), ({'norm': 0.5}, [1, 0.5, 1]), ({'.': 2.0, '^last$': 0.0}, [2, 2, 0]),
    ({'^last$': 0.0, '.': 2.0}, [2, 2, 2]), ({'(first|last)': 3.0}, [3, 1, 3]), ({'first': 1.0, 'fir': 4.0}, [4, 1, 1]),
])
def test_the_last_expression_that_matches_wins(gamma_mult, expected):
    net = make_net()
    assert gamma_multipliers(net, gamma_mult) == dict(zip(('first', 'norm', 'last'), expected))
    trainer = make_trainer(net, gamma=0.1, gamma_mult=gamma_mult)
    by_name = {trainer.names[i]: multiplier for i, multiplier in trainer.optimizer.gamma_mult.items()}
    assert by_name == {'first.factor': expected[0], 'norm.factor': expected[1], 'last.factor': expected[2]}
    assert list(trainer.gamma_multipliers.values()) == expected


def test_gamma_multiplier_acts():
    """No gradient reaches the factors: η = 0.1, γ = 0.5, μ = 0, so a factor falls by 0.05 times its multiplier."""
    net = make_net()
    trainer = make_trainer(net, gamma=0.5, learning_rate=0.1, momentum=0.0, gamma_mult={'norm': 0.0, 'last': 3.0})
    with autograd.record():
        zero = net(nd.ones((2, 2, 6, 6))) * 0
    zero.backward()
    trainer.step(1)
    found = [set(np.round(factor.values(), 5)) for factor in scaling_factors(net)]
    assert [{round(float(v), 5) for v in one} for one in found] == [{0.95}, {1.0}, {0.85}]


@pytest.mark.parametrize('arguments, words', [
    (dict(gamma_mult={'third': 2.0}), "'third'.*first, norm, last"),
    (dict(gamma_mult={'(': 2.0}), "'\\(' is not a regular expression"),
    (dict(gamma_mult={'first': -1.0}), 'multiplier -1.0'), (dict(gamma_mult={'first': float('nan')}), 'multiplier nan'),
    (dict(gamma_weighting='flops'), "'uniform' or 'macs'"), (dict(gamma_weighting='macs'), 'needs input_shape'),
    (dict(gamma=-1.0), 'gamma=-1.0'), (dict(momentum=1.5), 'momentum=1.5'),
])
def test_wrong_arguments(arguments, words):
    with pytest.raises(SSSError, match=words):
        make_trainer(make_net(), **arguments)


def test_macs_weighting_by_hand():
    """Two stages of a VGG at 32 x 32 with 4, 6 and 8 channels, dense on 8 x 8 positions: what one channel costs."""
    net = get_model('cifar_vgg16', classes=5, stages=((4, 6), (8,)), final_size=8)
    net.initialize()
    costs = {'norm1_1': 9 * 3 * 32 ** 2 + 9 * 6 * 32 ** 2,      # to make it, and as an input of conv1_2
             'norm1_2': 9 * 4 * 32 ** 2 + 9 * 8 * 16 ** 2,
             'norm2_1': 9 * 6 * 16 ** 2 + 5 * 8 ** 2}
    mean = (4 * costs['norm1_1'] + 6 * costs['norm1_2'] + 8 * costs['norm2_1']) / 18
    found = mac_weights(net, (1, 3, 32, 32))
    assert found == pytest.approx({name: cost / mean for name, cost in costs.items()})
    assert found['norm1_1'] / found['norm1_2'] == pytest.approx(82944 / 55296) == 1.5
    trainer = make_trainer(net, gamma_weighting='macs', input_shape=(1, 3, 32, 32),
                           gamma_mult={'norm2_1': 0.0, '_2': 2.0})
    assert trainer.gamma_multipliers == pytest.approx(dict(found, norm1_2=2 * found['norm1_2'], norm2_1=0.0))


@pytest.mark.parametrize('name', ['cifar_resnet20', 'cifar_resnext164', 'cifar_vgg16'])
def test_macs_weighting_has_mean_1_over_structures(name, narrow):
    options, size = narrow[name]
    net = get_model(name, classes=4, **options)
    net.initialize()
    before = values(net)
    found = mac_weights(net, (1, 3, size, size))
    sizes = {factor.name: factor.parameter.shape[0] for factor in scaling_factors(net)}
    assert list(found) == list(sizes) and all(weight > 0 for weight in found.values())
    assert sum(found[n] * sizes[n] for n in sizes) / sum(sizes.values()) == pytest.approx(1)
    assert_equal(values(net), before)


def test_macs_weighting_depends_on_the_network_not_on_its_zeros():
    net = get_model('cifar_resnet20', depths=(1, 1, 1), widths=(4, 6, 8))
    net.initialize()
    expected = mac_weights(net, (1, 3, 16, 16))
    net.stage1[0].conv2.factor.set_data(nd.zeros((1,)))
    assert mac_weights(net, (1, 3, 16, 16)) == expected
    # block 2: 3x3 4->6 and 3x3 6->6 at 8 x 8; block 3: 3x3 6->8 and 3x3 8->8 at 4 x 4
    assert expected['stage2.0.conv2'] / expected['stage3.0.conv2'] \
        == pytest.approx(64 * 9 * (4 * 6 + 6 * 6) / (16 * 9 * (6 * 8 + 8 * 8)))


def test_macs_weighting_where_nothing_costs_anything():
    net = nn.HybridSequential()         # the only layer stays whatever its factor is
    net.add(ScaledConv2D(3, 1, in_channels=2, kind='block'), nn.Flatten())
    net.initialize()
    with pytest.raises(SSSError, match='nothing to weigh'):
        make_trainer(net, gamma_weighting='macs', input_shape=(1, 2, 4, 4))
