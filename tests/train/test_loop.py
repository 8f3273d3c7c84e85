"""The training loop on the shipped digits: tables, seeds, accumulation, devices, and continued runs."""
import os
import re
import shutil

import mxnet as mx
import numpy as np
import pytest
from comparison import STEPS, arrays, assert_close, quiet, tables

from sss_gluon import scaling_factors
from sss_gluon.deploy import load_run
from sss_gluon.errors import SSSError
from sss_gluon.methods import train
from sss_gluon.structures import remaining
from sss_gluon.train import RunFolder
from sss_gluon.train.loop import Training
from sss_gluon.train.method import Method


def test_tables_of_a_run(configure):
    said = []
    run = train(configure(epochs=3, lr_mode='step', lr_decay_epochs=[1, 2], factors=['neuron', 'block'], gamma=0.06,
                          learning_rate=0.1), said.append)
    metrics, factors, timing = run.metrics.rows(), run.factors.rows(), run.timing.rows()
    assert list(metrics[0]) == [
        'epoch', 'learning_rate', 'train_loss', 'train_top1', 'evaluated_on', 'loss', 'top1', 'top5', 'neurons_alive',
        'neurons', 'blocks_alive', 'blocks', 'params', 'params_left', 'macs', 'macs_left']
    assert list(timing[0]) == ['epoch', 'train_seconds', 'images_per_second', 'evaluation_seconds']
    # 8, 8 and 16 channels inside the blocks
    names = [(f'stage{i}.0.{layer}', size) for i, width in ((1, 8), (2, 8), (3, 16))
             for layer, size in (('norm2', width), ('conv2', 1))]
    assert list(factors[0]) == ['epoch'] + [f'{name}[{i}]' for name, size in names for i in range(size)]
    for rows in (metrics, factors, timing):
        assert [row['epoch'] for row in rows] == ['1', '2', '3']
    assert [float(row['learning_rate']) for row in metrics] == pytest.approx([0.1, 0.01, 0.001])
    assert {row['evaluated_on'] for row in metrics} == {'validation'}
    assert all(float(row['images_per_second']) > 0 for row in timing)

    trained = load_run(run.path)
    last = {f'{factor.name}[{i}]': value for factor in scaling_factors(trained.net)
            for i, value in enumerate(factor.values())}
    for name, value in last.items():
        assert np.float32(factors[-1][name]) == value       # nine digits are all there are
    zeros = {kind: sum(value == 0 for name, value in last.items() if kind in name) for kind in ('norm2', 'conv2')}
    assert int(metrics[-1]['neurons_alive']) == 32 - zeros['norm2'] < 32 == int(metrics[-1]['neurons'])
    assert int(metrics[-1]['blocks_alive']) == 3 - zeros['conv2'] and metrics[-1]['blocks'] == '3'
    dense, left = remaining(trained.net, trained.input_shape)
    assert (int(metrics[0]['params']), int(metrics[0]['macs'])) == (dense.params, dense.macs)
    assert (int(metrics[-1]['params_left']), int(metrics[-1]['macs_left'])) == (left.params, left.macs)
    assert all(f'epoch   {i}/3' in line and 'neurons' in line for i, line in enumerate(said[1:], 1)) and len(said) == 4
    head = f'197 images of 1x8x8, 10 classes; {dense.macs:,} MACs, {dense.params:,} params; cpu, '
    assert head in said[0] and max(map(len, said)) <= 80
    assert all(re.search(r'  \d+(\.\d)? s$', line) for line in said[1:])
    assert float(metrics[0]['train_loss']) > float(metrics[2]['train_loss'])


def test_evaluation_is_on_the_test_images_without_validation(configure):
    run = train(configure(validation=0, epochs=1), quiet)
    row, = run.metrics.rows()
    assert row['evaluated_on'] == 'test'
    trained = load_run(run.path)
    assert trained.data.validation is None and len(trained.data.train) == 1497
    images = (trained.data.test.images.astype('float32') - trained.data.mean[0]) / trained.data.std[0]
    guesses = trained.net(mx.nd.array(images)).asnumpy().argmax(axis=1)
    assert float(row['top1']) == pytest.approx((guesses == trained.data.test.labels).mean(), abs=1e-6)


def test_seeds_make_runs_and_nothing_else_does(configure):
    first, again, other = (train(configure(name, seed=seed), quiet) for name, seed in (('a', 3), ('b', 3), ('c', 4)))
    assert tables(first) == tables(again) != tables(other)
    assert_close(arrays(again), arrays(first), tolerance=0)
    assert (arrays(other)['param:output.weight'] != arrays(first)['param:output.weight']).all()


def test_accumulation_makes_the_same_step(configure, own_nets):
    """Without batch normalisation the gradient of 64 images is that of 4 x 16."""
    settings = dict(model='own_nets:plain', model_options={}, epochs=1, learning_rate=0.02, clip_gradient=0.5)
    whole, parts = (train(configure(f'by {n}', grad_accumulation=n, **settings), quiet) for n in (1, 4))
    assert_close(arrays(parts), arrays(whole))
    found, expected = parts.metrics.rows()[0], whole.metrics.rows()[0]
    assert float(found['train_loss']) == pytest.approx(float(expected['train_loss']), rel=1e-5)
    assert found['train_top1'] == expected['train_top1']


def test_devices_make_the_same_step(configure, own_nets):
    settings = dict(model='own_nets:plain', model_options={}, epochs=1, learning_rate=0.02)
    one = train(configure('one', **settings), quiet)
    for name, more in (('two', dict(devices=['cpu0', 'cpu1'])),
                       ('four parts', dict(devices=['cpu0', 'cpu1'], grad_accumulation=2, kvstore='local'))):
        assert_close(arrays(train(configure(name, **settings, **more), quiet)), arrays(one))


def test_a_finished_run_does_nothing(configure):
    config, said = configure(epochs=1), []
    run = train(config, quiet)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob('*')
              if path.is_file() and path.name not in ('.lock', 'config.yaml')}
    settings = (run.path / 'config.yaml').read_bytes()
    train(config, said.append)
    assert said == [f'{run} is finished (1 epochs); nothing to do']
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    assert (run.path / 'config.yaml').read_bytes() == settings


def test_more_epochs_continue_a_run(configure):
    said = []
    whole = train(configure('whole', epochs=3), quiet)
    train(configure('parts', epochs=1), quiet)
    parts = train(configure('parts', epochs=3), said.append)
    assert said[0] == f'{parts}: epochs raised from 1 to 3' and 'continuing after epoch 1' in said[1]
    assert_close(arrays(parts), arrays(whole), tolerance=0)
    assert tables(parts) == tables(whole) and parts.config().epochs == 3


@pytest.mark.parametrize('changes, words', [
    (dict(gamma=0.5), r'gamma: 0.02 -> 0.5'), (dict(seed=1, batch_size=32), r'seed: 0 -> 1; batch_size: 64 -> 32'),
    (dict(epochs=1), 'epochs: 2 -> 1'), (dict(devices=['cpu0', 'cpu1']), 'devices'),
    (dict(factors=['neuron']), 'factors'),
    (dict(model_options=dict(depths=[1, 1, 1], widths=[8, 8, 8])), 'model_options'),
])
def test_a_run_keeps_its_settings(configure, trained, changes, words):
    run = RunFolder(configure().run)
    shutil.copytree(trained(), run.path)
    before = {path: path.read_bytes() for path in run.path.rglob('*') if path.is_file()}
    with pytest.raises(SSSError, match=rf'was begun with other settings \(.*{words}'):
        train(configure(**changes), quiet)
    assert {path: path.read_bytes() for path in run.path.rglob('*') if path.is_file()} == before


def test_settings_that_no_result_depends_on_may_change(configure):
    train(configure(epochs=1), quiet)
    run = train(configure(epochs=2, checkpoint_every=2, keep_checkpoints=5), quiet)
    assert run.config().keep_checkpoints == 5 and len(run.metrics.rows()) == 2


@pytest.mark.parametrize('schedule, words', [
    (dict(lr_mode='cosine'), 'lr_mode=cosine'),
    (dict(lr_mode='step'), r'lr_decay_epochs=\[1.0,1.333333333,1.666666667\]'),
])
def test_a_schedule_that_spreads_over_all_epochs_is_not_made_longer(configure, schedule, words):
    run = train(configure(epochs=2, **schedule), quiet)
    before = run.config_file.read_bytes()
    with pytest.raises(SSSError, match='epochs: 2 -> 3.*' + words):
        train(configure(epochs=3, **schedule), quiet)
    assert run.config_file.read_bytes() == before


@pytest.mark.parametrize('begun', [[1], [0.5]])
def test_a_schedule_of_epochs_is_made_longer(configure, trained, begun):
    """Shares too, once they are written as the epochs that they were; the rates are those of one long run."""
    train(configure(epochs=2, lr_mode='step', lr_decay_epochs=begun), quiet)
    run = train(configure(epochs=3, lr_mode='step', lr_decay_epochs=[1]), quiet)
    whole = RunFolder(trained(epochs=3, lr_mode='step', lr_decay_epochs=[1]))
    assert run.metrics.rows() == whole.metrics.rows() and run.config().lr_decay_epochs == [1]


def test_checkpoints_every_so_many_epochs_and_at_the_end(configure):
    run = train(configure(epochs=5, checkpoint_every=2, keep_checkpoints=9), quiet)
    assert sorted(os.listdir(run.checkpoints)) == ['epoch-0002.npz', 'epoch-0004.npz', 'epoch-0005.npz']
    assert int(arrays(run)['state:num_update']) == 5 * STEPS


@pytest.mark.parametrize('model, random', [('net', False), ('dropout', True), ('operator', True)])
def test_networks_that_draw_random_numbers_are_told_apart(configure, own_nets, model, random):
    config = configure(model=f'own_nets:{model}', model_options={})
    training = Training(config, Method(), RunFolder(config.run), [mx.cpu()], quiet)
    assert training.random_operators == random
