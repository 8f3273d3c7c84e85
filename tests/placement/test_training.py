"""Networks with factors in training: like those built by hand, to a budget, shrunk, and without the factors."""
import warnings

import mxnet as mx
import numpy as np
import pytest
from families import FAMILIES, SHAPE, Residual, chain, conv, head, residual_v1
from mxnet import autograd, gluon
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.train.checkpoint import restore
from sss_gluon.train.given_weights import start_from
from sss_gluon.train.parameters import named_parameters

STEPS = 4


def by_hand():
    return head(conv(4, in_channels=3), nn.BatchNorm(in_channels=4), 'relu',
                Residual(chain(conv(6, in_channels=4), sss.ScaledBatchNorm(6), 'relu',
                               conv(4, in_channels=6), sss.ScaledBatchNorm(4, kind='block'))),
                sss.ScaledConv2D(5, 3, kind='neuron', in_channels=4), 'relu')


def plain():
    return head(conv(4, in_channels=3), nn.BatchNorm(in_channels=4), 'relu',
                Residual(chain(conv(6, in_channels=4), nn.BatchNorm(in_channels=6), 'relu',
                               conv(4, in_channels=6), nn.BatchNorm(in_channels=4))),
                nn.Conv2D(5, 3, in_channels=4), 'relu')


def train(net, batch, gamma=0.3):
    trainer = sss.make_trainer(net, gamma=gamma, learning_rate=0.05, wd=1e-3)
    for step in range(STEPS):
        x, y = batch(*SHAPE, seed=step), mx.nd.array([0, 3])
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), y)
        loss.backward()
        trainer.step(2)
    mx.nd.waitall()
    return trainer, {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
def test_it_trains_as_the_network_that_was_built_with_factors(fill, batch):
    expected, found = by_hand(), plain()
    for net in (expected, found):
        net.initialize()
        net(mx.nd.zeros(SHAPE))
    sss.add_factors(found, input_shape=SHAPE, log=None)
    fill(expected), fill(found)
    assert [f[:2] for f in sss.scaling_factors(expected)] == [f[:2] for f in sss.scaling_factors(found)]
    (_, expected), (_, found) = train(expected, batch), train(found, batch)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert (expected['3.body.1.factor'] != 1).all()


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
def test_shapes_that_are_lists(fill, batch, tmp_path):
    """As GluonCV gives them to its pruned networks: read from a file, traced, trained and restored like tuples."""
    found = []
    for kind in tuple, list:
        net = plain()
        net.initialize()
        net(mx.nd.zeros(SHAPE))
        fill(net).save_parameters(str(tmp_path / 'given.params'))
        for parameter in net.collect_params().values():
            parameter._shape = kind(parameter.shape)
        start_from(net, str(tmp_path / 'given.params'))
        sss.add_factors(net, input_shape=SHAPE, log=None)
        net.hybridize()
        trained = train(net, batch)[1]
        fill(net)
        restore('checkpoint', {f'param:{name}': value for name, value in trained.items()}, net, trainer=None)
        np.testing.assert_equal({name: p.data().asnumpy() for name, p in named_parameters(net)}, trained)
        found.append((trained, sss.compact(net, SHAPE).after))
    np.testing.assert_equal(*found)


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('share', [False, True])
@pytest.mark.parametrize('name', ['residual', 'pre-activation', 'grouped', 'squeeze and excitation', 'no gamma'])
def test_what_is_held_is_cut_out_and_trains_on(name, share, fill, batch):
    net = FAMILIES[name][0]()
    net.initialize()
    sss.add_factors(net, input_shape=SHAPE, share=share, log=None)
    net(mx.nd.zeros(SHAPE))
    fill(net)
    trainer, _ = train(net, batch)
    trainer.hold({f.name: np.arange(f.parameter.shape[0]) % 2 == 0 for f in sss.scaling_factors(net)
                  if f.kind != 'block'})
    shrunk = sss.shrink(net, trainer, SHAPE, align=1)
    before, after = sss.count(net, SHAPE), sss.count(shrunk.net, SHAPE)
    assert after.macs < before.macs
    x = batch(*SHAPE)
    expected = net(x).asnumpy()
    np.testing.assert_allclose(shrunk.net(x).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with autograd.record():
        loss = (shrunk.net(x) ** 2).mean()
    loss.backward()
    trainer.step(2)
    whole = shrunk.restore()
    after = shrunk.net(x).asnumpy()
    np.testing.assert_allclose(whole(x).asnumpy(), after, rtol=0, atol=1e-5 * np.abs(after).max())


def test_a_budget_is_met(fill, batch):
    net = residual_v1()
    net.initialize()
    sss.add_factors(net, input_shape=SHAPE, share=True, log=None)
    net(mx.nd.zeros(SHAPE))
    trainer = sss.make_trainer(net, learning_rate=0.05)
    budget = sss.Budget(net, trainer, SHAPE, target=0.6, steps=60)
    for step in range(90):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(batch(*SHAPE, seed=step % 5)), mx.nd.array([0, 3]))
        loss.backward()
        trainer.step(2)
        budget.step()
    small = sss.compact(net, SHAPE)
    assert budget.share <= 0.6 and small.after.macs <= 0.6 * small.before.macs


def test_factors_of_one_layer_are_folded(fill, batch):
    net = residual_v1()
    net.initialize()
    sss.add_factors(net, input_shape=SHAPE, share=True, log=None)
    net(mx.nd.zeros(SHAPE))
    fill(net)
    random = np.random.RandomState(0)
    for factor in sss.scaling_factors(net):
        factor.parameter.set_data(mx.nd.array(2.0 ** random.randint(-2, 3, factor.parameter.shape)))
    x = batch(*SHAPE)
    expected = net(x).asnumpy()
    sss.make_trainer(net).fold_factors()
    np.testing.assert_array_equal(net(x).asnumpy(), expected)
    assert all((factor.values() == 1).all() for factor in sss.scaling_factors(net))


def test_a_trainer_of_a_network_without_factors_says_so():
    net = residual_v1()
    net.initialize()
    net(mx.nd.zeros(SHAPE))
    with pytest.warns(UserWarning, match=r'no scaling factors.*gamma=0\.01.*add_factors'):
        sss.make_trainer(net)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sss.make_trainer(net, gamma=0)
        sss.add_factors(net, input_shape=SHAPE, log=None)
        sss.make_trainer(net)


@pytest.mark.parametrize('what', ['collect_params', 'list'])
def test_a_trainer_wants_the_network(what):
    net = residual_v1()
    parameters = net.collect_params()
    with pytest.raises(sss.SSSError, match=r'make_trainer\(net, \.\.\.\)'):
        sss.make_trainer(parameters if what == 'collect_params' else list(parameters.values()))
