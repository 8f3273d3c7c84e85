"""However a run that is asked for a size is divided and computed, it removes the same structures."""
import numpy as np
import pytest
from asked import MIXED

from sss_gluon import SSSError
from sss_gluon.methods import train
from sss_gluon.structures.shrink import Shrunk
from sss_gluon.train import RunFolder, loop, precision
from sss_gluon.train.checkpoint import checkpoints, read_checkpoint
from sss_gluon.train.config import save_config

# without BatchNorm, so that a batch can be split without a difference
PLAIN = dict(model='own_nets:plain', model_options={}, epochs=5, search=0.6, gamma=0.1, target_macs=0.5)
PATIENT = dict(PLAIN, target_macs=None, search=0.15, gamma=0.3, shrink=True, patience=10)
CASES = {
    'two devices': dict(devices=['cpu0', 'cpu1']),
    'two parts': dict(grad_accumulation=2),
    'two devices and parts': dict(devices=['cpu0', 'cpu1'], grad_accumulation=2),
    'only holding': dict(shrink=False),
}


def held(run):
    """{factor: mask of what is held, as a list}."""
    arrays, _ = read_checkpoint(checkpoints(run.checkpoints)[-1])
    assert any(name.endswith('@held') for name in arrays)
    return {name: mask.tolist() for name, mask in arrays.items() if name.endswith('@held')}


def assert_the_same(found, expected):
    """Structures, the search, and losses to rounding."""
    assert held(found) == held(expected) and any(any(mask) for mask in held(found).values())
    for one, other in zip(found.metrics.rows(), expected.metrics.rows()):
        for key in ('held', 'held_left', 'macs_left'):
            assert one[key] == other[key], key
        for key in ('train_loss', 'loss'):
            assert float(one[key]) == pytest.approx(float(other[key]), rel=2e-4), key
        if 'gamma' in other:
            assert float(one['gamma']) == pytest.approx(float(other['gamma']), rel=1e-3)


@pytest.fixture(scope='module')
def alone(tmp_path_factory, small, own_nets):
    """The run on one device, with a target."""
    return train(small(tmp_path_factory.mktemp('alone') / 'run', **PLAIN), lambda line: None)


@pytest.mark.parametrize('case', CASES)
def test_a_run_that_is_divided_is_the_run_of_one(case, alone, configure):
    assert_the_same(train(configure(**PLAIN, **CASES[case]), lambda line: None), alone)


def test_without_a_target_too(configure, own_nets, monkeypatch):
    """Two devices that shrink, and one that only holds."""
    cuts, cut = [], loop.shrink
    monkeypatch.setattr(loop, 'shrink', lambda *arguments: (cuts.append(bool(arguments[3])), cut(*arguments))[1])
    one = train(configure('one', **dict(PATIENT, devices=['cpu0', 'cpu1'])), lambda line: None)
    assert any(cuts)
    monkeypatch.setattr(loop, 'shrink', lambda net, trainer, shape, removed, align: Shrunk(net, shape, {}))
    assert_the_same(train(configure('other', **PATIENT), lambda line: None), one)


@pytest.mark.slow
def test_batchnorm_and_mixed_kinds_shrink_without_a_difference(configure):
    """As far as the numbers show it: a network that is cut sums in another order."""
    runs = [train(configure(str(shrink), **dict(MIXED, epochs=4, shrink=shrink)), lambda line: None)
            for shrink in (True, False)]
    rows = [run.metrics.rows() for run in runs]
    assert [row['held'] for row in rows[0]] == [row['held'] for row in rows[1]]
    assert held(runs[0]) == held(runs[1])
    for one, other in zip(*rows):
        assert float(one['train_loss']) == pytest.approx(float(other['train_loss']), rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [2, 4])
def test_workers_are_the_run_of_one(workers, alone, small, own_nets, command, tmp_path):
    (tmp_path / 'config.yaml').write_text(save_config(small('run', **PLAIN)), 'utf-8')
    done = command(['-m', 'sss_gluon.cli', 'launch', '--workers', workers, '--logs', 'logs', 'train', 'config.yaml'],
                   tmp_path, own_nets)
    assert done.returncode == 0 and 'budget met' in done.stdout, done.stdout + done.stderr
    assert_the_same(RunFolder(tmp_path / 'run'), alone)


STOPPED = '''
import os, signal, sys
from sss_gluon.cli import main
from sss_gluon.train.loop import Training

once = Training.step


def then_stop(self, epoch, step, *batch):
    if (epoch, step) == (2, 4):
        os.kill(os.getpid(), signal.SIGTERM)
    return once(self, epoch, step, *batch)


Training.step = then_stop
sys.exit(main(['train', sys.argv[1]]))
'''


def bfloat16_works():
    try:
        precision.check_bfloat16()
    except SSSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not bfloat16_works(), reason='bfloat16 needs oneDNN and a CPU with AVX-512')
@pytest.mark.parametrize('settings', [
    MIXED, dict(MIXED, target_macs=None, search=0.15, shrink=True, patience=12, gamma=0.1)],
                         ids=['target', 'patience'])
def test_bfloat16(settings, small, command, tmp_path):
    """To the end, with cuts; stopped in the third epoch and continued, it is the same run bit for bit."""
    for name in ('whole', 'run'):
        config = small(name, **dict(settings, precision='bfloat16', image_size=16))
        (tmp_path / f'{name}.yaml').write_text(save_config(config), 'utf-8')
    stopped = command(['-c', STOPPED, 'run.yaml'], tmp_path)
    assert stopped.returncode == 143 and 'in epoch 3 after step 5' in stopped.stderr, stopped.stdout + stopped.stderr
    for arguments in (['train', 'whole.yaml'], ['train', 'run'], ['prune', 'run']):
        done = command(['-m', 'sss_gluon.cli', *arguments], tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder(tmp_path / 'run')
    assert run.metrics.path.read_bytes() == RunFolder(tmp_path / 'whole').metrics.path.read_bytes()
    last = run.metrics.rows()[-1]
    assert int(last['held']) > 0 and float(last['held_left']) <= (settings['target_macs'] or 0.999)
    arrays, _ = read_checkpoint(checkpoints(run.checkpoints)[-1])
    for name, mask in arrays.items():
        if name.endswith('@held'):
            values = arrays['param:' + name[len('state:'):-len('@held')]]
            assert values.dtype == np.float32 and (values[mask.astype(bool)] == 0).all()
