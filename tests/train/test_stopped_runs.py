"""What stops a run: a loss that is not finite, files, folders and settings that are wrong, and signals."""
import errno
import os
import signal

import numpy as np
import pytest
from comparison import STEPS, arrays, quiet, tables

from sss_gluon.errors import SSSError
from sss_gluon.methods import train
from sss_gluon.train import Config, Interrupted, RunFolder, checkpoint
from sss_gluon.train.checkpoint import read_checkpoint
from sss_gluon.train.loop import Training


def test_a_loss_that_is_not_finite(configure, monkeypatch):
    """Epoch 3, step 6: the run ends there, and its last checkpoint is of epoch 2."""
    step = Training.step

    def burst(self, epoch, number, x, y):
        if (epoch, number) == (2, 4):       # weights that overflow: the loss of the next step is no number
            parameter = self.net.output.weight
            parameter.set_data(parameter.data() * 3e38)
        return step(self, epoch, number, x, y)

    monkeypatch.setattr(Training, 'step', burst)
    config = configure(epochs=4)
    with pytest.raises(SSSError) as error:
        train(config, quiet)
    message = str(error.value)
    assert message.startswith('the loss is ') and 'in epoch 3, step 5;' in message and '\n' not in message
    assert message.split('checkpoint is ')[1].startswith(f'{config.run}/checkpoints/epoch-0002.npz. Try')
    assert sorted(os.listdir(f'{config.run}/checkpoints')) == ['epoch-0001.npz', 'epoch-0002.npz']
    assert all(np.isfinite(value).all() for value in arrays(RunFolder(config.run)).values())

    monkeypatch.undo()
    run = train(config, quiet)          # and the folder is good to go on with
    assert [row['epoch'] for row in run.metrics.rows()] == ['1', '2', '3', '4']


def test_a_rate_that_explodes_before_the_first_checkpoint(configure):
    config = configure(learning_rate=1e9)
    with pytest.raises(SSSError, match=r'(the loss is (nan|inf) in epoch 1, step \d+|not finite after).*'
                                       r'no checkpoint had been written'):
        train(config, quiet)
    assert not list((RunFolder(config.run).path / 'checkpoints').glob('*'))


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_saved(configure, monkeypatch):
    step = Training.step

    def burst(self, epoch, number, x, y):
        results = step(self, epoch, number, x, y)
        if (epoch, number) == (1, STEPS - 1):
            factor = self.factors[0].parameter
            factor.set_data(factor.data() * float('nan'))
        return results

    monkeypatch.setattr(Training, 'step', burst)
    config = configure(epochs=3)
    with pytest.raises(SSSError, match='stage1.0.conv2.factor is not finite after epoch 2.*epoch-0001.npz'):
        train(config, quiet)
    assert os.listdir(f'{config.run}/checkpoints') == ['epoch-0001.npz']


def test_all_checkpoints_damaged(configure):
    """An error, not a new start: the files may be worth a repair."""
    run = train(configure(), quiet)
    for path in run.checkpoints.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    before = {path: path.read_bytes() for path in run.path.rglob('*') if path.is_file()}
    with pytest.raises(SSSError, match='2 checkpoints .*damaged'):
        train(configure(), quiet)
    assert {path: path.read_bytes() for path in run.path.rglob('*') if path.is_file()} == before


def test_a_full_disk_leaves_the_run_as_it_was(configure, monkeypatch):
    config = configure(epochs=3)
    write_npz = checkpoint.write_npz

    def full_at_the_second(path, arrays):
        with monkeypatch.context() as patch:
            if path.name == 'epoch-0002.npz':
                patch.setattr(np.lib.format, 'write_array', full)
            write_npz(path, arrays)

    def full(file, *_, **__):
        file.write(b'and not much more')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpoint, 'write_npz', full_at_the_second)
    with pytest.raises(SSSError, match='epoch-0002.npz.*No space left'):
        train(config, quiet)
    assert os.listdir(f'{config.run}/checkpoints') == ['epoch-0001.npz']
    monkeypatch.undo()
    run = train(config, quiet)
    assert tables(run) == tables(train(configure('other', epochs=3), quiet))


def test_a_folder_in_use(configure, monkeypatch):
    config, refused = configure(epochs=1), []
    step = Training.step

    def second(self, epoch, number, x, y):
        if number == 3:
            with pytest.raises(SSSError, match='in use'):
                train(configure(epochs=1), quiet)
            refused.append(True)
        return step(self, epoch, number, x, y)

    monkeypatch.setattr(Training, 'step', second)
    run = train(config, quiet)
    assert refused == [True] and len(run.metrics.rows()) == 1


@pytest.mark.parametrize('content', ['notes.txt', 'checkpoints'])
def test_a_folder_that_is_no_run_is_left_alone(configure, tmp_path, content):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / content).write_text('mine', 'utf-8')
    with pytest.raises(SSSError, match='not a run folder.*run='):
        train(configure(), quiet)
    assert os.listdir(folder) == [content]


def test_an_empty_folder_is_taken(configure, tmp_path):
    (tmp_path / 'run').mkdir()
    assert len(train(configure(epochs=1), quiet).metrics.rows()) == 1


@pytest.mark.parametrize('settings, words', [
    (dict(gamma=-1.0), 'gamma=-1'), (dict(devices=['gpu7']), 'gpu7'),
    (dict(model='cifar_resnet21'), "did you mean 'cifar_resnet20'"),
    (dict(data='digit'), 'did you mean digits'), (dict(batch_size=4000), 'batch size 4000'),
    (dict(batch_size=65, grad_accumulation=2), '64'),
    (dict(gamma_mult={'stage9': 0.0}), "'stage9' matches no factor"),
    (dict(factors=['group']), "no 'group' structures"),
    (dict(model='no_such_module:net'), "No module named 'no_such_module'"), (dict(model='os:no_such'), 'no_such'),
    (dict(kvstore='nonsense'), 'kvstore=nonsense is unknown'),
])
def test_wrong_settings_leave_no_folder(configure, tmp_path, settings, words):
    with pytest.raises(SSSError) as error:
        train(configure(**settings), quiet)
    assert words in str(error.value) and not (tmp_path / 'run').exists()


def test_a_run_needs_a_folder():
    with pytest.raises(SSSError, match='run= is empty'):
        train(Config(), quiet)


# Signals, in this process; test_resume.py has them in processes of their own

@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(configure, monkeypatch, number):
    step, handler = Training.step, signal.getsignal(number)

    def interrupted(self, epoch, n, x, y):
        if (epoch, n) == (0, 4):
            os.kill(os.getpid(), number)
        return step(self, epoch, n, x, y)

    monkeypatch.setattr(Training, 'step', interrupted)
    config = configure(checkpoint_every=5)
    message = (f'stopped by {signal.Signals(number).name} in epoch 1 after step 5, everything is saved; continue with: '
               f'sss-gluon train {config.run}')
    with pytest.raises(Interrupted, match=message) as error:
        train(config, quiet)
    assert error.value.signal_number == number and signal.getsignal(number) is handler
    path, = RunFolder(config.run).checkpoints.iterdir()
    assert path.name == 'epoch-0000-step-000005.npz'
    position = read_checkpoint(path)[1]
    assert (position.epoch, position.step) == (0, 5) and position.loss_sum > 0


def test_a_signal_in_the_last_step_of_an_epoch_stops_after_it(configure, monkeypatch):
    step = Training.step

    def interrupted(self, epoch, n, x, y):
        if n == STEPS - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, epoch, n, x, y)

    monkeypatch.setattr(Training, 'step', interrupted)
    config = configure(checkpoint_every=5)
    with pytest.raises(Interrupted, match='SIGTERM after epoch 1.*saved'):
        train(config, quiet)
    run = RunFolder(config.run)
    assert os.listdir(run.checkpoints) == ['epoch-0001.npz'] and len(run.metrics.rows()) == 1
    assert len(train(config, quiet).metrics.rows()) == 2      # in the very last step it just ends


def test_a_second_signal_acts_as_it_always_does(configure, monkeypatch):
    def interrupted(self, epoch, n, x, y):
        os.kill(os.getpid(), signal.SIGINT)
        while not self.stop:        # two that arrive together would be one
            pass
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Training, 'step', interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(configure(), quiet)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
