"""Factors that are multiplied into what they scale, and stopped."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import sss_gluon as sss

SHAPE = (4, 3, 8, 8)


class Net(nn.HybridSequential):
    """A biased convolution with neurons, a BatchNorm with groups, a block, a dense layer."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.add(sss.ScaledConv2D(6, 3, in_channels=3, kind='neuron', activation='relu'),
                     nn.Conv2D(6, 3, groups=3, in_channels=6),
                     sss.ScaledBatchNorm(6, kind='group', groups=3),
                     sss.ScaledConv2D(4, 1, in_channels=6, kind='block'),
                     nn.Dense(5, in_units=4 * 16))


def share(first, second, name):
    """Gluon shares all parameters of a layer or none."""
    object.__setattr__(second, name, getattr(first, name))
    second._reg_params[name] = getattr(first, name)
    second.params._params = {parameter.name: parameter for parameter in second._reg_params.values()}


class SharedLayer(nn.HybridSequential):
    """The second layer has all parameters of the first."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            first = sss.ScaledConv2D(3, 1, in_channels=3, kind='neuron')
            second = sss.ScaledConv2D(3, 1, in_channels=3, kind='neuron', params=first.params)
            self.add(first, nn.Activation('relu'), second, nn.Dense(5, in_units=192))


class OneFactor(nn.HybridSequential):
    """One factor for two layers with weights of their own."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            first, second = (sss.ScaledConv2D(3, 1, in_channels=3, kind='neuron') for _ in range(2))
            share(first, second, 'factor')
            self.add(first, nn.Activation('relu'), second, nn.Dense(5, in_units=192))


class SharedWeight(nn.HybridSequential):
    """A weight that is used with a factor and without it: the factor stays."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            first, second = nn.Conv2D(3, 1, in_channels=3), sss.ScaledConv2D(3, 1, in_channels=3, kind='neuron')
            share(first, second, 'weight')
            self.add(first, second, nn.Dense(5, in_units=192))


class Centred(sss.ScaledConv2D):
    """A layer of one's own, whose weight is computed: the factor stays."""

    def hybrid_forward(self, F, x, weight, **rest):
        return super().hybrid_forward(F, x, weight=F.tanh(weight), **rest)


class Own(nn.HybridSequential):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.add(Centred(3, 1, in_channels=3, kind='neuron'), nn.Dense(5, in_units=192))


def prepared(build, fill, powers):
    net = build()
    fill(net)
    random = np.random.RandomState(0)
    for factor in sss.scaling_factors(net):
        value = 2.0 ** random.randint(-3, 3, factor.parameter.shape) if powers else \
            random.uniform(0.3, 2, factor.parameter.shape)
        value[1:2] = 0
        factor.parameter.set_data(mx.nd.array(value))
    return net


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('powers', [True, False], ids=['powers of two', 'any'])
@pytest.mark.parametrize('build, stay', [(Net, False), (SharedLayer, False), (OneFactor, False), (SharedWeight, True),
                                         (Own, True)], ids=lambda value: getattr(value, '__name__', ''))
def test_the_function_stays_the_same(build, stay, powers, fill, batch):
    net = prepared(build, fill, powers)
    trainer = sss.make_trainer(net, learning_rate=0.1)
    before = trainer.factor_values()
    x = batch(*SHAPE)

    def outputs():      # in training mode BatchNorm normalises what its factor multiplies
        with autograd.train_mode():
            return net(x).asnumpy()
    expected = outputs()
    trainer.fold_factors()
    np.testing.assert_allclose(outputs(), expected, rtol=0, atol=0 if powers else 1e-6 * np.abs(expected).max())
    for name, value in trainer.factor_values().items():
        np.testing.assert_array_equal(value, before[name] if stay else before[name] != 0)
    folded = trainer.factor_values()
    for _ in range(2):
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
        trainer.step(4)
    assert all(np.array_equal(value, folded[name]) for name, value in trainer.factor_values().items())
    assert not np.array_equal(outputs(), expected)      # the weights train on


def test_some_are_folded_and_all_stop(fill, batch):
    net = prepared(Net, fill, True)
    trainer = sss.make_trainer(net, learning_rate=0.1, gamma=0.1)
    before, x = trainer.factor_values(), batch(*SHAPE)
    folded = {factor.name for factor in sss.scaling_factors(net) if factor.kind == 'block'}
    expected = net(x).asnumpy()
    trainer.fold_factors(folded)
    np.testing.assert_array_equal(net(x).asnumpy(), expected)
    with autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    trainer.step(4)
    for name, value in trainer.factor_values().items():
        np.testing.assert_array_equal(value, before[name] != 0 if name in folded else before[name])


def test_the_scale_that_a_search_leaves_changes_nothing(fill, batch):
    """BatchNorm behind a layer ignores its scale, so neurons that end at λ/8 train on as those that end at λ do."""
    def losses(scale):
        net = nn.HybridSequential()
        net.add(sss.ScaledConv2D(6, 3, in_channels=3, kind='neuron'), nn.Activation('relu'),
                nn.Conv2D(4, 3, in_channels=6, use_bias=False), nn.BatchNorm(in_channels=4, epsilon=1e-12),
                nn.Dense(5, in_units=4 * 16))
        fill(net)
        factor, = sss.scaling_factors(net)
        factor.parameter.set_data(mx.nd.array([1, 0.5, 0.75, 1, 0.25, 1]) * scale)
        trainer = sss.make_trainer(net, learning_rate=0.01)
        assert sss.Budget(net, trainer, SHAPE, target=1, steps=1).met
        found = []
        for _ in range(5):
            with autograd.record():
                loss = ((net(x) - 1) ** 2).mean()
            loss.backward()
            trainer.step(1)
            found.append(loss.asscalar())
        return found
    x = batch(*SHAPE)
    whole = losses(1)
    assert whole[-1] < 0.9 * whole[0]
    np.testing.assert_allclose(losses(1 / 8), whole, rtol=1e-4)


def test_folded_factors_stay_where_they_are_in_another_process(fill, batch, tmp_path):
    """States that were saved after fold_factors say so; those from before let them train again."""
    def new():
        net = prepared(Net, fill, True)
        return net, sss.make_trainer(net, gamma=0.1, learning_rate=0.1)

    def moved(net, trainer):
        before = trainer.factor_values()
        with autograd.record():
            loss = (net(batch(*SHAPE)) ** 2).sum()
        loss.backward()
        trainer.step(4)
        return any(not np.array_equal(value, before[name]) for name, value in trainer.factor_values().items())
    net, trainer = new()
    assert moved(net, trainer)
    trainer.save_states(str(tmp_path / 'before'))
    trainer.fold_factors()
    trainer.save_states(str(tmp_path / 'after'))
    again, other = new()
    other.load_states(str(tmp_path / 'after'))
    assert not moved(net, trainer) and not moved(again, other)
    other.load_states(str(tmp_path / 'before'))
    assert moved(again, other)


def test_the_float32_copy_of_a_float16_weight_is_folded(fill):
    net = fill(sss.ScaledConv2D(3, 1, in_channels=3, kind='neuron', use_bias=False))
    net.cast('float16')
    trainer = sss.make_trainer(net, learning_rate=1e-5, multi_precision=True, gamma=0)

    def step():
        for parameter in net.collect_params().values():
            parameter.grad()[:] = 1
            parameter.data()._fresh_grad = True
        trainer.step(1)
    for _ in range(3):      # changes that float16 cannot hold
        step()
    master = trainer.states()['weight@float32']
    assert not np.array_equal(master, master.astype('float16'))
    trainer.set_factor_values({'': np.array([0.5, 0, 4])})
    trainer.fold_factors()
    expected = master * np.reshape([0.5, 1, 4], (3, 1, 1, 1)).astype('float32')
    states = trainer.states()
    np.testing.assert_array_equal(states['weight@float32'], expected)
    np.testing.assert_array_equal(net.weight.data().asnumpy(), expected.astype('float16'))
    assert not states['weight'].any() and net.factor.data().asnumpy().tolist() == [1, 0, 1]
