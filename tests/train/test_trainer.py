"""make_trainer: the order of parameters, decay, rates, and several devices."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from trained_net import make_net, train, values

from sss_gluon import ScaledConv2D, get_model, make_trainer
from sss_gluon.errors import SSSError
from sss_gluon.train.factor_trainer import FactorTrainer
from sss_gluon.train.parameters import named_parameters


def test_parameters_are_in_structural_order():
    net = nn.HybridSequential()
    for _ in range(12):         # dense10 sorts before dense6
        net.add(nn.Dense(2, in_units=2))
    net.initialize()
    trainer = make_trainer(net)
    assert isinstance(trainer, FactorTrainer) and isinstance(trainer, gluon.Trainer)
    assert trainer.names == [f'{i}.{kind}' for i in range(12) for kind in ('weight', 'bias')]
    assert [p.name for p in trainer._params] == [p.name for layer in net for p in (layer.weight, layer.bias)]


def test_factors_are_told_apart_by_layer_not_by_name():
    class Misnamed(nn.HybridBlock):     # a plain parameter called factor is a weight
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.factor = self.params.get('factor', shape=(3,), init='ones')
                self.conv = ScaledConv2D(3, 1, in_channels=3, kind='block')

        def hybrid_forward(self, F, x, factor):
            return F.broadcast_mul(self.conv(x), F.reshape(factor, (1, -1, 1, 1)))

    net = Misnamed()
    net.initialize()
    trainer = make_trainer(net)
    factors = [trainer.names[i] for i in trainer.optimizer.factors]
    assert factors == ['conv.factor'] and 'factor' in trainer.names


def test_a_shared_parameter_is_trained_once():
    first = ScaledConv2D(4, 1, in_channels=4, kind='block')
    net = nn.HybridSequential()
    net.add(first, first, ScaledConv2D(4, 1, in_channels=4, kind='block', params=first.params))
    net.initialize()
    trainer = make_trainer(net)
    assert trainer.names == ['0.weight', '0.bias', '0.factor'] and len(trainer.optimizer.factors) == 1


def test_weight_decay_is_on_weights_and_batchnorm_gamma_only():
    """A gradient of zero and γ = 0: only the decay moves anything."""
    net = make_net()
    for _, parameter in named_parameters(net):
        if parameter.grad_req != 'null':
            parameter.set_data(nd.ones(parameter.shape))
    trainer = make_trainer(net, gamma=0.0, learning_rate=0.5, momentum=0.0, wd=0.1)
    with autograd.record():
        zero = net(nd.ones((2, 2, 6, 6))) * 0
    zero.backward()
    trainer.step(1)
    decayed = {name for name, value in values(net).items() if np.allclose(value, 1 - 0.5 * 0.1) and value.size}
    unmoved = {name for name, value in values(net).items() if (value == 1).all()}
    assert decayed == {'first.weight', 'norm.gamma', 'last.weight', 'output.weight'}
    assert unmoved == {'first.bias', 'first.factor', 'norm.beta', 'norm.factor', 'last.factor', 'output.bias',
                       'norm.running_var'}


def test_multipliers_of_parameters_are_respected():
    net = make_net()
    net.first.weight.wd_mult, net.first.weight.lr_mult = 2.0, 0.5
    net.output.bias.wd_mult = 1.0       # no_decay sets it to 0 again
    trainer = make_trainer(net, wd=0.1, learning_rate=1.0)
    of = {name: i for i, name in enumerate(trainer.names)}
    optimizer = trainer.optimizer
    assert optimizer._get_wd(of['first.weight']) == pytest.approx(0.2)
    assert optimizer._get_lr(of['first.weight']) == pytest.approx(0.5)
    assert optimizer._get_wd(of['output.bias']) == 0 and optimizer._get_wd(of['output.weight']) == pytest.approx(0.1)
    trainer = make_trainer(net, wd=0.1, no_decay='^first')
    assert trainer.optimizer._get_wd(of['first.weight']) == 0


def test_without_factors_it_is_nag():
    net = nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.Zero())
    trainer = make_trainer(net, learning_rate=0.1, momentum=0.9)
    weight, velocity = 0.0, 0.0
    for _ in range(10):
        with autograd.record():
            y = net(nd.ones((1, 1)))
        y.backward()
        trainer.step(1)
        velocity = 0.9 * velocity + 1
        weight -= 0.1 * (1 + 0.9 * velocity)
    assert net.weight.data().asscalar() == pytest.approx(weight, rel=1e-5)


def test_the_rate_of_a_scheduler_is_taken_over():
    net = get_model('cifar_resnet20', depths=[1], widths=[4])
    net.initialize()
    scheduler = mx.lr_scheduler.FactorScheduler(step=10, base_lr=0.5)
    assert make_trainer(net, lr_scheduler=scheduler).learning_rate == 0.5
    assert make_trainer(net).learning_rate == 0.1
    with pytest.raises(SSSError, match='learning_rate=0.2.*base_lr=0.5'):
        make_trainer(net, learning_rate=0.2, lr_scheduler=scheduler)


# Devices

STEPS = 20
DEVICES = dict(gamma=0.12, learning_rate=0.1, momentum=0.9, wd=1e-3)


def run_on(devices, **arguments):
    net = make_net(ctx=list(devices))
    trainer = make_trainer(net, **dict(DEVICES, **arguments))
    train(net, trainer, STEPS, devices=devices)
    for _, parameter in named_parameters(net):      # every device holds the same
        for copy in parameter.list_data()[1:]:
            np.testing.assert_array_equal(copy.asnumpy(), parameter.list_data()[0].asnumpy())
    return values(net)


@pytest.fixture(scope='module')
def one_device():
    found = run_on([mx.cpu(0)], kvstore=None)
    zeros = np.concatenate([value for name, value in found.items() if name.endswith('factor')]) == 0
    assert 0 < zeros.sum() < zeros.size
    return found


@pytest.mark.parametrize('devices', [1, 2, 4])
@pytest.mark.parametrize('kvstore', ['device', 'local'])
@pytest.mark.parametrize('update_on_kvstore', [False, True])
def test_devices_share_a_global_batch(one_device, devices, kvstore, update_on_kvstore):
    scheduler = mx.lr_scheduler.FactorScheduler(100, base_lr=0.1)
    found = run_on([mx.cpu(i) for i in range(devices)], kvstore=kvstore, update_on_kvstore=update_on_kvstore,
                   lr_scheduler=scheduler)
    for name, expected in one_device.items():
        assert np.abs(found[name] - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), name
        if name.endswith('factor'):
            np.testing.assert_array_equal(found[name] == 0, expected == 0)


@pytest.mark.parametrize('update_on_kvstore', [False, True])
def test_multipliers_act_on_two_devices(update_on_kvstore):
    arguments = dict(gamma_mult={'first': 0.0, 'last': 2.0})
    alone = run_on([mx.cpu(0)], kvstore=None, **arguments)
    found = run_on([mx.cpu(0), mx.cpu(1)], update_on_kvstore=update_on_kvstore, **arguments)
    for name, expected in alone.items():
        assert np.abs(found[name] - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), name
    assert (found['first.factor'] > 0).sum() > 6 and (found['last.factor'] == 0).all()


def test_the_first_step_leaves_every_device_its_running_statistics():
    """gluon.Trainer copies those of the first device to the others in its first step."""
    devices = [mx.cpu(0), mx.cpu(1)]
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=1, momentum=0.5), nn.Dense(1, in_units=1))
    net.initialize(ctx=devices)
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = make_trainer(net)
    for step in (1, 2):
        for device, mean in zip(devices, (4.0, 8.0)):
            with autograd.record():
                y = net(nd.full((2, 1), mean, ctx=device))
            y.backward()
        trainer.step(4)
        mx.nd.waitall()
        found = [copy.asscalar() for copy in net[0].running_mean.list_data()]
        assert found == [4 * (1 - 0.5 ** step), 8 * (1 - 0.5 ** step)]
