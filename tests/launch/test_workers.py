"""Several workers are one run: same parameters, same zeros, same logs; stopped and continued together."""
import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.methods import train
from sss_gluon.train import Config
from sss_gluon.train.workers import Workers, init_workers

FROZEN = ('model=frozen:net', 'model_options={}', 'factors=null', 'gamma=0.1', 'weight_decay=0.001')


def factors(arrays):
    return {name: value for name, value in arrays.items() if name.startswith('param:') and name.endswith('factor')}


@pytest.fixture(scope='module')
def alone(shared_folder):
    """The run of one process that the jobs are compared with; its BatchNorm is frozen."""
    status, _, errors = shared_folder.run('train', 'config.yaml', *FROZEN, 'run=alone')
    assert status == 0, errors
    return shared_folder


def assert_the_run_of_one(folder, run):
    """Parameters and momenta to rounding, the same zeros, the same logs."""
    expected, found = folder.arrays('alone'), folder.arrays(run)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-6, err_msg=name)
    zeros = {name: value == 0 for name, value in factors(expected).items()}
    assert sum(zero.sum() for zero in zeros.values()) > 5 and not all(zero.all() for zero in zeros.values())
    for name, zero in zeros.items():
        np.testing.assert_array_equal(found[name] == 0, zero, err_msg=name)
    with open(folder.path / 'alone/metrics.csv') as a, open(folder.path / run / 'metrics.csv') as b:
        rows = list(zip(csv.DictReader(a), csv.DictReader(b)))
    assert len(rows) == 2
    for one, other in rows:
        assert one['top1'] == other['top1'] and one['neurons_alive'] == other['neurons_alive']
        assert float(one['train_loss']) == pytest.approx(float(other['train_loss']), rel=1e-5)
        assert float(one['loss']) == pytest.approx(float(other['loss']), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('workers,settings', [(1, ()), (2, ()), (4, ('kvstore=local',)),
                                              (2, ('devices=[cpu0,cpu1]', 'grad_accumulation=2'))])
def test_workers_give_the_run_of_one(workers, settings, alone):
    run = f'run{workers}{len(settings)}'
    status, _, errors = alone.launch(workers, *FROZEN, *settings, f'run={run}')
    assert status == 0, errors
    assert_the_run_of_one(alone, run)


DEAF = """
import sys, time
import sss_gluon
from types import SimpleNamespace
from sss_gluon.train import workers
workers.FAREWELL, workers._LIB = 0.5, SimpleNamespace(MXKVStoreFree=lambda handle: time.sleep({seconds}))
job = workers.Workers(SimpleNamespace(rank=0, num_workers=2, handle=1))
job.status = 143
job.shutdown_at_exit()
print('done')
sys.exit(3)
"""


@pytest.mark.parametrize('seconds,status', [(100, 143), (0, 3)])
def test_a_worker_that_does_not_hear_of_the_end_ends(seconds, status):
    ended = subprocess.run([sys.executable, '-c', DEAF.format(seconds=seconds)], stdout=subprocess.PIPE,
                           text=True, timeout=60)
    assert ended.returncode == status and ended.stdout == 'done\n'


class Lonely:
    """Horovod that was built without MPI, in a process of mpirun."""
    num_workers, rank = 1, 0


def test_a_horovod_without_mpi_is_told_from_a_job_of_one(monkeypatch):
    monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '2')
    monkeypatch.setattr('sss_gluon.train.workers.HorovodStore', Lonely)
    with pytest.raises(SSSError, match='2 processes were started, but Horovod knows of 1: for mpirun'):
        init_workers('device')
    monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '1')
    assert init_workers('horovod').size == 1


def test_ps_lite_and_horovod_are_not_mixed(monkeypatch):
    monkeypatch.setenv('DMLC_ROLE', 'worker')
    with pytest.raises(SSSError, match='this job was launched for ps-lite; use: sss-gluon launch'):
        init_workers('horovod')


@pytest.mark.slow
def test_horovod_gives_the_run_of_one(backend, alone):
    status, _, errors = alone.run('launch', '--workers', 2, '--backend', backend, '--logs', f'logs-{backend}', 'train',
                                  'config.yaml', *FROZEN, f'run={backend}')
    assert status == 0, errors
    assert_the_run_of_one(alone, backend)


@pytest.mark.slow
@pytest.mark.parametrize('batches', [0, 3], ids=['averaged statistics', 'estimated statistics'])
def test_a_stopped_job_ends_like_another(batches, folder):
    """Masks, running statistics and all: bit for bit, because a sum of two does not depend on who comes first."""
    settings = ('factors=[block, neuron]', 'epochs=8', f'statistics_batches={batches}')
    assert folder.launch(2, *settings, 'run=whole')[0] == 0
    job = folder.start('launch', '--workers', 2, '--logs', 'logs', 'train', 'config.yaml', *settings)
    for line in job.stdout:
        if line.startswith('epoch   1'):
            break
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 128 + signal.SIGTERM and 'the same command continues' in errors, errors
    newest = max(path.stem for path in (folder.path / 'run/checkpoints').iterdir())
    assert any(name.startswith('device1:') for name in folder.arrays()) == ('-step-' in newest)
    status, output, errors = folder.launch(2, *settings)
    assert status == 0 and 'continuing after epoch' in output, errors
    expected, found = folder.arrays('whole'), folder.arrays()
    assert expected.keys() == found.keys() and not any(name.startswith('device1:') for name in found)
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name
    assert (folder.path / 'run/factors.csv').read_bytes() == (folder.path / 'whole/factors.csv').read_bytes()
    assert (folder.path / 'run/metrics.csv').read_bytes() == (folder.path / 'whole/metrics.csv').read_bytes()


TOLD = """
import sys
import sss_gluon
import numpy as np
from sss_gluon.train.workers import init_workers
job = init_workers('local')
for i in range(5):      # a place in a fraction, and an integer, that float32 has no room for
    first, second = np.array([[1 / 3, -1e-300], [2.0 ** 53 - 1, i]]), np.array([[-1 / 7, np.inf], [1.0, i + 0.1]])
    assert (job.total('sum', second if job.rank else first) == first + second).all()
    table = job.allgather('table', np.array([2 ** 62 + 1 + job.rank * i]))
    assert table.dtype == np.int64 and table.tolist() == [[2 ** 62 + 1], [2 ** 62 + 1 + i]]
    row = np.array([1 / 3, 1e38, np.nan], 'float32')
    np.testing.assert_array_equal(job.allgather('row', row * (1 + job.rank)), [row, row * 2])
open(f'{sys.argv[1]}/{job.rank}', 'w').close()
"""


SHARED = """
import sys
import sss_gluon
import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from sss_gluon.train.statistics import average_statistics, estimate_statistics
from sss_gluon.train.workers import init_workers
job, devices = init_workers('local'), [mx.cpu(0), mx.cpu(1)]
net = nn.HybridSequential()
net.add(nn.BatchNorm(in_channels=2), nn.Dense(2, in_units=2))
net.initialize(ctx=devices)
means, variances = net[0].running_mean.list_data(), net[0].running_var.list_data()


def check(mean, variance):
    for a, b in zip(means, variances):
        np.testing.assert_allclose(a.asnumpy(), mean, rtol=1e-5)
        np.testing.assert_allclose(b.asnumpy(), variance, rtol=1e-5)


for i, (a, b) in enumerate(zip(means, variances)):
    a[:], b[:] = 2 * job.rank + i, 10 ** (2 * job.rank + i)
average_statistics(net, job)
check([1.5] * 2, [1111 / 4] * 2)
batches = np.random.RandomState(0).standard_normal((2, 3, 8, 2)).astype('float32') * 2 + 1      # three for each worker
estimate_statistics(net, (mx.nd.array(x, ctx=devices[i % 2]) for i, x in enumerate(batches[job.rank])), job)
check(batches.mean((0, 1, 2)), batches.var(2).mean((0, 1)))
open(f'{sys.argv[1]}/{job.rank}', 'w').close()
"""


@pytest.mark.slow
@pytest.mark.parametrize('script', [TOLD, SHARED], ids=['numbers', 'running statistics'])
def test_numbers_reach_the_other_worker(script, tmp_path, workers):
    """MXNet's server keeps float64 as float32, in about three jobs of four."""
    workers(script, tmp_path, tmp_path)
    assert (tmp_path / '0').exists() and (tmp_path / '1').exists()


@pytest.mark.slow
def test_another_number_of_workers_continues(folder):
    assert folder.run('train', 'config.yaml', 'epochs=1', 'lr_mode=constant')[0] == 0
    status, output, errors = folder.launch(2, 'lr_mode=constant')
    assert status == 0 and 'continuing after epoch 1' in output, errors
    assert len((folder.path / 'run/metrics.csv').read_text().splitlines()) == 3


@pytest.mark.parametrize('size,settings,words', [
    (3, {}, 'batch size 64 cannot be shared by 3 workers'),
    (4, dict(grad_accumulation=32), 'gives each of 4 workers 16 images, which cannot be split over 1 devices x 32'),
])
def test_batches_that_workers_cannot_share(size, settings, words, tmp_path, monkeypatch):
    workers = Workers()
    workers.size = size
    monkeypatch.setattr('sss_gluon.train.loop.init_workers', lambda kvstore: workers)
    monkeypatch.setattr(workers, 'abort', lambda: None)
    with pytest.raises(SSSError, match=words):
        train(Config(run=str(tmp_path / 'run'), image_size=8, **settings))


def environments():
    """(number, environment) of every process, the oldest first."""
    for path in sorted(Path('/proc').glob('[0-9]*'), key=lambda path: int(path.name)):
        with suppress(OSError):         # it has ended
            yield int(path.name), dict(word.partition('=')[::2] for word in (path / 'environ').read_text().split('\0'))


def processes(parent):
    """{name: number} of the processes that a launcher started, as they are named in its messages."""
    found = {}
    for number, words in environments():
        with suppress(OSError):
            role = words.get('DMLC_ROLE')
            if role and int(Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[1]) == parent:
                found[role if role == 'scheduler' else f'{role} {words.get("SSS_GLUON_RANK", "0")}'] = number
    return found


@pytest.mark.slow
@pytest.mark.parametrize('role', ['worker 0', 'worker 1', 'server 0', 'scheduler'])
def test_when_one_dies_all_end_soon_and_the_same_command_continues(role, folder):
    job = folder.start('launch', '--workers', 2, '--logs', 'logs', 'train', 'config.yaml', 'epochs=10')
    for line in job.stdout:
        if line.startswith('epoch   1'):
            break
    started = processes(job.pid)
    assert len(started) == 4
    os.kill(started[role], signal.SIGKILL)
    begin = time.monotonic()
    _, errors = job.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert job.returncode == 2 and f'{role} was ended by SIGKILL' in errors, errors
    assert 'The same command continues' in errors and 'Traceback' not in errors
    assert not any(Path(f'/proc/{number}').exists() for number in started.values())
    status, output, errors = folder.launch(2, 'epochs=10')
    assert status == 0 and 'continuing after epoch' in output, errors


@pytest.mark.slow
def test_a_stopped_job_of_horovod_saves_and_continues(backend, folder):
    command = ('launch', '--workers', 2, '--backend', backend, '--logs', 'logs', 'train', 'config.yaml', 'epochs=10')
    job = folder.start(*command)
    for line in job.stdout:
        if 'epoch   1/' in line:
            break
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM and 'the same command continues' in errors, errors
    assert 'everything is saved' in (folder.path / 'logs/workers.log').read_text()
    status, output, errors = folder.run(*command)
    assert status == 0 and 'continuing after epoch' in output, errors


@pytest.mark.slow
@pytest.mark.parametrize('rank', ['0', '1'])
def test_when_a_worker_of_horovod_dies_all_end_soon_and_the_same_command_continues(rank, backend, folder):
    command = ('launch', '--workers', 2, '--backend', backend, '--logs', 'logs', 'train', 'config.yaml')
    job = folder.start(*command, 'epochs=10')
    for line in job.stdout:
        if 'epoch   1/' in line:
            break
    variable = {'horovodrun': 'HOROVOD_RANK', 'mpirun': 'OMPI_COMM_WORLD_RANK'}[backend]
    started = {words[variable]: number for number, words in environments()
               if variable in words and words.get('SSS_GLUON_TEST') == str(folder.path)}
    assert started.keys() == {'0', '1'}
    os.kill(started[rank], signal.SIGKILL)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 2 and f'worker {rank} was ended by SIGKILL' in errors, errors
    assert not any(alive(number) for number in started.values())
    status, output, errors = folder.run(*command, 'epochs=10')
    assert status == 0 and 'continuing after epoch' in output, errors


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_its_processes_with_it(folder):
    job = folder.start('launch', '--workers', 2, '--logs', 'logs', 'train', 'config.yaml', 'epochs=40')
    for line in job.stdout:
        if line.startswith('epoch   1'):
            break
    started = processes(job.pid)
    job.kill()
    job.communicate(timeout=30)
    limit = time.monotonic() + 30
    while any(alive(number) for number in started.values()) and time.monotonic() < limit:
        time.sleep(0.1)
    assert len(started) == 4 and not any(alive(number) for number in started.values())


def alive(number):
    try:
        return Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.slow
def test_a_job_that_failed_is_begun_again(folder):
    """Worker 1 dies in the second epoch, once."""
    (folder.path / 'fatal.py').write_text('''
import os, signal
from pathlib import Path
from sss_gluon.train.loop import Training
from frozen import net as network

once = Training.run_epoch


def run_epoch(self, epoch):
    if epoch == 1 and self.workers.rank == 1 and not Path('died').exists():
        Path('died').touch()
        os.kill(os.getpid(), signal.SIGKILL)
    once(self, epoch)


Training.run_epoch = run_epoch


def net(classes, in_channels):
    return network(classes, in_channels)
''')
    status, output, errors = folder.run('launch', '--workers', 2, '--restarts', 1, '--logs', 'logs', 'train',
                                        'config.yaml', 'model=fatal:net', 'model_options={}', 'factors=null')
    assert status == 0, errors
    assert 'worker 1 was ended by SIGKILL' in output and 'Restarting from the last checkpoint, restart 1 of 1' in output
    assert 'continuing after epoch 1' in output
