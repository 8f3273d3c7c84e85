"""An interrupted run, continued by the command line, ends bit for bit like an uninterrupted one.

Every run is a process of its own, hybridized static, with an evaluation after every epoch and nothing fetched in
between. The signal is sent from inside, in a chosen step.
"""
import signal

import numpy as np
import pytest

from sss_gluon.train import RunFolder
from sss_gluon.train.config import save_config

# arguments: number of a signal, epoch and step (from 0) in which it is sent, and those of `sss-gluon train`
INTERRUPTED = '''
import os, signal, sys
from sss_gluon.cli import main
from sss_gluon.report import figures
from sss_gluon.train.loop import Training

figures.draw = lambda run, *rest: []       # they take longer than the training
number, epoch, step = map(int, sys.argv[1:4])
once = Training.step


def then_signal(self, e, s, x, y):
    results = once(self, e, s, x, y)
    if (e, s) == (epoch, step):
        os.kill(os.getpid(), number)
    return results


Training.step = then_signal
sys.exit(main(['train'] + sys.argv[4:]))
'''
STEPS = 18      # of an epoch

# 16 x 16 images; some blocks and neurons reach zero
RESNET = dict(model_options=dict(depths=[1, 1, 1], widths=[8, 16, 16]), image_size=16, factors=['neuron', 'block'],
              epochs=4, gamma=0.04, learning_rate=0.1, lr_mode='step', lr_decay_epochs=[3], warmup_epochs=0.5,
              checkpoint_every=2, augment_flip=True)
# masks that are drawn in every step, by a layer and by an operator, on two devices and in two parts
DROPOUT = dict(model='own_nets:dropout', model_options={}, epochs=2, devices=['cpu0', 'cpu1'], grad_accumulation=2,
               gamma=0.1, lr_mode='cosine', clip_gradient=1.0)

SIGNALS = {     # signal, epoch and step, checkpoints that it leaves, what is said, exit status
    'SIGINT in an epoch': (signal.SIGINT, 1, 6, ['epoch-0001-step-000007.npz'],
                           'stopped by SIGINT in epoch 2 after step 7, everything is saved', 130),
    'SIGTERM in the last step of an epoch': (signal.SIGTERM, 2, STEPS - 1, ['epoch-0002.npz', 'epoch-0003.npz'],
                                             'stopped by SIGTERM after epoch 3, everything is saved', 143),
    'SIGKILL between checkpoints': (signal.SIGKILL, 3, 9, ['epoch-0002.npz'], '', -9),
}


def start(folder, configure, settings):
    """A configuration file for a run in ``folder``."""
    config = configure(**settings)
    config.run = str(folder / 'run')
    folder.mkdir()
    (folder / 'config.yaml').write_text(save_config(config), 'utf-8')
    return RunFolder(folder / 'run')


def assert_same(found, expected):
    """Parameters, factors, running statistics, momenta and tables of two runs."""
    arrays = []
    for run in (found, expected):
        newest = max(run.checkpoints.iterdir(), key=lambda path: path.stem)
        with np.load(newest) as file:
            arrays.append({name: file[name] for name in file.files if name != 'position'})
    assert list(arrays[0]) == list(arrays[1])
    for name, value in arrays[1].items():
        assert arrays[0][name].tobytes() == value.tobytes(), name
    assert any(name.startswith('state:') and np.abs(value).max() > 0 for name, value in arrays[1].items())
    for name in ('metrics.csv', 'factors.csv'):
        assert (found.path / name).read_bytes() == (expected.path / name).read_bytes(), name


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, command, own_nets):
    """A function that gives the run that nothing interrupts, made once for each set of settings."""
    made = {}

    def make(name, settings, configure):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / 'whole'
            made[name] = start(folder, configure, settings)
            done = interrupt(made[name], command, *NEVER, 'config.yaml', own_nets)
            assert done.returncode == 0, done.stderr
        return made[name]
    return make


NEVER = (0, 0, -1)


def interrupt(run, command, number, epoch, step, config='config.yaml', *paths):
    done = command(['-c', INTERRUPTED, int(number), epoch, step, config], run.path.parent, *paths)
    assert 'Traceback' not in done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize('case', SIGNALS)
def test_continued_run_equals_an_uninterrupted_one(case, uninterrupted, configure, command, tmp_path):
    number, epoch, step, left, said, status = SIGNALS[case]
    whole = uninterrupted('resnet', RESNET, configure)
    last = whole.factors.rows()[-1]
    zeros = [key for key, value in last.items() if value == '0']
    assert 0 < len(zeros) < len(last) - 1
    run = start(tmp_path / 'interrupted', configure, RESNET)
    done = interrupt(run, command, number, epoch, step)
    assert done.returncode == status
    line, = done.stderr.splitlines() or ['']
    assert said in line and (not said or line.startswith('sss-gluon train: '))
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == left
    done = interrupt(run, command, *NEVER, 'run')
    assert done.returncode == 0 and 'continuing after epoch' in done.stdout, done.stderr
    assert_same(run, whole)


@pytest.mark.slow
def test_random_masks_several_devices_and_parts(uninterrupted, configure, command, own_nets, tmp_path):
    whole = uninterrupted('dropout', DROPOUT, configure)
    run = start(tmp_path / 'interrupted', configure, DROPOUT)
    assert interrupt(run, command, signal.SIGINT, 0, 4, 'config.yaml', own_nets).returncode == 130
    done = interrupt(run, command, *NEVER, 'run', own_nets)
    assert done.returncode == 0, done.stderr
    assert_same(run, whole)


@pytest.mark.slow
def test_stopped_twice_and_a_damaged_checkpoint(uninterrupted, configure, command, tmp_path):
    """The newest checkpoint is cut short: the one before it is used, said so, and the end is the same."""
    whole = uninterrupted('resnet', RESNET, configure)
    run = start(tmp_path / 'interrupted', configure, RESNET)
    assert interrupt(run, command, signal.SIGTERM, 2, 3).returncode == 143
    newest = run.checkpoints / 'epoch-0002-step-000004.npz'
    newest.write_bytes(newest.read_bytes()[:5000])
    done = interrupt(run, command, signal.SIGINT, 3, 0)
    assert done.returncode == 130
    assert f'run/checkpoints/{newest.name} is damaged' in done.stdout
    assert 'trying the checkpoint before it' in done.stdout and 'run: continuing after epoch 2\n' in done.stdout
    done = interrupt(run, command, *NEVER, 'run')
    assert done.returncode == 0 and 'continuing after epoch 3, step 1' in done.stdout
    assert_same(run, whole)
