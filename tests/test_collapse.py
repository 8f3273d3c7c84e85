"""Networks of which too much is gone: told from their structure, and held against their outputs."""
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, ScaledConv2D, compact, get_model, scaling_factors
from sss_gluon.structures import collapse_now

SHAPE = (1, 3, 8, 8)


class Residual(nn.HybridBlock):
    """x + body(x); the body has neurons inside and a block factor at its end."""

    def __init__(self, channels=4):
        super().__init__()
        with self.name_scope():
            self.norm = ScaledBatchNorm(channels, kind='neuron')
            self.last = ScaledConv2D(channels, 3, padding=1, in_channels=channels, kind='block')

    def hybrid_forward(self, F, x):
        return x + self.last(F.relu(self.norm(x)))


class Forked(nn.HybridBlock):
    """Two branches of neurons, concatenated."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.left, self.right = (ScaledConv2D(4, 3, padding=1, in_channels=3, kind='neuron') for _ in range(2))

    def hybrid_forward(self, F, x):
        return F.concat(self.left(x), self.right(x), dim=1)


def sequence(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def plain():
    """Padding and biases behind the dead layer: what leaves it varies over the positions, but not with the input."""
    return sequence(nn.Conv2D(4, 3, padding=1, in_channels=3), ScaledBatchNorm(4), nn.Activation('relu'),
                    nn.Conv2D(4, 3, padding=1, in_channels=4), nn.Conv2D(4, 3, padding=1, in_channels=4),
                    nn.Activation('relu'), nn.Flatten(), nn.Dense(5, in_units=256))


def residual(blocks=2):
    return sequence(nn.Conv2D(4, 3, padding=1, in_channels=3), *(Residual() for _ in range(blocks)), nn.Flatten(),
                    nn.Dense(5, in_units=256))


def forked():
    return sequence(Forked(), nn.Flatten(), nn.Dense(5, in_units=512))


def resnet():
    return get_model('cifar_resnet20', 5, ('neuron', 'block'), depths=(1, 1, 1), widths=(4, 4, 4))


CASES = {       # network, factors at zero, words of the clause ('' for a network of use)
    'nothing': (plain, [], ''),
    'a layer of a sequence': (plain, ['1'], 'all 4 neurons are gone…same for every input'),
    'the inside of a block': (residual, ['1.norm'], ''),
    'one of two blocks': (residual, ['1.last'], ''),
    'both blocks': (residual, ['1.last', '2.last'], 'all 2 blocks are gone'),
    'the only block': (lambda: residual(1), ['1.last'], ''),
    'one branch of a fork': (forked, ['0.left'], ''),
    'both branches': (forked, ['0.left', '0.right'], 'all 8 neurons are gone…same for every input'),
    'all blocks of all stages': (resnet, [f'stage{i}.0.conv2' for i in (1, 2, 3)], 'all 3 blocks are gone'),
    'two of three stages': (resnet, [f'stage{i}.0.conv2' for i in (1, 2)], ''),
    'all neurons, in blocks': (resnet, [f'stage{i}.0.norm2' for i in (1, 2, 3)], 'all 12 neurons are gone'),
}


@pytest.mark.parametrize('name', CASES)
def test_what_has_collapsed(name, fill, set_factors, batch):
    make, zeros, words = CASES[name]
    net = set_factors(fill(make()), {factor: 0 for factor in zeros})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('ignore')
        warnings.simplefilter('always', UserWarning)
        small = compact(net, SHAPE)
    found = small.collapsed
    assert found == collapse_now(net, SHAPE, {factor.name: factor.values() for factor in scaling_factors(net)})
    assert bool(found) == bool(words) and all(part in found for part in words.split('…'))
    assert [str(warning.message).endswith(found) for warning in caught] == [True] * bool(words)
    if caught:
        assert caught[0].filename == __file__       # the line of the user that asked for it
    outputs = [net(batch(*SHAPE, seed=seed)).asnumpy() for seed in (1, 2)]
    assert np.array_equal(*outputs) == ('same for every input' in found)


def test_the_dead_layer_is_named(fill, set_factors):
    """Neurons are alive elsewhere, but nothing goes past the first layer."""
    net = fill(sequence(nn.Conv2D(4, 3, in_channels=3), ScaledBatchNorm(4), nn.Conv2D(6, 3, in_channels=4),
                        ScaledBatchNorm(6), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(5, in_units=6)))
    with pytest.warns(UserWarning, match=r'same for every input \(1 has 0 of 4 neurons left\)'):
        compact(set_factors(net, {'1': 0}), SHAPE)


def test_a_network_without_factors_that_ignores_its_input(fill):
    net = fill(sequence(nn.Conv2D(4, 3, in_channels=3), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(5, in_units=4)))
    net[0].weight.set_data(mx.nd.zeros(net[0].weight.shape))
    with pytest.warns(UserWarning, match='the output is the same for every input$'):
        compact(net, SHAPE)
