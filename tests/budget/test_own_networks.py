"""Networks of one's own that shrink while they train: what must go, what must not, and what is refused."""
from typing import Callable, Dict, NamedTuple

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn
from twins import Twins

import sss_gluon as sss
from sss_gluon.methods import train
from sss_gluon.structures.shrink import Shrunk

SHAPE = (6, 3, 8, 8)
TWO_OF_FOUR = np.array([True, False, False, True])


class Chain(nn.HybridSequential):
    """Layers one after the other, and a dense layer."""

    def __init__(self, *makers):
        super().__init__()
        with self.name_scope():
            for make in makers:
                self.add(make())
            self.add(nn.GlobalAvgPool2D(), nn.Dense(5))


def conv(width, inputs, kernel=3, **options):
    return lambda: nn.Conv2D(width, kernel, padding=kernel // 2, in_channels=inputs, **options)


def scaled(width, inputs, kind='neuron', kernel=3, layer=sss.ScaledConv2D, **options):
    return lambda: layer(width, kernel, padding=kernel // 2, in_channels=inputs, kind=kind, **options)


def norm(width, kind='neuron', **options):
    return lambda: sss.ScaledBatchNorm(width, kind=kind, **options)


def relu():
    return nn.Activation('relu')


class Twice(nn.HybridBlock):
    """A layer that is used twice."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = sss.ScaledConv2D(4, 3, padding=1, in_channels=3, kind='neuron')
            self.shared = nn.Conv2D(4, 3, padding=1, in_channels=4)
            self.last = nn.Conv2D(3, 1, in_channels=4)

    def hybrid_forward(self, F, x):
        return self.last(F.relu(self.shared(F.relu(self.shared(F.relu(self.first(x)))))))


class ScaledTwice(nn.HybridBlock):
    """A layer with factors that is used twice."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = nn.Conv2D(4, 3, padding=1, in_channels=3)
            self.shared = sss.ScaledConv2D(4, 3, padding=1, in_channels=4, kind='neuron')

    def hybrid_forward(self, F, x):
        return F.relu(self.shared(F.relu(self.shared(F.relu(self.first(x))))))


class OneFactor(nn.HybridBlock):
    """Two layers that share one factor, added up: the gate of a channel that several layers write."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.a = sss.ScaledConv2D(4, 3, padding=1, in_channels=3, kind='neuron')
            self.b = sss.ScaledConv2D(4, 1, in_channels=3, kind='neuron')
            self.last = nn.Conv2D(3, 1, in_channels=4)
        object.__setattr__(self.b, 'factor', self.a.factor)
        self.b._reg_params['factor'] = self.a.factor
        self.b.params._params = {p.name: p for p in self.b._reg_params.values()}

    def hybrid_forward(self, F, x):
        return self.last(F.relu(self.a(x) + self.b(x)))


class Gates(nn.HybridBlock):
    """Parameters that take part as they are: a minimum, a maximum and a sum per channel."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = sss.ScaledConv2D(4, 3, padding=1, in_channels=3, kind='neuron', use_bias=False)
            self.low = self.params.get('low', shape=(1, 4, 1, 1))
            self.high = self.params.get('high', shape=(1, 4, 1, 1))
            self.last = nn.Conv2D(3, 1, in_channels=4)

    def hybrid_forward(self, F, x, low, high):
        return self.last(F.broadcast_minimum(F.broadcast_maximum(self.first(x), -low), high))


class Transposed(sss.factors.Scaled, nn.Conv2DTranspose):
    """A transposed convolution, whose outputs are the second axis of its weight."""

    def __init__(self, width, inputs, **options):
        super().__init__(width, 2, 2, in_channels=inputs, **options)
        self._add_factor('neuron', width, None)

    def hybrid_forward(self, F, x, weight, factor, bias=None):
        weight = F.broadcast_mul(weight, F.reshape(factor, (1, -1, 1, 1)))
        return super().hybrid_forward(F, x, weight, None if bias is None else bias * factor)


class Neurons(sss.factors.Scaled, nn.Dense):
    """A dense layer with a factor for each neuron."""

    def __init__(self, units, inputs):
        super().__init__(units, in_units=inputs)
        self._add_factor('neuron', units, None)

    def hybrid_forward(self, F, x, weight, factor, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_mul(weight, F.expand_dims(factor, 1)), bias * factor)


class Standardised(sss.ScaledConv2D):
    """Weight standardisation: mean 0 and deviation 1 over the inputs of each output."""

    def hybrid_forward(self, F, x, weight, factor, bias=None):
        centred = F.broadcast_sub(weight, F.mean(weight, axis=0, exclude=True, keepdims=True))
        deviation = F.sqrt(F.mean(F.square(centred), axis=0, exclude=True, keepdims=True) + 1e-5)
        return super().hybrid_forward(F, x, F.broadcast_div(centred, deviation), factor, bias)


class Normed(sss.ScaledConv2D):
    """The weight over its norm."""

    def hybrid_forward(self, F, x, weight, factor, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_div(weight, F.norm(weight).reshape((1, 1, 1, 1))), factor, bias)


class PerChannel(sss.ScaledConv2D):
    """Another trained scale per channel, in the shape of a weight."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        with self.name_scope():
            self.gain = self.params.get('gain', shape=(self._channels, 1, 1, 1), init='ones')

    def hybrid_forward(self, F, x, weight, factor, gain, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_mul(weight, F.exp(gain)), factor, bias)


class Case(NamedTuple):
    build: Callable
    lost: Dict[str, np.ndarray]
    shapes: Dict[str, tuple]            # of parameters of the cut network; None: gone
    zeros: tuple = ()                   # parameters that are 0 at the cut and train on


def symbol_block():
    """Features that came as a symbol, with layers of one's own behind them."""
    net = nn.HybridSequential()
    x = mx.sym.var('data')
    features = mx.sym.relu(mx.sym.Convolution(x, num_filter=4, kernel=(3, 3), pad=(1, 1), name='features'))
    block = gluon.SymbolBlock(features, x)
    for name, shape in (('features_weight', (4, 3, 3, 3)), ('features_bias', (4,))):
        block.collect_params()[name].shape = shape
    with net.name_scope():
        net.add(block, sss.ScaledConv2D(4, 3, padding=1, in_channels=4, kind='neuron'), relu(),
                nn.Conv2D(5, 8, in_channels=4))
    return net


CASES = {
    'biased convolution': Case(
        lambda: Chain(scaled(4, 3), relu, conv(6, 4)), {'0': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '0.bias': (2,), '0.factor': (2,), '2.weight': (6, 2, 3, 3), '2.bias': (6,)}),
    'groups, then the convolution that reads them': Case(
        lambda: Chain(conv(8, 3), scaled(8, 8, 'group', groups=4), relu, conv(6, 8)), {'1': TWO_OF_FOUR},
        {'0.weight': (4, 3, 3, 3), '1.weight': (4, 2, 3, 3), '1.factor': (2,), '3.weight': (6, 4, 3, 3)}),
    'neurons in front of a convolution with groups': Case(     # a group goes with all its inputs or stays
        lambda: Chain(scaled(4, 3), relu, conv(4, 4, groups=2), relu), {'0': np.array([True, True, True, False])},
        {'0.weight': (4, 3, 3, 3), '2.weight': (4, 2, 3, 3)}),
    'depthwise': Case(
        lambda: Chain(conv(4, 3), scaled(4, 4, groups=4), relu, conv(6, 4)), {'1': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '1.weight': (2, 1, 3, 3), '1.factor': (2,), '3.weight': (6, 2, 3, 3)}),
    'transposed convolution': Case(
        lambda: Chain(conv(3, 3), lambda: Transposed(4, 3), relu, conv(6, 4)), {'1': TWO_OF_FOUR},
        {'1.weight': (3, 2, 2, 2), '1.bias': (2,), '1.factor': (2,), '3.weight': (6, 2, 3, 3)}),
    'dense layers': Case(
        lambda: Chain(conv(3, 3), nn.GlobalAvgPool2D, lambda: Neurons(4, 3), relu, lambda: nn.Dense(6, in_units=4),
                      lambda: nn.HybridLambda(lambda F, x: F.reshape(x, (0, 0, 1, 1)))), {'2': TWO_OF_FOUR},
        {'2.weight': (2, 3), '2.bias': (2,), '2.factor': (2,), '4.weight': (6, 2)}),
    'another scale per channel': Case(
        lambda: Chain(scaled(4, 3, layer=PerChannel), relu, conv(6, 4)), {'0': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '0.gain': (2, 1, 1, 1), '0.factor': (2,), '2.weight': (6, 2, 3, 3)}),
    'standardised weights, whose inputs stay': Case(
        lambda: Chain(scaled(4, 3, layer=Standardised), relu, conv(6, 4)), {'0': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '0.factor': (2,), '2.weight': (6, 2, 3, 3)}),
    'standardised weights without anything to lose': Case(
        lambda: Chain(scaled(4, 3), relu, conv(4, 4), scaled(4, 4, 'block', layer=Standardised)), {'0': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '2.weight': (4, 2, 3, 3), '3.weight': (4, 4, 3, 3)}),
    'a layer that is used twice': Case(     # it cannot be cut two ways
        Twice, {'first': TWO_OF_FOUR}, {'first.weight': (4, 3, 3, 3), 'shared.weight': (4, 4, 3, 3)}),
    'a layer with factors that is used twice': Case(
        ScaledTwice, {'shared': TWO_OF_FOUR}, {'shared.weight': (4, 4, 3, 3), 'shared.factor': (4,)}),
    'a factor of two layers': Case(
        OneFactor, {'a': TWO_OF_FOUR},
        {'a.weight': (2, 3, 3, 3), 'a.factor': (2,), 'b.weight': (2, 3, 1, 1), 'last.weight': (3, 2, 1, 1)}),
    'bounds that are parameters': Case(     # the minimum of 0 and a parameter is 0 only while that is positive
        Gates, {'first': TWO_OF_FOUR}, {'first.weight': (4, 3, 3, 3), 'low': (1, 4, 1, 1)}),
    'weights that are zero': Case(
        lambda: Chain(scaled(4, 3), relu, conv(6, 4)), {'0': TWO_OF_FOUR},
        {'0.weight': (2, 3, 3, 3), '2.weight': (6, 2, 3, 3), '2.bias': (6,)}, ('2.weight', '2.bias', '0.bias')),
    'gammas that start at zero': Case(
        lambda: Chain(conv(4, 3), norm(4), relu, conv(4, 4), lambda: nn.BatchNorm(in_channels=4)),
        {'1': TWO_OF_FOUR}, {'0.weight': (2, 3, 3, 3), '1.gamma': (2,), '3.weight': (4, 2, 3, 3), '4.gamma': (4,)},
        ('4.gamma', '4.beta')),
    'BatchNorm of zeros stays': Case(       # its β trains
        lambda: Chain(scaled(4, 3), lambda: nn.BatchNorm(in_channels=4), relu, conv(6, 4)), {'0': TWO_OF_FOUR},
        {'0.weight': (4, 3, 3, 3), '1.beta': (4,), '3.weight': (6, 4, 3, 3)}, ('1.beta', '1.running_mean')),
    'a symbol block': Case(symbol_block, {'1': TWO_OF_FOUR}, {'1.weight': (2, 4, 3, 3), '3.weight': (5, 2, 8, 8)}),
}


def filled(case):
    net = case.build()
    net.initialize(mx.init.Normal(0.3))
    net(mx.nd.zeros(SHAPE))
    random = np.random.RandomState(0)
    for name, parameter in net._collect_params_with_prefix().items():
        value = random.standard_normal(parameter.shape) * 0.5
        if name.endswith(('factor', 'gamma', 'var')):
            value = random.uniform(0.5, 1.5, parameter.shape)
        parameter.set_data(mx.nd.array(value * (name not in case.zeros)))
    return net


@pytest.mark.parametrize('name', CASES)
def test_it_trains_as_the_whole_network(name):
    case = CASES[name]
    pair = Twins(lambda: filled(case), SHAPE, classes=3)
    pair.shrink(case.lost)
    shapes = {name: parameter.shape for name, parameter in pair.cut.shrunk.parameters.items()}
    assert {key: shapes.get(key) for key in case.shapes} == case.shapes
    start = {key: pair.cut.shrunk.parameters[key].data().asnumpy() for key in case.zeros}
    for key, value in pair.differences_in_float64().items():
        assert value < 1e-9, key
    for _ in range(4):      # freely
        assert pair.step() < 1e-5
    for key, value in pair.differences().items():
        assert value < 1e-4, key
    for key, value in start.items():
        assert not value.any() and pair.cut.shrunk.parameters[key].data().asnumpy().any()
    held, cut, restored = pair.predictions()
    assert max(np.abs(held - cut).max(), np.abs(held - restored).max()) < 1e-5 * np.abs(held).max()


REFUSED = {
    'a weight over its norm': lambda: Chain(scaled(4, 3, layer=Normed), relu, conv(6, 4)),
    'standardised weights that lose inputs': lambda: Chain(scaled(4, 3), relu, scaled(6, 4, 'block',
                                                                                      layer=Standardised)),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_cut_is_refused(name):
    net = filled(Case(REFUSED[name], {}, {}))
    trainer = sss.make_trainer(net)
    trainer.hold({'0': TWO_OF_FOUR})
    with pytest.raises(sss.SSSError) as error:
        Shrunk(net, SHAPE, {'0': TWO_OF_FOUR})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', REFUSED)
def test_the_first_call_finds_out(name):
    """Before anything is zero; what γ does not reach is never cut."""
    net = filled(Case(REFUSED[name], {}, {}))
    with pytest.raises(sss.SSSError, match='cannot be cut|be cut while the network trains'):
        sss.shrink(net, sss.make_trainer(net), SHAPE, align=1)
    assert sss.shrink(net, sss.make_trainer(net, gamma_mult={'': 0}), SHAPE, align=1).net is net


NORMED = '''
from mxnet.gluon import nn
from sss_gluon import ScaledConv2D


class Normed(ScaledConv2D):
    def hybrid_forward(self, F, x, weight, factor, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_div(weight, F.norm(weight).reshape((1, 1, 1, 1))), factor, bias)


def net(classes, in_channels):
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(Normed(8, 3, in_channels=in_channels, kind='neuron'), nn.Dense(classes, in_units=8 * 36))
    return net
'''


def test_a_run_that_cannot_shrink_is_refused_before_its_first_step(small, tmp_path, monkeypatch):
    (tmp_path / 'normed.py').write_text(NORMED, 'utf-8')
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = dict(model='normed:net', model_options={}, epochs=2, search=0.5, target_macs=0.5)
    config = small(tmp_path / 'run', **settings, shrink_align=1)
    with pytest.raises(sss.SSSError, match='train without shrink'):
        train(config, lambda line: None)
    assert not (tmp_path / 'run/metrics.csv').exists()
    run = train(small(tmp_path / 'other', **settings, shrink=False), lambda line: None)
    assert float(run.metrics.rows()[-1]['held_left']) <= 0.5
