"""Structures that are held at zero, pressed towards it, and removed: what the optimizer does with each entry."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn
from twins import Twins

import sss_gluon as sss
from sss_gluon.structures.shrink import Shrunk

DEVICES = {'one device': (mx.cpu(0),), 'two devices': (mx.cpu(1), mx.cpu(2))}      # none is the default
HELD = np.array([True, False, False, True, False])
EXTREME = np.array([1e30, -1e30, np.inf, -np.inf, 1.0, -1e-30, 0.0])


def layer(devices=DEVICES['one device'], values=(0.5, 0.4, 0.3, 0.2, 0.1)):
    net = sss.ScaledConv2D(5, 1, in_channels=2, kind='neuron')
    net.initialize(ctx=list(devices))
    net.factor.set_data(mx.nd.array(values))
    return net


def step(net, trainer, gradient):
    """One step with a gradient of the factors that is written into them."""
    for parameter in net.collect_params().values():
        for gradients, array in zip(parameter.list_grad(), parameter.list_data()):
            gradients[:] = mx.nd.array(np.broadcast_to(gradient if parameter is net.factor else 0.1, parameter.shape))
            array._fresh_grad = True
    trainer.step(1)
    mx.nd.waitall()


@pytest.mark.parametrize('devices', DEVICES)
@pytest.mark.parametrize('settings', [
    dict(), dict(non_negative=False), dict(clip_gradient=0.5), dict(aggregate=False), dict(momentum=0.0),
    dict(aggregate=False, non_negative=False, clip_gradient=2.0), dict(gamma=0.0)], ids=str)
def test_what_is_held_stays_exactly_zero(settings, devices):
    net = layer(DEVICES[devices], (0.5, -0.4, 0.3, -0.2, 0.1))
    net.factor.wd_mult = 1.0
    trainer = sss.make_trainer(net, **{**dict(gamma=0.1, learning_rate=0.5, wd=0.1), **settings})
    for _ in range(3):
        step(net, trainer, -0.3)
    trainer.hold({'': HELD})
    for gradient in EXTREME:
        step(net, trainer, np.where(HELD, gradient, -0.1))
        for array in net.factor.list_data():
            assert not array.asnumpy()[HELD].any() and array.asnumpy()[~HELD].all()
        assert not trainer.states()['factor'][HELD].any()
    assert np.isfinite(trainer.factor_values()['']).all()


def reference(values, v, gradient, lr, thresholds, momentum):
    """Equations 10 to 12 with the projection, in float64."""
    z = values - lr * gradient
    shrunk = np.sign(z) * np.maximum(np.abs(z) - thresholds, 0)
    v = shrunk - values + momentum * v
    return np.maximum(shrunk + momentum * v, 0), v


@pytest.mark.parametrize('aggregate', [True, False])
@pytest.mark.parametrize('devices', DEVICES)
def test_pressure_is_a_threshold_of_each_structure(devices, aggregate):
    """γ, the multiplier of the layer and the pressure of the structure are multiplied; all may change between steps."""
    net = layer(DEVICES[devices])
    trainer = sss.make_trainer(net, gamma=0.01, learning_rate=0.1, gamma_mult={'.*': 3.0}, aggregate=aggregate)
    values, v = np.array([0.5, 0.4, 0.3, 0.2, 0.1]), np.zeros(5)
    random = np.random.RandomState(0)
    pressure, gamma = np.ones(5), 0.01
    for number in range(12):
        if number % 3 == 1:
            pressure = random.uniform(0, 20, 5) * (random.rand(5) < 0.7)
            trainer.press({'': pressure})
        if number % 4 == 2:
            gamma = trainer.gamma = random.uniform(0.01, 0.05)
        gradient = random.standard_normal(5)
        step(net, trainer, gradient / len(DEVICES[devices]))        # the sum over devices
        values, v = reference(values, v, gradient, 0.1, 0.1 * gamma * 3.0 * pressure, 0.9)
        for array in net.factor.list_data():
            np.testing.assert_allclose(array.asnumpy(), values, rtol=1e-5, atol=2e-7)
    assert (values == 0).any() and (values > 0).any()


def test_a_cut_keeps_pressure_and_held_structures(fill):
    """Pressure is given in the shape of the whole factor, before the cut or after it."""
    lost, held = np.arange(6) == 1, np.array([False, True, False, False, True, False])
    pressure = np.arange(6.0)

    def build():
        net = nn.HybridSequential()
        with net.name_scope():
            net.add(nn.Conv2D(6, 3, in_channels=3), sss.ScaledBatchNorm(6), nn.Activation('relu'),
                    nn.Dense(5, in_units=6 * 36))
        return fill(net)
    pair = Twins(build, (4, 3, 8, 8))
    for run in (pair.held, pair.cut):
        run.trainer.press({'1': pressure})
        run.trainer.hold({'1': held})
    pair.shrink({'1': lost})
    for _ in range(3):
        assert pair.step() < 1e-5 and max(pair.differences().values()) < 1e-4
    for run in (pair.held, pair.cut):
        run.trainer.press({'1': 2 * pressure})
    assert pair.step() < 1e-5 and max(pair.differences().values()) < 1e-4
    for run in (pair.held, pair.cut):
        values = run.trainer.factor_values()['1']
        assert values.shape == (6,) and not values[held | lost].any() and values[~(held | lost)].all()
    assert pair.cut.shrunk.parameters['1.factor'].shape == (5,)


@pytest.mark.parametrize('aggregate', [True, False])
@pytest.mark.parametrize('separately', [False, True], ids=['step', 'allreduce and update'])
def test_two_devices_agree_after_a_cut(separately, aggregate, fill):
    """Their sums go through a store, whose arrays cannot change their shapes."""
    def build():
        net = fill(sss.get_model('cifar_resnet20', 5, ('neuron', 'block'), depths=[1, 1, 1], widths=[4, 4, 6]))
        net.collect_params().reset_ctx(list(DEVICES['two devices']))
        return net
    pair = Twins(build, (8, 3, 8, 8), DEVICES['two devices'], aggregate=aggregate)
    if separately:
        for run in (pair.held, pair.cut):
            trainer = run.trainer
            trainer.step = lambda size, trainer=trainer: (trainer.allreduce_grads(), trainer.update(size))
    pair.step()
    lost = {'stage1.0.norm2': np.arange(4) < 2, 'stage2.0.conv2': np.array([True])}
    pair.shrink(lost)
    for _ in range(3):
        pair.synchronise()
        assert pair.step() < 1e-5 and max(pair.differences().values()) < 2e-4
        for parameter, _ in pair.cut.parameters().values():
            if 'running' not in parameter.name:
                first, second = (array.asnumpy() for array in parameter.list_data())
                np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize('aggregate', [True, False])
def test_saved_states_continue_bit_for_bit(aggregate, fill, tmp_path):
    """Held and removed structures, momenta and γ per structure; in the whole network and in the cut one."""
    def build():
        net = nn.HybridSequential()
        with net.name_scope():
            net.add(nn.Conv2D(6, 3, in_channels=3), sss.ScaledBatchNorm(6), nn.Activation('relu'),
                    nn.Dense(5, in_units=6 * 36))
        return fill(net)
    lost, held = np.arange(6) < 2, np.arange(6) < 3
    random = np.random.RandomState(0)
    batches = [mx.nd.array(random.standard_normal((4, 3, 8, 8))) for _ in range(8)]

    def train(net, trainer, batches):
        for x in batches:
            with autograd.record():
                loss = (net(x) ** 2).mean()
            loss.backward()
            trainer.step(4)
        mx.nd.waitall()

    def cut(net, trainer):
        shrunk = Shrunk(net, (1, 3, 8, 8), {'1': lost})
        trainer.rebind(shrunk.parameters, shrunk.kept, shrunk.removed)
        return shrunk

    def new():
        net = build()
        return net, sss.make_trainer(net, gamma=0.01, learning_rate=0.05, wd=1e-3, aggregate=aggregate)
    net, trainer = new()
    train(net, trainer, batches[:2])
    trainer.hold({'1': held})
    train(net, trainer, batches[2:4])
    shrunk = cut(net, trainer)
    train(shrunk.net, trainer, batches[4:6])
    trainer.save_states(str(tmp_path / 'states.npz'))
    shrunk.restore().save_parameters(str(tmp_path / 'net.params'))
    train(shrunk.net, trainer, batches[6:])

    again, other = new()
    again.load_parameters(str(tmp_path / 'net.params'))
    other.load_states(str(tmp_path / 'states.npz'))
    assert np.array_equal(other.held['1'], held) and np.array_equal(other.removed['1'], lost)
    smaller = cut(again, other)
    train(smaller.net, other, batches[6:])
    for name, value in trainer.states().items():
        np.testing.assert_array_equal(other.states()[name], value, err_msg=name)
    shrunk.restore(), smaller.restore()
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(again._collect_params_with_prefix()[name].data().asnumpy(),
                                      parameter.data().asnumpy(), err_msg=name)


def refusals():
    def on_store():
        net = layer(DEVICES['two devices'])
        scheduler = mx.lr_scheduler.FactorScheduler(100, base_lr=0.1)
        return sss.make_trainer(net, lr_scheduler=scheduler, update_on_kvstore=True)

    def not_zero():
        net = layer()
        return Shrunk(net, (1, 2, 4, 4), {'': HELD})
    return {'hold': lambda: on_store().hold({'': HELD}), 'press': lambda: on_store().press({'': np.ones(5)}),
            'gamma': lambda: setattr(on_store(), 'gamma', 1.0), 'fold': lambda: on_store().fold_factors(),
            'states': lambda: on_store().states(), 'a factor that is not zero': not_zero}


@pytest.mark.parametrize('name', refusals())
def test_refusals(name):
    with pytest.raises(sss.SSSError) as error:
        refusals()[name]()
    assert '\n' not in str(error.value)
