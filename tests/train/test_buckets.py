"""One update for many parameters gives bit for bit what an update for each gives, whatever happens in between."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from sss_gluon import apg
from sss_gluon.factors import scaling_factors
from sss_gluon.models import get_model
from sss_gluon.placement import add_factors
from sss_gluon.train import buckets
from sss_gluon.train.parameters import named_parameters
from sss_gluon.train.trainer import make_trainer

STEPS = 6
SETTINGS = dict(gamma=2.0, learning_rate=0.1, wd=1e-2)
NETWORKS = {        # name: kinds of factors
    'cifar_resnet20': ('block', 'neuron'),
    'cifar_resnext20': ('group', 'block'),
    'cifar_vgg16': ('neuron',),
    'cifar_resnet164': ('block',),
    'peleenet': ('neuron',),
}


def build(narrow, fill, name='cifar_resnet20', devices=1, static=True):
    options, size = narrow[name]
    net = fill(get_model(name, classes=4, factors=NETWORKS[name], **options))
    if devices > 1:
        net.collect_params().reset_ctx([mx.cpu(i) for i in range(devices)])
    net.hybridize(static_alloc=static, static_shape=static)
    return net, size


def train(net, trainer, size, between=None):
    """Trains on the same images every time; ``between(step, net, trainer)`` may interfere before every step."""
    random = np.random.RandomState(0)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    contexts = trainer._contexts
    mx.random.seed(0)       # of dropout
    for step in range(STEPS):
        images = random.standard_normal((4, 3, size, size)).astype('float32')
        labels = random.randint(0, 4, 4)
        if between is not None:
            between(step, net, trainer)
        for i, context in enumerate(contexts):
            share = slice(i, None, len(contexts))
            with autograd.record():
                error = loss(net(nd.array(images[share], ctx=context)), nd.array(labels[share], ctx=context))
            error.backward()
        trainer.step(4)
    nd.waitall()


def outcome(net, trainer):
    """Every parameter on every device, and the momenta."""
    arrays = {f'{name} {i}': array.asnumpy() for name, p in named_parameters(net)
              for i, array in enumerate(p.list_data())}
    return dict(arrays, **trainer.states())


def predict(step, net, trainer):
    net(nd.ones((2, 3, 32, 32), ctx=trainer._contexts[0])).wait_to_read()


def set_data(step, net, trainer):
    if step == 2:
        for parameter in net.collect_params('.*(weight|gamma|factor)').values():
            parameter.set_data(parameter.list_data()[0] * 0.5)


def write_in_place(step, net, trainer):
    for parameter in net.collect_params('.*(weight|beta)').values():
        for array in parameter.list_data():
            array *= 0.9


def freeze(step, net, trainer):
    for parameter in net.collect_params('.*conv1_weight').values():
        parameter.lr_mult = float(step < 3)


def replace_arrays(step, net, trainer):
    if step == 3:
        nd.waitall()
        net.collect_params().reset_ctx(trainer._contexts)


def learning_rate(step, net, trainer):
    trainer.set_learning_rate(0.1 / (1 + step))


def accumulate(step, net, trainer):
    if step == 1:
        for parameter in net.collect_params().values():
            if parameter.grad_req != 'null':
                parameter.grad_req = 'add'
    if step == 4:
        net.collect_params().zero_grad()


def reload_states(step, net, trainer):
    if step == 3:
        trainer.set_states(trainer.states())


CASES = {       # (network, settings, what happens before each step, devices)
    'resnet': ('cifar_resnet20', {}, None, 1),
    'resnext': ('cifar_resnext20', {}, None, 1),
    'vgg': ('cifar_vgg16', {}, None, 1),
    'clipped': ('cifar_resnet20', dict(clip_gradient=0.02), None, 1),
    'factors of either sign': ('cifar_resnet20', dict(non_negative=False, gamma=0.5), None, 1),
    'gamma by name': ('cifar_resnet20', dict(gamma_mult={'stage1': 0.3, 'stage3': 0.0}), None, 1),
    'decayed factors and biases': ('cifar_vgg16', dict(no_decay='nothing'), None, 1),
    'predictions': ('cifar_vgg16', {}, predict, 1),
    'predictions, bottlenecks': ('cifar_resnet164', {}, predict, 1),
    'predictions, dense blocks': ('peleenet', {}, predict, 1),
    'predictions, grouped convolutions': ('cifar_resnext20', {}, predict, 1),
    'set_data': ('cifar_resnet20', {}, set_data, 1),
    'writes into parameters': ('cifar_resnet20', {}, write_in_place, 1),
    'a multiplier that changes': ('cifar_resnet20', {}, freeze, 1),
    'arrays that are replaced': ('cifar_resnet20', {}, replace_arrays, 1),
    'learning rate': ('cifar_resnet20', dict(gamma_mult={'stage1': 0.3}), learning_rate, 1),
    'gradients that add up': ('cifar_resnet20', {}, accumulate, 1),
    'states set': ('cifar_resnet20', {}, reload_states, 1),
    'rates that MXNet misreads': ('cifar_resnet20', dict(learning_rate=1e-5 / 3), None, 1),
    'two devices': ('cifar_resnet20', {}, predict, 2),
    'two devices, update on the store': ('cifar_resnet20', dict(update_on_kvstore=True), None, 2),
}


@pytest.mark.parametrize('views', [True, pytest.param(False, marks=pytest.mark.slow)], ids=['views', 'copies'])
@pytest.mark.parametrize('case', CASES)
def test_equals_one_update_for_each(case, views, narrow, fill, monkeypatch):
    name, settings, between, devices = CASES[case]
    monkeypatch.setattr('sss_gluon.train.buckets.SMALL', 500)         # so that some parameters are updated on their own
    if between is predict:
        size = narrow[name][1]
        between = lambda step, net, trainer: net(nd.ones((2, 3, size, size))).wait_to_read()    # noqa: E731
    ends = []
    for aggregate in (False, True):
        net, size = build(narrow, fill, name, devices)
        if not views:
            del net.spec
        trainer = make_trainer(net, aggregate=aggregate, **dict(SETTINGS, **settings))
        train(net, trainer, size, between)
        if settings.get('update_on_kvstore'):
            trainer.states = dict           # they live on the store
        ends.append(outcome(net, trainer))
    assert ends[0].keys() == ends[1].keys()
    for key, expected in ends[0].items():
        assert np.isfinite(expected).all() and expected.tobytes() == ends[1][key].tobytes(), key
    assert any((value == 0).any() for key, value in ends[0].items() if 'factor' in key) or settings


@pytest.mark.parametrize('devices, weights', [(1, 'update_weight_numpy'), (2, 'update_weight')])
def test_few_operators_serve_many_parameters(devices, weights, narrow, fill, monkeypatch):
    net, size = build(narrow, fill, devices=devices)
    trainer = make_trainer(net, **SETTINGS)
    calls = []
    for method in ('update', 'update_weight', 'update_weight_numpy', 'update_factor'):
        original = getattr(apg.APGNAG, method)
        monkeypatch.setattr(apg.APGNAG, method,
                            lambda *args, _of=original, _name=method: (calls.append(_name), _of(*args))[1])
    train(net, trainer, size)
    assert sorted(set(calls)) == ['update_factor', weights]
    assert len(calls) == 3 * STEPS * devices        # decayed, not decayed, factors
    assert len([p for p in net.collect_params().values() if p.grad_req != 'null']) == 40


def test_a_network_that_has_trained_gets_no_other_gradient_arrays(narrow, fill):
    """A second trainer of the same network gives the same as one that continues."""
    ends = []
    for aggregate in (False, True):
        net, size = build(narrow, fill)
        for _ in range(2):
            trainer = make_trainer(net, aggregate=aggregate, **SETTINGS)
            train(net, trainer, size)
        ends.append(outcome(net, trainer))
    for key, expected in ends[0].items():
        assert expected.tobytes() == ends[1][key].tobytes(), key


@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('ours', [True, False])
def test_arrays_move_only_in_networks_that_are_ours_on_several_devices(ours, devices, narrow, fill):
    """Who fetched arrays of another network before make_trainer goes on working with those that train."""
    net, size = build(narrow, fill, devices=devices)
    if not ours:
        del net.spec
    parameters = [p for p in net.collect_params().values() if p.grad_req != 'null']
    before = [(p.list_data()[0], p.list_grad()[0]) for p in parameters]
    make_trainer(net, **SETTINGS)
    moved = [(p.list_data()[0] is not data, p.list_grad()[0] is not grad)
             for p, (data, grad) in zip(parameters, before)]
    move = ours and devices > 1
    expected = [(move and len(p.shape) == 1, move) for p in parameters]
    assert moved == expected


def test_a_gradient_that_was_not_computed_is_an_error(narrow, fill):
    net, size = build(narrow, fill)
    trainer = make_trainer(net, **SETTINGS)
    train(net, trainer, size)
    before = outcome(net, trainer)
    for parameter in net.collect_params('.*(weight|gamma|beta)').values():
        parameter.data()._fresh_grad = True
    with pytest.raises(UserWarning, match='Gradient of Parameter `[^`]*(factor|bias)` on context cpu'):
        trainer.step(4)
    for key, value in outcome(net, trainer).items():
        if key != 'num_update':
            assert value.tobytes() == before[key].tobytes(), key


def test_stale_gradients_can_be_ignored(narrow, fill):
    net, size = build(narrow, fill)
    trainer = make_trainer(net, **SETTINGS)
    train(net, trainer, size)
    before = outcome(net, trainer)
    trainer.optimizer.rescale_grad = 1
    first = scaling_factors(net)[0].parameter
    first.data()._fresh_grad = True
    trainer.step(4, ignore_stale_grad=True)
    changed = {key for key, value in outcome(net, trainer).items() if value.tobytes() != before[key].tobytes()}
    assert all('factor' in key or key == 'num_update' for key in changed) and len(changed) <= 3


@pytest.mark.parametrize('views', [True, False], ids=['views', 'copies'])
def test_few_messages_carry_all_gradients(views, narrow, fill, monkeypatch):
    """A step is the sum over devices and one update, as with allreduce_grads() and update()."""
    found = []
    for separately in (False, True):
        net, size = build(narrow, fill, devices=2)
        if not views:
            del net.spec
        trainer = make_trainer(net, **SETTINGS)
        if separately:
            def step(batch_size, trainer=trainer):
                trainer.allreduce_grads()
                trainer.update(batch_size)
            monkeypatch.setattr(trainer, 'step', step)
        train(net, trainer, size)
        found.append(outcome(net, trainer))
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        assert value.tobytes() == found[0][name].tobytes(), name
    trained = [p for p in net.collect_params().values() if p.grad_req != 'null']
    messages = trainer.messages()
    assert len(messages) == 3 < len(trained)        # factors, decayed parameters, the others
    assert all(len(arrays) == 2 for arrays in messages.values())
    assert sum(arrays[0].size for arrays in messages.values()) == sum(np.prod(p.shape) for p in trained)


def test_a_network_with_factors_of_ones_own_is_updated_in_place(fill):
    """Other people's layers, after a prediction, with a layer too large for pieces: as parameter by parameter."""
    ends = []
    for aggregate in (False, True):
        net = gluon.nn.HybridSequential()
        for channels, inside in ((8, 3), (200, 8), (40, 200)):
            net.add(gluon.nn.Conv2D(channels, 3, padding=1, in_channels=inside, use_bias=False),
                    gluon.nn.BatchNorm(in_channels=channels), gluon.nn.Activation('relu'))
        net.add(gluon.nn.GlobalAvgPool2D(), gluon.nn.Dense(4, in_units=40))
        add_factors(fill(net), kinds=('neuron',), input_shape=(1, 3, 8, 8), log=None)
        net.hybridize(static_alloc=True, static_shape=True)
        net(nd.ones((2, 3, 8, 8))).wait_to_read()
        before = [p.data() for p in net.collect_params().values()]
        trainer = make_trainer(net, aggregate=aggregate, **SETTINGS)
        train(net, trainer, 8, lambda step, net, trainer: net(nd.ones((2, 3, 8, 8))).wait_to_read())
        assert all(p.data() is array for p, array in zip(net.collect_params().values(), before))
        ends.append(outcome(net, trainer))
    assert not trainer._buckets[0].buckets and max(p.data().size for p in trainer._params) > buckets.SMALL
    for key, expected in ends[0].items():
        assert expected.tobytes() == ends[1][key].tobytes(), key
