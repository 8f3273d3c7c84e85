"""make_trainer: order, decay, multipliers of gamma, states by name, and several devices."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, ScaledConv2D, get_model, make_trainer, scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.structures.masked_count import mac_weights
from sss_gluon.train.trainer import FactorTrainer, gamma_multipliers, named_parameters

BATCH = 16
ONE = (mx.cpu(0),)


class Net(nn.HybridBlock):
    """All kinds of parameters. Batch normalisation uses its running statistics, as those of a batch are per device."""

    def __init__(self, channels=8, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = ScaledConv2D(channels, 3, padding=1, in_channels=2, kind='neuron')
            self.norm = ScaledBatchNorm(channels, kind='group', groups=4, use_global_stats=True)
            self.last = ScaledConv2D(channels, 3, padding=1, in_channels=channels, kind='block', use_bias=False)
            self.output = nn.Dense(5, in_units=channels)

    def hybrid_forward(self, F, x):
        x = F.Activation(self.norm(self.first(x)), act_type='relu')
        return self.output(F.flatten(F.Pooling(x + self.last(x), global_pool=True, pool_type='avg', kernel=(1, 1))))


def make_net(seed=0, ctx=None, **kwargs):
    net, random = Net(**kwargs), np.random.RandomState(seed)
    net.initialize(ctx=ctx)
    for name, parameter in named_parameters(net):
        if not name.endswith(('factor', 'running_var', 'gamma')):
            parameter.set_data(nd.array(0.3 * random.standard_normal(parameter.shape)))
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def train(net, trainer, steps, start=0, devices=ONE):
    """Steps on batches that depend on the number of the step, cut over the devices."""
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(start, start + steps):
        random = np.random.RandomState(step)
        x = random.standard_normal((BATCH, 2, 6, 6)).astype('float32')
        y = random.randint(0, 5, BATCH).astype('float32')
        x += y[:, None, None, None] / 4
        for device, images, labels in zip(devices, np.split(x, len(devices)), np.split(y, len(devices))):
            with autograd.record():
                error = loss(net(nd.array(images, ctx=device)), nd.array(labels, ctx=device))
            error.backward()
        trainer.step(BATCH)
    mx.nd.waitall()


def values(net):
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in named_parameters(net)}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


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


# Multipliers of γ

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


# States

SETTINGS = dict(gamma=0.05, learning_rate=0.1, momentum=0.9, wd=1e-2)


def schedule():
    return mx.lr_scheduler.MultiFactorScheduler([5, 12, 25], 0.5, 0.1)


def test_states_round_trip_trains_on_bit_for_bit(tmp_path):
    net = make_net()
    trainer = make_trainer(net, lr_scheduler=schedule(), **SETTINGS)
    train(net, trainer, 10)
    trainer.save_states(str(tmp_path / 'states.npz'))
    between = values(net)
    train(net, trainer, 20, start=10)

    other = make_net(seed=1)
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(between[name]))
    again = make_trainer(other, lr_scheduler=schedule(), **SETTINGS)
    again.load_states(str(tmp_path / 'states.npz'))
    assert again.optimizer.num_update == 10 and again.learning_rate == 0.05
    train(other, again, 20, start=10)
    assert_equal(values(other), values(net))
    assert_equal(again.states(), trainer.states())
    assert any((factor.values() == 0).any() for factor in scaling_factors(net))
    with np.load(tmp_path / 'states.npz', allow_pickle=False) as file:
        assert set(file.files) == {'num_update', *(n for n in trainer.names if 'running' not in n)}


def test_states_load_into_a_trainer_that_has_trained():
    net, other = make_net(), make_net()
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(other, **SETTINGS)
    train(net, trainer, 4)
    train(other, again, 9, start=50)
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    again.set_states(trainer.states())
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 4, start=4)
    assert_equal(values(other), values(net))


def test_configuration_wins_over_the_file(tmp_path):
    """γ, rate, schedule, decay and multipliers are those of the new trainer; momenta and count are the file's."""
    net = make_net()
    trainer = make_trainer(net, lr_scheduler=schedule(), **SETTINGS)
    train(net, trainer, 10)
    trainer.save_states(str(tmp_path / 'states.npz'))
    other = make_net()
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    new = dict(gamma=0.2, momentum=0.5, wd=0.0, learning_rate=0.3)
    again = make_trainer(other, lr_scheduler=mx.lr_scheduler.MultiFactorScheduler([8, 15], 0.1, 0.3),
                         gamma_mult={'last': 0.0}, **new)
    again.load_states(str(tmp_path / 'states.npz'))
    optimizer = again.optimizer
    assert (optimizer.gamma, optimizer.momentum, optimizer.wd) == (0.2, 0.5, 0.0)
    assert again.learning_rate == pytest.approx(0.03) and trainer.learning_rate == 0.05

    optimizer = trainer.optimizer       # the old trainer, turned to the same settings in place
    optimizer.gamma, optimizer.momentum, optimizer.wd, optimizer.gamma_mult = 0.2, 0.5, 0.0, again.optimizer.gamma_mult
    optimizer.lr_scheduler = mx.lr_scheduler.MultiFactorScheduler([8, 15], 0.1, 0.3)
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 10, start=10)
    assert_equal(values(other), values(net))


def test_states_before_the_first_step():
    net = make_net()
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(net, **SETTINGS)
    assert not any(array.any() for array in trainer.states().values())
    again.set_states(trainer.states())
    assert again.optimizer.num_update == 0


def _broken(change):
    def make(arrays):
        change(arrays)
        return arrays
    return make


@pytest.mark.parametrize('change, words', [
    (lambda a: a.pop('num_update'), 'num_update is missing'),
    (lambda a: a.pop('last.factor'), r'the state of last.factor is missing \(1 in all\)'),
    (lambda a: a.update(strange=np.zeros(2)), 'there is no parameter strange'),
    (lambda a: a.update({'first.factor': np.zeros(9)}), r'first.factor has shape \(9,\), the parameter \(8,\)'),
    (lambda a: a.update({'first.weight@float32': np.zeros(1)}), r'first.weight@float32 has shape'),
])
def test_states_that_do_not_fit_are_errors(tmp_path, change, words):
    net = make_net()
    trainer = make_trainer(net, **SETTINGS)
    train(net, trainer, 2)
    arrays = trainer.states()
    change(arrays)
    np.savez(tmp_path / 'states.npz', **arrays)
    before = trainer.states()
    with pytest.raises(SSSError, match=words) as error:
        trainer.load_states(str(tmp_path / 'states.npz'))
    assert 'states.npz' in str(error.value)
    assert_equal(trainer.states(), before)


def test_states_of_another_network_and_damaged_files(tmp_path):
    wide = make_net(channels=12)
    trainer = make_trainer(wide, **SETTINGS)
    train(wide, trainer, 1)
    trainer.save_states(str(tmp_path / 'wide.npz'))
    narrow = make_trainer(make_net(), **SETTINGS)
    with pytest.raises(SSSError, match='has shape'):
        narrow.load_states(str(tmp_path / 'wide.npz'))
    content = (tmp_path / 'wide.npz').read_bytes()
    (tmp_path / 'cut.npz').write_bytes(content[:len(content) // 2])
    for name in ('cut.npz', 'nothing.npz'):
        with pytest.raises(SSSError, match=name):
            narrow.load_states(str(tmp_path / name))


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


def test_states_of_two_devices(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    net, other = make_net(ctx=devices), make_net(ctx=devices)
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(other, **SETTINGS)
    train(net, trainer, 5, devices=devices)
    trainer.save_states(str(tmp_path / 'states.npz'))
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    again.load_states(str(tmp_path / 'states.npz'))
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 10, start=5, devices=devices)
    assert_equal(values(other), values(net))


def test_states_on_the_store_are_refused_in_one_sentence(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    net = make_net(ctx=devices)
    trainer = make_trainer(net, update_on_kvstore=True, **SETTINGS)
    train(net, trainer, 1, devices=devices)
    np.savez(tmp_path / 'states.npz', num_update=0)
    before = (tmp_path / 'states.npz').read_bytes()
    for call in (trainer.save_states, trainer.load_states):
        with pytest.raises(SSSError, match='update_on_kvstore=True.*saved') as error:
            call(str(tmp_path / 'states.npz'))
        assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / 'states.npz').read_bytes() == before


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
