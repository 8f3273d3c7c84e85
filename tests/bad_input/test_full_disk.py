"""A disk that is full, a run folder that cannot be written, and output that nobody takes: nothing is half-written."""
import errno
import os
import resource
import shutil
import subprocess
import sys

import pytest
from checks import call, differing, environment, nothing_temporary, one_line, snapshot
from desk import AGAIN, MINE

from sss_gluon.cli import main
from sss_gluon.train.loop import Training

WRITING = {'train new': ('train small.yaml run=new', 'new/config.yaml'), 'train on': (AGAIN, f'{MINE}/config.yaml'),
           'prune': (f'prune {MINE}', 'compact'), 'evaluate': (f'evaluate {MINE}', f'{MINE}/evaluation.csv')}


@pytest.mark.parametrize('verb', WRITING)
def test_disk_full(verb, desk, monkeypatch, capfd):
    """Every file is written, and then does not fit."""
    def full(number):
        raise OSError(errno.ENOSPC, 'is full')

    command, file = WRITING[verb]
    before = snapshot(desk)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        assert main(command.split()) == 2
    err = capfd.readouterr().err
    one_line(err, 'is full', verb.split()[0])
    assert file in err and differing(before, desk) == [] and nothing_temporary(desk)
    assert main(command.split()) == 0


@pytest.mark.parametrize('verb', WRITING)
def test_a_run_folder_that_is_read_only(verb, desk, monkeypatch, capfd):
    """As on a read-only file system; permissions mean nothing to root."""
    command, before, really = WRITING[verb][0], snapshot(desk), os.open

    def read_only(path, flags, *arguments, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(desk) in os.path.abspath(path):
            raise OSError(errno.EROFS, 'Read-only file system', path)
        return really(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, 'open', read_only)
    assert main(command.split()) == 2
    one_line(capfd.readouterr().err, 'Read-only file system', verb.split()[0])
    assert differing(before, desk) == []


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
@pytest.mark.parametrize('verb', WRITING)
def test_a_run_folder_without_permission(verb, desk, capfd):
    before = snapshot(desk)
    for path in (desk, desk / MINE):
        path.chmod(0o555)
    try:
        assert main(WRITING[verb][0].split()) == 2
    finally:
        for path in (desk, desk / MINE):
            path.chmod(0o755)
    one_line(capfd.readouterr().err, 'Permission denied', verb.split()[0])
    assert differing(before, desk) == []


def test_a_run_folder_that_is_deleted_while_it_trains(desk, monkeypatch, capfd):
    step = Training.step

    def deleted(self, epoch, number, x, y):
        if number == 3:
            shutil.rmtree('new')
        return step(self, epoch, number, x, y)

    monkeypatch.setattr(Training, 'step', deleted)
    assert main('train small.yaml run=new'.split()) == 2
    one_line(capfd.readouterr().err, 'new/metrics.csv…No such file', 'train')
    assert not os.path.exists('new')


# In processes of their own


@pytest.mark.slow
def test_a_limit_of_the_size_of_files(desk):
    """The kernel refuses what is longer than 50,000 bytes: a checkpoint is; all else is shorter."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before = snapshot(desk / MINE / 'checkpoints')
    done = call(AGAIN, preexec_fn=limit)
    assert done.returncode == 2
    one_line(done.stderr, f'{MINE}/checkpoints/epoch-0003.npz…File too large', 'train')
    assert snapshot(desk / MINE / 'checkpoints') == before and nothing_temporary(desk)
    done = call(AGAIN)
    assert done.returncode == 0 and f'{MINE}: continuing after epoch 2' in done.stdout


@pytest.fixture
def small_disk(desk):
    """A disk of 2 MB, with the desk on it; a function that leaves so many bytes free."""
    mount = desk / 'disk'
    mount.mkdir()
    if shutil.which('mount') is None or subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(mount)], capture_output=True).returncode:
        pytest.skip('mounting a small disk needs root')
    try:
        for name in ('small.yaml', 'runs'):
            subprocess.run(['cp', '-r', str(desk / name), str(mount)], check=True)

        def leave(size):
            (mount / 'filling').unlink() if (mount / 'filling').exists() else None
            free = shutil.disk_usage(mount).free
            if size is not None:
                (mount / 'filling').write_bytes(bytes(free - size))
        yield mount, leave
    finally:
        subprocess.run(['umount', str(mount)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk):
    disk, leave = small_disk
    checkpoints = snapshot(disk / MINE / 'checkpoints')
    for command, size in ((AGAIN, 40960), (f'prune {MINE}', 0), (f'prune {MINE}', 8192), (f'evaluate {MINE}', 0),
                          (AGAIN, 0), ('train small.yaml run=new', 0)):
        leave(size)
        compact = snapshot(disk / MINE / 'compact')
        done = call(command, folder=disk)
        assert done.returncode == 2, (command, size, done)
        one_line(done.stderr, '', command.split()[0])
        assert 'No space left' in done.stderr or 'is the disk full?' in done.stderr
        assert snapshot(disk / MINE / 'checkpoints') == checkpoints and nothing_temporary(disk)
        assert 'train' in command or snapshot(disk / MINE / 'compact') == compact
    leave(None)
    for command in (AGAIN, f'prune {MINE}', 'train small.yaml run=new epochs=1'):
        done = call(command, folder=disk)
        assert done.returncode == 0 and done.stderr == ''


@pytest.mark.slow
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_output_that_nobody_takes(unbuffered, desk):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, '-m', 'sss_gluon.cli', 'count', 'cifar_resnet20'],
                              env=environment(unbuffered), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, 'sss-gluon count: output: No space left on device\n')
    closed = call('count cifar_resnet20', start=('-c', 'import os, sys; os.close(1); os.execv(sys.executable, '
                                                       '[sys.executable, "-m", "sss_gluon.cli"] + sys.argv[1:])'))
    assert (closed.returncode, closed.stderr) == (0, '')
