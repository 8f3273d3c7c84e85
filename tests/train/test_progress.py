"""The progress bar: what it says, in a terminal of 80 columns."""
import os
import re
import struct
import sys
import types

import pytest

from sss_gluon.train.loop import BAR, Training
from sss_gluon.train.run_folder import RunFolder


def progress(epoch, images, epochs, seconds, monkeypatch, left='54.3% MACs', of_this_process=None, evaluation=0.0,
             loss=0.123):
    """The words after some images of an epoch of 10 batches of 64, of which this process has trained some."""
    monkeypatch.setattr('sss_gluon.train.loop.time.monotonic', lambda: 100.0 + seconds)
    training = types.SimpleNamespace(
        config=types.SimpleNamespace(epochs=epochs, batch_size=64), batches=range(10), images=images,
        position=types.SimpleNamespace(loss_sum=loss * images), metrics=types.SimpleNamespace(left=left),
        evaluation_seconds=evaluation)
    return Training.progress(training, epoch, of_this_process or images, 100.0)


def test_the_time_is_that_of_the_whole_run(monkeypatch):
    # 320 images/s; 3 epochs of 640 images, less 320: 5 s
    assert progress(0, 320, 3, 1.0, monkeypatch) == 'epoch 1/3  loss 0.123  54.3% MACs  320 images/s  5 s left'
    assert progress(2, 320, 3, 1.0, monkeypatch).endswith('320 images/s  1 s left')
    assert progress(0, 320, 3, 1.0, monkeypatch, evaluation=2.0).endswith('  11 s left')       # three evaluations
    # continued in the middle of the epoch: this process has trained 64 of the 320 images, in a second
    assert progress(0, 320, 3, 1.0, monkeypatch, of_this_process=64).endswith('  64 images/s  25 s left')
    assert progress(0, 320, 3, 1.0, monkeypatch, left='') == 'epoch 1/3  loss 0.123  320 images/s  5 s left'


def test_the_longest_words_leave_room_for_the_bar(monkeypatch):
    words = progress(119, 640, 240, 0.1, monkeypatch, evaluation=2000.0, loss=12.345)
    assert words.startswith('epoch 120/240  loss 12.345  54.3% MACs  6400 images/s  ') and words.endswith(' left')
    assert len(words) + len(BAR.format(desc='', percentage=100.0, bar='')) < 80


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='needs a terminal')
def test_a_run_in_a_terminal(configure, monkeypatch, tmp_path):
    """It has lines of at most 80 columns, a bar with the time left, and the epochs above it."""
    import fcntl
    import pty
    import termios
    config = configure(factors=['neuron', 'block'])
    RunFolder(config.run).path.mkdir()
    RunFolder(config.run).save_config(config)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(0.5)\nimport sys\n'
                                  'from sss_gluon.cli import main; sys.exit(main(sys.argv[1:]))', 'train', config.run])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    said = b''
    try:
        while True:
            part = os.read(terminal, 65536)
            if not part:
                break
            said += part
    except OSError:         # the end, on Linux
        pass
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, said
    lines = re.split(r'[\r\n]+', said.decode())
    assert max(len(line) for line in lines if line.startswith('epoch')) <= 80
    assert any(re.match(r'epoch \d/2  loss \d\.\d{3}  \S+ MACs  \d+ images/s  \d+ s left +\d+%\|.*\|$', line)
               for line in lines)
    assert [line[:11] for line in lines if re.match(r'epoch   \d/2  loss', line)] == ['epoch   1/2', 'epoch   2/2']
