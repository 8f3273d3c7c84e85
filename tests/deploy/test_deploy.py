"""From a run folder to the compact network, and what both are worth."""
import csv
import json
import shutil

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from sss_gluon import scaling_factors
from sss_gluon.deploy import evaluate, evaluate_exported, load_run, prune
from sss_gluon.errors import SSSError
from sss_gluon.methods import train
from sss_gluon.train import RunFolder


def quiet(line):
    pass


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(finished, tmp_path / 'run')
    return RunFolder.open(tmp_path / 'run')


@pytest.fixture(scope='module')
def pruned(finished, tmp_path_factory):
    """A copy of the finished run with its compact network. Not to be changed."""
    path = tmp_path_factory.mktemp('pruned') / 'run'
    shutil.copytree(finished, path)
    prune(path, log=quiet)
    return path


def zero_in_checkpoint(run, names):
    """Set factors to zero in the newest checkpoint, as training might have."""
    path = sorted(run.checkpoints.iterdir())[-1]
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    for name in names:
        arrays[f'param:{name}.factor'][:] = 0
    np.savez(path, **arrays)


def test_load_run_is_the_network_that_was_trained(finished):
    trained = load_run(finished)
    assert trained.epochs == 3 and trained.input_shape == (1, 1, 8, 8) and trained.config.gamma == 0.04
    last = {key: float(value) for key, value in RunFolder(finished).factors.rows()[-1].items() if key != 'epoch'}
    found = {f'{factor.name}[{i}]': value for factor in scaling_factors(trained.net)
             for i, value in enumerate(factor.values())}
    assert found == pytest.approx(last, rel=1e-6, abs=0) and 0 in found.values()


def test_prune_cuts_what_is_zero_and_nothing_else(run):
    trained = load_run(run.path)
    result = prune(run.path, log=quiet)
    assert result.max_difference < 1e-5 and result.unhandled == []
    for factor in scaling_factors(trained.net):
        assert result.structure.factors[factor.name]['kept'] == np.flatnonzero(factor.values()).tolist()
    removed = result.structure.removed()
    assert 0 < removed['neuron'] < 32 and 0 < removed['block'] < 3
    row = run.metrics.rows()[-1]
    assert (result.after.params, result.after.macs) == (int(row['params_left']), int(row['macs_left']))
    assert result.after.macs < result.before.macs
    assert sorted(path.name for path in run.compact.parent.iterdir()) \
        == ['model-0000.params', 'model-structure.json', 'model-symbol.json']

    small = gluon.SymbolBlock.imports(f'{run.compact}-symbol.json', ['data'], f'{run.compact}-0000.params')
    x = mx.nd.array((trained.data.test.images - trained.data.mean[:, None, None]) / trained.data.std[:, None, None])
    expected, found = trained.net(x).asnumpy(), small(x).asnumpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max() and np.ptp(expected) > 1
    spec = json.loads((run.compact.parent / 'model-structure.json').read_text('utf-8'))['model']
    assert spec['options'] == dict(depths=[1, 1, 1], widths=[8, 8, 16]) and spec['factors'] == ['neuron', 'block']


def test_prune_again_after_more_zeros(run):
    first = prune(run.path, log=quiet)
    alive = [name for name, row in first.structure.factors.items() if row['kind'] == 'block' and row['kept']]
    zero_in_checkpoint(run, alive[:1])
    second = prune(run.path, log=quiet)
    assert second.structure.factors[alive[0]]['kept'] == [] and second.after.macs < first.after.macs
    assert run.structure().factors == second.structure.factors


def test_prune_all_blocks(run):
    zero_in_checkpoint(run, [f'stage{i}.0.conv2' for i in (1, 2, 3)])
    result = prune(run.path, log=quiet)
    assert result.structure.removed()['block'] == 3
    # What is left: the stem 3x3 1->16, the projections 1x1 and the dense layer
    assert result.after.macs == 64 * 9 * 16 + 64 * 16 * 8 + 16 * 8 * 8 + 4 * 8 * 16 + 16 * 10


def test_prune_of_a_run_that_is_not_finished(configure):
    config = configure(epochs=2)
    train(configure(epochs=1), quiet)
    RunFolder(config.run).save_config(config)
    said = []
    prune(config.run, log=said.append)
    assert said == [f'note: {config.run} is at epoch 1 of 2']


def test_prune_while_the_run_is_in_use(run):
    with run.locked(), pytest.raises(SSSError, match='in use'):
        prune(run.path, log=quiet)
    assert not run.compact.parent.exists()


def test_evaluate_before_and_after_prune(run):
    row, = evaluate(run.path, log=quiet)
    assert row.name == 'unpruned' and row.accuracy.images == 300
    prune(run.path, log=quiet)
    dense, small = evaluate(run.path, log=quiet)
    assert (dense.name, small.name) == ('unpruned', 'compact') and dense[:4] == row[:4]
    assert (small.accuracy.top1, small.accuracy.top5) == (dense.accuracy.top1, dense.accuracy.top5)
    assert small.accuracy.loss == pytest.approx(dense.accuracy.loss, rel=1e-5)
    assert small.params < dense.params and small.macs < dense.macs
    assert all(set(row.seconds) == {1, 64} and min(row.seconds.values()) > 0 for row in (dense, small))

    trained = load_run(run.path)
    images = (trained.data.test.images - trained.data.mean[:, None, None]) / trained.data.std[:, None, None]
    guesses = trained.net(mx.nd.array(images)).asnumpy().argmax(axis=1)
    assert dense.accuracy.top1 == pytest.approx((guesses == trained.data.test.labels).mean())
    with open(run.path / 'evaluation.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['network'] for row in rows] == ['unpruned', 'compact']
    for written, row in zip(rows, (dense, small)):
        assert (int(written['params']), int(written['macs']), int(written['images'])) == (row.params, row.macs, 300)
        assert float(written['top1']) == pytest.approx(row.accuracy.top1, abs=1e-6)
        assert float(written['ms_batch_64']) == pytest.approx(1000 * row.seconds[64], abs=1e-4)


@pytest.mark.parametrize('name, shown', [('other', 'other'), ('unpruned', 'unpruned (against)'),
                                         ('compact', 'compact (against)')])
def test_evaluate_against_another_run(pruned, configure, tmp_path, name, shown):
    other = train(configure(name, factors=[], epochs=1), quiet)
    shutil.copytree(pruned, tmp_path / 'copy')
    rows = evaluate(tmp_path / 'copy', other.path, log=quiet)
    assert [row.name for row in rows] == ['unpruned', 'compact', shown]
    assert rows[2].accuracy != rows[0].accuracy
    alone, = evaluate(other.path, log=quiet)
    assert rows[2][1:4] == alone[1:4]


def test_evaluate_against_another_data_set(pruned, configure):
    other = train(configure('other', image_size=16, epochs=1), quiet)
    with pytest.raises(SSSError, match=r'other .*digits \(1, 16, 16\)'):
        evaluate(pruned, other.path, log=quiet)


def test_evaluate_exported(pruned, tmp_path):
    symbol = pruned / 'compact' / 'model-symbol.json'
    row = evaluate_exported(symbol)
    expected = evaluate_copy(pruned, tmp_path)[1]
    assert row.name == 'model-symbol.json' and row[1:4] == expected[1:4]
    for name in ('model-symbol.json', 'model-0000.params'):
        shutil.copy(pruned / 'compact' / name, tmp_path / name)
    with pytest.raises(SSSError, match='--data run'):
        evaluate_exported(tmp_path / 'model-symbol.json')
    assert evaluate_exported(tmp_path / 'model-symbol.json', pruned)[1:4] == row[1:4]


def evaluate_copy(pruned, tmp_path):
    shutil.copytree(pruned, tmp_path / 'copy')
    return evaluate(tmp_path / 'copy', log=quiet)


@pytest.mark.parametrize('call', [load_run, prune, evaluate])
def test_folders_that_are_no_finished_run(call, tmp_path, configure):
    with pytest.raises(SSSError, match='there is no folder'):
        call(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SSSError, match='run folder.*config.yaml'):
        call(tmp_path / 'empty')
    (tmp_path / 'begun').mkdir()
    RunFolder(tmp_path / 'begun').save_config(configure('begun'))
    with pytest.raises(SSSError, match='no checkpoint.*sss-gluon train .*begun'):
        call(tmp_path / 'begun')


def test_a_damaged_checkpoint_is_said_so(run):
    for path in run.checkpoints.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SSSError, match='checkpoints in .* damaged'):
        prune(run.path, log=quiet)


def test_a_run_on_several_devices_is_pruned_on_one(configure):
    run = train(configure(devices=['cpu0', 'cpu1'], epochs=1, gamma=0.5, learning_rate=0.1), quiet)
    assert prune(run.path, log=quiet).structure.removed()['block'] > 0
    assert [row.name for row in evaluate(run.path, log=quiet)] == ['unpruned', 'compact']
    assert evaluate(run.path, device='cpu1', log=quiet)[0].accuracy.images == 300


def test_a_network_of_ones_own_goes_through_the_chain(configure, own_nets):
    run = train(configure(model='own_nets:dropout', model_options={}, gamma=0.5, learning_rate=0.1, epochs=1), quiet)
    trained, result = load_run(run.path), prune(run.path, log=quiet)
    zeros = sum(int((factor.values() == 0).sum()) for factor in scaling_factors(trained.net))
    stay = sum(len(row.get('stay', ())) for row in result.structure.factors.values())      # a layer keeps one channel
    assert sum(result.structure.removed().values()) == zeros - stay > 0 and result.unhandled == []
    rows = evaluate(run.path, log=quiet)
    assert rows[0].accuracy.top1 == rows[1].accuracy.top1 and rows[1].macs < rows[0].macs
