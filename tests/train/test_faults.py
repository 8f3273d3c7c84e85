"""What a machine does to a run: no more files may be opened, the clock goes backwards, the folder moves elsewhere."""
import shutil

import pytest

from sss_gluon.train import RunFolder
from sss_gluon.train.config import save_config

# Runs `sss-gluon train` with what is written at {fault} done before the second epoch.
FAULTY = '''
import os, resource, sys, time
from sss_gluon.cli import main
from sss_gluon.train.loop import Training

run_epoch = Training.run_epoch


def with_fault(self, epoch):
    if epoch == 1:
        {fault}
    run_epoch(self, epoch)


Training.run_epoch = with_fault
sys.exit(main(['train'] + sys.argv[1:]))
'''
NO_FILES = 'resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, 4096))'
CLOCK = 'now = time.time(); time.time = lambda: now - time.monotonic()'


@pytest.fixture
def run(configure, tmp_path):
    config = configure(epochs=3)
    config.run = 'run'
    (tmp_path / 'config.yaml').write_text(save_config(config), 'utf-8')
    return RunFolder(tmp_path / 'run')


@pytest.mark.slow
def test_no_more_files_can_be_opened(run, command):
    done = command(['-c', FAULTY.format(fault=NO_FILES), 'config.yaml'], run.path.parent)
    assert done.returncode == 2
    line, = done.stderr.splitlines()
    assert 'Too many open files' in line and line.startswith('sss-gluon train: ')
    assert [path.name for path in run.checkpoints.iterdir()] == ['epoch-0001.npz']
    done = command(['-m', 'sss_gluon.cli', 'train', 'run'], run.path.parent)
    assert done.returncode == 0 and 'continuing after epoch 1' in done.stdout, done.stderr
    assert len(run.metrics.rows()) == 3


@pytest.mark.slow
def test_a_clock_that_goes_backwards(run, command):
    done = command(['-c', FAULTY.format(fault=CLOCK), 'config.yaml'], run.path.parent)
    assert done.returncode == 0, done.stderr
    for row in run.timing.rows():
        assert all(float(row[key]) > 0 for key in ('train_seconds', 'images_per_second', 'evaluation_seconds'))


@pytest.mark.slow
def test_a_run_that_was_copied_elsewhere_continues_there(run, command, tmp_path):
    first = command(['-m', 'sss_gluon.cli', 'train', 'config.yaml', 'epochs=2'], run.path.parent)
    assert first.returncode == 0, first.stderr
    there = tmp_path / 'other machine'
    there.mkdir()
    shutil.move(str(run.path), str(there / 'copied'))
    done = command(['-m', 'sss_gluon.cli', 'train', 'copied', 'epochs=3'], there)
    assert done.returncode == 0 and 'continuing after epoch 2' in done.stdout, done.stderr
    assert len(RunFolder(there / 'copied').metrics.rows()) == 3 and not run.path.exists()
