"""A run that is asked for a size, stopped at any moment of its search: it continues bit for bit."""
import os
import signal

import numpy as np
import pytest
from asked import MIXED

from sss_gluon.budget.holder import Holder
from sss_gluon.methods import train
from sss_gluon.signals import Interrupted
from sss_gluon.train import RunFolder, loop
from sss_gluon.train.checkpoint import checkpoints
from sss_gluon.train.config import save_config
from sss_gluon.train.loop import Training

pytestmark = pytest.mark.slow

STEPS = 18      # of an epoch
PATIENT = dict(factors=['neuron', 'block'], epochs=5, gamma=0.05, learning_rate=0.1, shrink=True, patience=12)
RUNS = {'budget': dict(MIXED, epochs=6), 'patience': PATIENT}
# {moment: the step after which the run is stopped, from the steps of holds and cuts}
MOMENTS = {
    'before the first hold': lambda holds, cuts: holds[0] - 2,
    'between a hold and the next cut': lambda holds, cuts: next(step for step in holds if (step + 1) % STEPS) + 1,
    'at a cut': lambda holds, cuts: cuts[0],
    'right after a cut': lambda holds, cuts: cuts[0] + 1,
    'after the last hold': lambda holds, cuts: holds[-1] + 2,
    'after the last cut': lambda holds, cuts: cuts[-1] + 3,
}


def arrays(run):
    with np.load(checkpoints(run.checkpoints)[-1]) as file:
        return {name: file[name] for name in file.files if name != 'position'}


def assert_same(found, expected):
    one, other = arrays(found), arrays(expected)
    assert list(one) == list(other)
    for name, value in other.items():
        assert one[name].tobytes() == value.tobytes(), name
    for name in ('metrics.csv', 'factors.csv'):
        assert (found.path / name).read_bytes() == (expected.path / name).read_bytes(), name


@pytest.fixture(scope='module')
def whole(tmp_path_factory, small):
    """A function that gives a run that nothing stopped, with the steps of its holds and cuts; made once."""
    made = {}

    def make(name):
        if name not in made:
            done, holds, cuts = [0], [], []
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, Training, 'step', lambda: done.append(done[-1] + 1))
                watch(patch, Holder, 'hold', lambda: holds.append(done[-1]), lambda self, new: len(new))
                watch(patch, loop, 'shrink', lambda: cuts.append(done[-1]),
                      lambda net, trainer, shape, removed, align: len(removed))
                run = train(small(tmp_path_factory.mktemp('whole') / name, **RUNS[name]), lambda line: None)
            assert len(holds) >= 3 and cuts
            made[name] = run, holds, cuts
        return made[name]
    return make


def watch(patch, place, name, note, when=lambda *arguments: True):
    original = getattr(place, name)

    def inside(*arguments):
        if when(*arguments):
            note()
        return original(*arguments)
    patch.setattr(place, name, inside)


@pytest.mark.parametrize('moment', MOMENTS)
@pytest.mark.parametrize('name', RUNS)
def test_stopped_and_continued(name, moment, whole, small, tmp_path, monkeypatch):
    expected, holds, cuts = whole(name)
    config = small(tmp_path / 'run', **RUNS[name])
    stop, done = MOMENTS[moment](holds, cuts), []

    def count():
        done.append(1)
        if len(done) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
    with monkeypatch.context() as patch:
        watch(patch, Training, 'step', count)
        with pytest.raises(Interrupted):
            train(config, lambda line: None)
    assert checkpoints(RunFolder(config.run).checkpoints)[-1].stem == \
        f'epoch-{stop // STEPS:04d}' + (f'-step-{stop % STEPS:06d}' if stop % STEPS else '')
    assert_same(train(config, lambda line: None), expected)


# Kills itself inside of the first cut, where its argument says.
KILLED = '''
import os, signal, sys
from sss_gluon.cli import main
from sss_gluon.structures import shrink
from sss_gluon.train import factor_trainer, loop

place, name = {'before the graph is cut': (shrink, 'Shrunk'),
               'before the trainer goes on': (factor_trainer.FactorTrainer, 'rebind'),
               'after the cut': (loop, 'settle_statistics'),
               'before the checkpoint': (loop, 'save_checkpoint')}[sys.argv[1]]
original, cut, cuts = getattr(place, name), loop.shrink, []


def die(*arguments, **keywords):
    if cuts:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **keywords)


def noted(net, trainer, shape, removed, align):
    if removed:         # the call before the first step only tries
        cuts.append(1)
    return cut(net, trainer, shape, removed, align)


setattr(place, name, die)
loop.shrink = noted
main(['train', 'config.yaml'])
'''


@pytest.mark.parametrize('moment', ['before the graph is cut', 'before the trainer goes on', 'after the cut',
                                    'before the checkpoint'])
def test_killed_inside_a_cut(moment, whole, small, command, tmp_path):
    expected, _, cuts = whole('budget')
    (tmp_path / 'config.yaml').write_text(save_config(small(tmp_path / 'run', **RUNS['budget'])), 'utf-8')
    done = command(['-c', KILLED, moment], tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = RunFolder(tmp_path / 'run')
    before = cuts[0] // STEPS - 1           # epochs that are saved
    assert [path.stem for path in checkpoints(run.checkpoints)][-1:] == [f'epoch-{before:04d}'] * (before > 0)
    done = command(['-m', 'sss_gluon.cli', 'train', 'config.yaml'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(run, expected)
