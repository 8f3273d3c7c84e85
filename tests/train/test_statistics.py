"""Running statistics against NumPy, and what they change in a run: what inference reads, nothing else."""
import shutil

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn
from trained_net import values

from sss_gluon import compact, get_model
from sss_gluon.deploy import load_run, prune
from sss_gluon.deploy.trained_run import normalise_only
from sss_gluon.methods import METHODS, train
from sss_gluon.methods.method_run import MethodRun
from sss_gluon.train import RunFolder
from sss_gluon.train.accuracy import evaluate_images
from sss_gluon.train.checkpoint import checkpoints, read_checkpoint
from sss_gluon.train.devices import contexts
from sss_gluon.train.loop import Training
from sss_gluon.train.statistics import average_statistics, estimate_statistics, settle_statistics

TWO = [mx.cpu(0), mx.cpu(1)]
CHANNELS, EPS = 3, 0.01


def quiet(line):
    """Nobody reads the log."""


class Net(nn.HybridBlock):
    """A layer that is used twice, one for the channels at the end, one with the activation inside, and a frozen one."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.twice = nn.BatchNorm(epsilon=EPS, in_channels=CHANNELS)
            self.inner = nn.Conv2D(CHANNELS, 1, in_channels=CHANNELS, use_bias=False)
            self.last = nn.BatchNorm(axis=-1, momentum=0.3, epsilon=EPS, in_channels=CHANNELS)
            self.relu = nn.BatchNormReLU(epsilon=EPS, in_channels=CHANNELS)
            self.frozen = nn.BatchNorm(epsilon=EPS, in_channels=CHANNELS, use_global_stats=True)
            self.drop = nn.Dropout(0.0)
            self.output = nn.Dense(2, in_units=CHANNELS)

    def hybrid_forward(self, F, x):
        x = self.twice(self.inner(self.twice(x)))
        x = self.last(x.transpose((0, 2, 3, 1))).transpose((0, 3, 1, 2))
        return self.output(self.drop(self.frozen(self.relu(x))).mean(axis=(2, 3)))


def make(net=None, devices=TWO, static=True, seed=0):
    """A network with random values, as unlike those after ``initialize`` as those of training."""
    net, random = net or Net(), np.random.RandomState(seed)
    net.initialize(ctx=devices)
    if static:
        net.hybridize(static_alloc=True, static_shape=True)
    for parameter in net.collect_params().values():
        value = random.standard_normal(parameter.shape)
        parameter.set_data(mx.nd.array(np.abs(value) + 0.5 if parameter.name.endswith('var') else value))
    return net


def arrays(count, seed=1):
    """Batches whose means and variances differ, so that no other average passes for that of the batches."""
    random = np.random.RandomState(seed)
    return [random.standard_normal((4, CHANNELS, 5, 5)) * (i + 1) + i for i in range(count)]


def normalised(x, own, name, found):
    """Batch normalisation of (N, C, H, W) in float64, whose statistics are appended to ``found``."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    if f'{name}.running_mean' in found:
        found[f'{name}.running_mean'].append(mean)
        found[f'{name}.running_var'].append(var)
    else:
        mean, var = own[f'{name}.running_mean'], own[f'{name}.running_var']
    column = (slice(None), None, None)
    scale = own[f'{name}.gamma'] / np.sqrt(var + EPS)
    return (x - mean[column]) * scale[column] + own[f'{name}.beta'][column]


@pytest.mark.parametrize('static', [True, False])
def test_means_over_batches_by_hand(static):
    net = make(static=static)
    own = {name: array.astype('float64') for name, array in values(net).items()}
    found = {f'{layer}.{kind}': [] for layer in ('twice', 'last', 'relu') for kind in ('running_mean', 'running_var')}
    batches = arrays(5)
    for x in batches:
        x = normalised(x.astype('float32').astype('float64'), own, 'twice', found)
        x = np.einsum('oi,nihw->nohw', own['inner.weight'][:, :, 0, 0], x)
        x = normalised(normalised(x, own, 'twice', found), own, 'last', found)
        normalised(x, own, 'relu', found)
    assert len(found['twice.running_var']) == 10 and len(found['relu.running_var']) == 5
    estimate_statistics(net, (mx.nd.array(x, ctx=TWO[i % 2]) for i, x in enumerate(batches)))
    for name, parameter in net._collect_params_with_prefix().items():
        expected = np.mean(found[name], axis=0) if name in found else own[name]
        for array in parameter.list_data():
            if name in found:
                np.testing.assert_allclose(array.asnumpy(), expected, rtol=2e-5, atol=2e-6, err_msg=name)
                assert np.abs(expected - own[name]).max() > 0.1
            else:
                np.testing.assert_array_equal(array.asnumpy(), expected, err_msg=name)


@pytest.mark.parametrize('small', [False, True], ids=['network', 'compact'])
@pytest.mark.parametrize('name', ['cifar_vgg16', 'cifar_resnet164', 'cifar_resnext20'])
def test_inference_on_one_batch_is_that_of_training(name, small, narrow, fill, zero, batch):
    options, size = narrow[name]
    net = zero(fill(get_model(name, classes=5, **options)), chance=0.2)
    if small:
        net = compact(net, (1, 3, size, size)).net
    x = batch(8, 3, size, size)
    with autograd.train_mode():
        expected = net(x).asnumpy()
    apart = np.abs(net(x).asnumpy() - expected).max()
    estimate_statistics(net, [x])
    assert np.abs(net(x).asnumpy() - expected).max() < 1e-4 * max(apart, np.abs(expected).max())
    assert apart > 0.1 * np.abs(expected).max()


def test_neither_network_without_layers_nor_with_frozen_ones_changes():
    for layer in (nn.Dense(2, in_units=2), nn.BatchNorm(in_channels=2, use_global_stats=True)):
        net = nn.HybridSequential()
        net.add(layer)
        before = values(make(net))
        estimate_statistics(net, iter([]))
        average_statistics(net)
        assert all((array == before[name]).all() for name, array in values(net).items())


def test_the_mean_over_devices_by_hand():
    net = make(devices=[mx.cpu(i) for i in range(3)])
    weights = values(net)
    for i, scale in enumerate((1, 3, 8)):
        for layer in (net.twice, net.last):
            layer.running_mean.list_data()[i][:] = mx.nd.array([scale, -scale, 0])
            layer.running_var.list_data()[i][:] = scale ** 2
    average_statistics(net)
    for layer in (net.twice, net.last):
        for array in layer.running_mean.list_data():
            np.testing.assert_array_equal(array.asnumpy(), [4, -4, 0])
        for array in layer.running_var.list_data():
            np.testing.assert_array_equal(array.asnumpy(), np.float32([74 / 3] * 3))
    for name, array in values(net).items():
        assert 'running' in name or (array == weights[name]).all()


def newest(run):
    path = checkpoints(run.checkpoints)[-1]
    return read_checkpoint(path)[0]


def begun(config):
    return Training(config, MethodRun(METHODS['sss']), RunFolder(config.run), contexts(config.devices), quiet)


SETTINGS = dict(epochs=3, factors=['neuron', 'block'], gamma=0.04, learning_rate=0.1)


@pytest.fixture(scope='module')
def runs(trained):
    """The same run with exponential averages and with estimates, on two devices and in two parts."""
    return [RunFolder(trained(**SETTINGS, devices=['cpu0', 'cpu1'], grad_accumulation=2, statistics_batches=count))
            for count in (0, 4)]


def test_training_is_bit_for_bit_that_without(runs):
    without, estimated = map(newest, runs)
    assert without.keys() == estimated.keys()
    for name, array in without.items():
        assert (array.tobytes() == estimated[name].tobytes()) == ('running' not in name), name
    rows = [run.metrics.rows() for run in runs]
    for one, other in zip(*rows):
        changed = {key for key in one if one[key] != other[key]}
        assert 'loss' in changed and changed <= {'loss', 'top1', 'top5'}
    assert runs[0].factors.path.read_bytes() == runs[1].factors.path.read_bytes()


@pytest.mark.parametrize('which', [0, 1], ids=['averaged', 'estimated'])
def test_what_was_logged_is_saved_and_pruned(runs, which, tmp_path):
    """The two devices of the run have one set of statistics at the end of an epoch."""
    assert not any(name.startswith('device1:') for name in newest(runs[which]))
    shutil.copytree(runs[which].path, tmp_path / 'run')
    again = load_run(tmp_path / 'run', log=quiet)
    pruned = prune(tmp_path / 'run', log=quiet)
    assert 0 < pruned.after.macs < pruned.before.macs
    logged = runs[which].metrics.rows()[-1]
    for net in (again.net, pruned.net):
        found = evaluate_images(net, again.data.validation or again.data.test, normalise_only(again.data), 64, TWO[:1])
        assert (float(logged['loss']), float(logged['top1'])) == pytest.approx(found[:2], rel=1e-5)


def test_two_devices_differ_within_an_epoch_and_agree_after_it(configure):
    """What is evaluated or pruned within an epoch has the mean of both."""
    training = begun(configure(devices=['cpu0', 'cpu1'], epochs=1))

    def different():
        mx.nd.waitall()
        copies = {name: p.list_data() for name, p in training.net._collect_params_with_prefix().items()}
        return {name for name, (one, other) in copies.items() if (one.asnumpy() != other.asnumpy()).any()}

    training.run_epoch(0)
    assert different() and all('running' in name for name in different())
    training.save()
    assert {name for name in newest(training.run) if name.startswith('device1:')} == {
        f'device1:{name}' for name in different()}
    training.run.save_config(training.config)
    read = load_run(training.run.path, log=quiet).net._collect_params_with_prefix()
    for name, parameter in training.net._collect_params_with_prefix().items():
        one, other = (array.asnumpy().astype('float64') for array in parameter.list_data())
        np.testing.assert_array_equal(read[name].data().asnumpy(), ((one + other) / 2).astype('float32'))
    training.finish_epoch(0)
    assert not different()


@pytest.mark.parametrize('settings, expected', [
    (dict(), 10), (dict(statistics_batches=1), 1), (dict(statistics_batches=1000), 18),    # an epoch has no more
    (dict(statistics_batches=0), 0), (dict(factors=[]), 0),
])
def test_runs_that_have_structures_to_lose_estimate(configure, monkeypatch, settings, expected):
    taken = []
    monkeypatch.setattr('sss_gluon.train.statistics.estimate_statistics',
                        lambda net, batches, workers: taken.extend(batches))
    training = begun(configure(**settings))
    settle_statistics(training)
    assert len(taken) == expected


def test_a_structure_that_is_fixed_has_statistics_that_follow(configure, monkeypatch):
    """A target of 1 is met before the first step; a target of 0.6 in an epoch, after which nothing is estimated."""
    epochs = []
    monkeypatch.setattr('sss_gluon.train.statistics.estimate_statistics',
                        lambda net, batches, workers: epochs.append(None))
    train(configure(factors=['block'], epochs=2, target_macs=1), lambda line: None)
    assert not epochs
    met = []
    run = train(configure('met', factors=['block'], epochs=6, search=0.5, target_macs=0.6, learning_rate=0.1),
                lambda line: met.append(len(epochs)) if 'met after' in line else None)
    moved = [row for row in run.metrics.rows() if float(row['gamma']) > 0]      # γ is the highest of the epoch
    assert len(met) == 1 and met[0] < len(epochs) == len(moved) < 6


def test_the_batches_are_those_of_the_first_steps(configure, monkeypatch):
    """Whatever the epoch, in the parts of two devices and two accumulated micro-batches."""
    taken = []
    monkeypatch.setattr('sss_gluon.train.statistics.estimate_statistics',
                        lambda net, batches, workers: taken.extend(batches))
    training = begun(configure(devices=['cpu0', 'cpu1'], grad_accumulation=2, statistics_batches=3))
    settle_statistics(training)
    assert [batch.context for batch in taken] == TWO * 6
    expected = [x for x, _ in zip((x for x, _ in training.batches.epoch(0)), range(3))]
    np.testing.assert_array_equal(np.concatenate([batch.asnumpy() for batch in taken]), np.concatenate(expected))


DROPS = """
from mxnet.gluon import nn
from sss_gluon import ScaledConv2D


def net(classes, in_channels):
    net = nn.HybridSequential()
    net.add(ScaledConv2D(4, 3, in_channels=in_channels, kind='neuron'), nn.Dropout(0.5), nn.BatchNorm(in_channels=4),
            nn.GlobalAvgPool2D(), nn.Dense(classes, in_units=4))
    return net
"""


def test_random_masks_are_those_of_the_seed(configure, tmp_path, monkeypatch):
    (tmp_path / 'drops.py').write_text(DROPS, 'utf-8')
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        training = begun(configure(model='drops:net', model_options={}, seed=seed))
        training.batches.seed = 0       # the masks alone differ
        weight = training.net[0].weight
        weight.set_data(mx.nd.ones(weight.shape))
        mx.random.seed(noise)
        settle_statistics(training)
        found.append(training.net[2].running_var.data().asnumpy())
    assert found[0].tobytes() == found[1].tobytes() != found[2].tobytes()
