"""Two machines that reach each other by a network and ssh alone: namespaces of this one, each with its own sshd.

What one process is to the other there, a local job cannot show: names in place of addresses, a name that means
127.0.1.1 on the machine itself (as Debian writes it), signals that ssh does not hand on, and a cable that is pulled.
"""
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

HOSTS = {'ann': ('10.77.0.1', '127.0.1.1 ann\n10.77.0.2 bob\n'), 'bob': ('10.77.0.2', '127.0.1.1 bob\n10.77.0.1 ann\n')}
EPOCHS = 25         # enough for a job to be stopped and killed in the middle
PROGRAMS = ('ip', 'ssh', 'ssh-keygen', 'sshd')
SSHD = '''
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile {folder}/{name}.pid
StrictModes no
UsePAM no
'''
# Once a second in place of every ten: ssh takes the first of two settings.
SSH = '''#!/bin/sh
exec {ssh} -F none -i {folder}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \\
    -o ServerAliveInterval=1 "$@"
'''


class Network:
    """A cable between two namespaces, and who listens at its ends."""

    def __init__(self, folder):
        self.folder = folder
        self.namespaces = {name: f'sss-{name}-{os.getpid()}' for name in HOSTS}

    def make(self):
        self._call('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', self.folder / 'key')
        for space in self.namespaces.values():
            self._call('ip', 'netns', 'add', space)
        self._call('ip', 'link', 'add', 'eth0', 'netns', self.namespaces['ann'], 'type', 'veth', 'peer', 'name', 'eth0',
                   'netns', self.namespaces['bob'])
        Path('/run/sshd').mkdir(exist_ok=True)
        for name, (address, hosts) in HOSTS.items():
            space, files = self.namespaces[name], Path('/etc/netns') / self.namespaces[name]
            files.mkdir(parents=True)           # what `ip netns exec` shows as /etc
            # Horovod with Gloo uses the address that the own name stands for: the same name in both, as one kernel has.
            (files / 'hosts').write_text(f'127.0.0.1 localhost\n{hosts}{address} {socket.gethostname()}\n')
            self._call('ip', '-n', space, 'addr', 'add', f'{address}/24', 'dev', 'eth0')
            self._call('ip', '-n', space, 'link', 'set', 'lo', 'up')
            self.cable(name, 'up')
            (self.folder / f'{name}.conf').write_text(SSHD.format(folder=self.folder, name=name))
            self._call('ip', 'netns', 'exec', space, shutil.which('sshd', path=SEARCHED), '-f',
                       self.folder / f'{name}.conf')
        (self.folder / 'ssh').write_text(SSH.format(ssh=shutil.which('ssh'), folder=self.folder))
        (self.folder / 'ssh').chmod(0o755)

    def remove(self):
        for space in self.namespaces.values():
            for number in self.processes(space):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            subprocess.run(['ip', 'netns', 'del', space], stderr=subprocess.DEVNULL)
            shutil.rmtree(Path('/etc/netns') / space, ignore_errors=True)

    def _call(self, *command):
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)

    def cable(self, name, state):
        self._call('ip', '-n', self.namespaces[name], 'link', 'set', 'eth0', state)

    def processes(self, space):
        found = subprocess.run(['ip', 'netns', 'pids', space], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)
        return [int(number) for number in found.stdout.split()]

    def job(self, name, **words):
        """Numbers of the processes of sss_gluon on a machine, of those that have these in their environment."""
        found = []
        for number in self.processes(self.namespaces[name]):
            with suppress(OSError):
                there = Path(f'/proc/{number}/environ').read_text().split('\0')
                ours = 'sss_gluon' in Path(f'/proc/{number}/cmdline').read_text()
                if ours and all(f'{key}={value}' in there for key, value in words.items()):
                    found.append(number)
        return found


SEARCHED = os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'])


def missing():
    """Why there can be no namespaces here."""
    if os.geteuid() != 0:
        return 'only root can make network namespaces'
    for program in PROGRAMS:
        if not shutil.which(program, path=SEARCHED):
            return f'{program} is not installed (Debian: iproute2, openssh-client, openssh-server)'
    probe = f'sss-probe-{os.getpid()}'
    words = (f'netns add {probe}', f'link add eth0 netns {probe} type veth peer name eth1 netns {probe}',
             f'netns exec {probe} true')
    made = [subprocess.run(['ip', *word.split()], stderr=subprocess.DEVNULL).returncode == 0 for word in words]
    subprocess.run(['ip', 'netns', 'del', probe], stderr=subprocess.DEVNULL)
    return None if all(made) else 'network namespaces, with a cable between them, cannot be made here'


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    why = missing()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp('network')
    folder.chmod(0o700)
    network = Network(folder)
    try:
        network.make()
        yield network
    finally:
        network.remove()


@pytest.fixture(scope='module')
def desk(network, folder_of, tmp_path_factory):
    """A folder of the machine ann."""
    desk = folder_of(tmp_path_factory.mktemp('desk'), ('ip', 'netns', 'exec', network.namespaces['ann']),
                     PATH=f'{network.folder}{os.pathsep}{os.environ["PATH"]}')
    (desk.path / 'hosts').write_text('ann\nbob\n')
    return desk


def over_ssh(*arguments, restarts=0):
    return ('launch', '--hosts', 'hosts', '--logs', 'logs', '--restarts', restarts, 'train', 'config.yaml', *arguments)


def begun(job, epoch='epoch   2'):
    """When it says so."""
    for line in job.stdout:
        if epoch in line:           # after '[0]<stdout>:' of horovodrun
            return
    raise AssertionError(job.stderr.read())


def nothing_runs(network, name='ann', seconds=30):
    limit = time.monotonic() + seconds
    while network.job(name):
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
    return True


def assert_same_run(desk, run, other):
    found, expected = desk.arrays(run), desk.arrays(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
    for file in ('metrics.csv', 'factors.csv'):
        assert (desk.path / run / file).read_bytes() == (desk.path / other / file).read_bytes()


@pytest.fixture(scope='module')
def local(desk):
    """The same job without a network."""
    status, _, errors = desk.launch(2, f'epochs={EPOCHS}', 'run=local')
    assert status == 0, errors
    return 'local'


@pytest.mark.slow
def test_two_machines_train_what_two_processes_of_one_train(network, desk, local):
    status, output, errors = desk.run(*over_ssh(f'epochs={EPOCHS}', 'run=whole'))
    assert status == 0 and f'epoch  {EPOCHS}/{EPOCHS}' in output, errors
    assert 'OMP_NUM_THREADS=1' in output        # a setting of this shell: it is theirs too
    assert_same_run(desk, 'whole', local)
    assert nothing_runs(network) and nothing_runs(network, 'bob')


@pytest.mark.slow
def test_a_stopped_job_saves_on_all_machines_and_one_that_loses_a_server_is_begun_again(network, desk, local):
    job = desk.start(*over_ssh(f'epochs={EPOCHS}', 'run=broken'))
    begun(job)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM and 'the same command continues' in errors, errors
    assert nothing_runs(network) and nothing_runs(network, 'bob')

    job = desk.start(*over_ssh(f'epochs={EPOCHS}', 'run=broken', restarts=1))
    begun(job, f'/{EPOCHS}')
    server, = network.job('bob', DMLC_ROLE='server')
    os.kill(server, signal.SIGKILL)
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert 'workers of bob ended with exit status 2 (server 1 was ended by SIGKILL; its log is' in output
    assert 'continuing after epoch' in output
    assert_same_run(desk, 'broken', local)


@pytest.mark.slow
def test_horovod_joins_two_machines(backend, network, desk, local):
    """Stopped, continued, begun again after a loss: the run of ps-lite. Killed, it leaves nothing."""
    command = ('launch', '--hosts', 'hosts', '--backend', backend, '--logs', f'logs-{backend}', '--restarts', 1,
               'train', 'config.yaml', f'epochs={EPOCHS}', f'run={backend}')
    job = desk.start(*command)
    begun(job)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM and 'the same command continues' in errors, errors
    assert nothing_runs(network) and nothing_runs(network, 'bob')

    job = desk.start(*command)
    begun(job, f'/{EPOCHS}')
    rank = {'horovodrun': 'HOROVOD_RANK', 'mpirun': 'OMPI_COMM_WORLD_RANK'}[backend]
    worker, = network.job('bob', **{rank: 1})
    os.kill(worker, signal.SIGKILL)
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    how = {'horovodrun': 'ended with exit status 255', 'mpirun': 'was ended by SIGKILL'}[backend]   # the first is ssh's
    assert f'worker 1 {how}' in output and 'continuing after epoch' in output
    assert_same_run(desk, backend, local)

    job = desk.start(*command, f'run=left-{backend}', 'epochs=1000')
    begun(job)
    job.kill()
    job.communicate(timeout=30)
    assert nothing_runs(network) and nothing_runs(network, 'bob')


@pytest.mark.slow
def test_when_a_cable_is_pulled_the_others_end(network, desk):
    job = desk.start(*over_ssh('epochs=1000', 'run=cut'))
    begun(job)
    network.cable('bob', 'down')
    try:
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 2 and 'workers of bob ended with exit status 255 (ssh has no connection' in errors
        assert nothing_runs(network)
    finally:
        network.cable('bob', 'up')
    assert nothing_runs(network, 'bob', 90)         # its sshd hears that nobody is there any more


@pytest.mark.slow
def test_when_the_launcher_is_killed_nothing_stays_on_any_machine(network, desk):
    job = desk.start(*over_ssh('epochs=1000', 'run=left'))
    begun(job)
    job.kill()
    job.communicate(timeout=30)
    assert nothing_runs(network) and nothing_runs(network, 'bob')
