"""Jobs of several processes on this machine, started by the command line in a folder of their own."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sss_gluon.launch.processes import Node
from sss_gluon.launch.run import free_port
from sss_gluon.launch.supervise import JobExit, supervise

ROOT = str(Path(__file__).resolve().parents[2])

# A network whose BatchNorm uses running statistics in training too, so that a batch can be split without a difference.
FROZEN = '''
from mxnet.gluon import nn
from sss_gluon import get_model


def net(classes, in_channels):
    net = get_model('cifar_resnet20', classes=classes, in_channels=in_channels, depths=[1, 1, 1], widths=[8, 8, 16],
                    factors=['neuron'])
    net.apply(freeze)
    return net


def freeze(block):
    if isinstance(block, nn.BatchNorm):
        block._kwargs['use_global_stats'] = True
'''
CONFIG = '''
data: digits
image_size: 8
model: cifar_resnet20
model_options: {depths: [1, 1, 1], widths: [4, 8, 16]}
epochs: 2
batch_size: 64
learning_rate: 0.05
gamma: 0.05
lr_decay_epochs: [1]
augment_pad: 1
run: run
'''


def run_as_workers(script, logs, *arguments):
    """Run a Python script in two workers of this machine, with a server and a scheduler."""
    node = Node(0, 1, 2, 1, '127.0.0.1', free_port())
    processes = [process if process.environment['DMLC_ROLE'] != 'worker' else process._replace(
        command=[sys.executable, '-c', script, *map(str, arguments)]) for process in node.processes(())]
    assert supervise(processes, logs, lambda line: None) == JobExit(None)


class Folder:
    """Where a job runs; ``prefix`` comes before its command."""

    def __init__(self, path, prefix=(), **environment):
        self.path, self.prefix, self.environment = path, prefix, environment
        (path / 'frozen.py').write_text(FROZEN)
        (path / 'config.yaml').write_text(CONFIG)

    def start(self, *arguments, **options):
        return subprocess.Popen([*self.prefix, sys.executable, '-m', 'sss_gluon.cli', *map(str, arguments)],
                                cwd=self.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT, 'PYTHONUNBUFFERED': '',
                                     'SSS_GLUON_TEST': str(self.path), **self.environment}, **options)

    def run(self, *arguments, timeout=300):
        """(exit status, output, errors) of sss-gluon."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=timeout)
        assert 'Traceback' not in errors and 'Traceback' not in output, output + errors
        return process.returncode, output, errors

    def launch(self, workers, *arguments):
        return self.run('launch', '--workers', workers, '--logs', 'logs', 'train', 'config.yaml', *arguments)

    def arrays(self, run='run'):
        """{name: array} of the newest checkpoint of a run."""
        newest = max((self.path / run / 'checkpoints').glob('*.npz'), key=lambda path: path.stem)
        with np.load(newest) as file:
            return {name: file[name] for name in file.files if name != 'position'}


@pytest.fixture(scope='session')
def horovod_builds():
    """{launcher of Horovod: why it cannot be used here}, of those that cannot."""
    script = 'import sss_gluon, horovod.mxnet as h; print(h.gloo_built(), h.mpi_built())'
    asked = subprocess.run([sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                           env={**os.environ, 'PYTHONPATH': ROOT})
    if asked.returncode:
        install = 'Horovod is not installed: SSS_GLUON_MPI=1 bash scripts/cluster/install_horovod.sh'
        return {'horovodrun': install, 'mpirun': install}
    reasons, (gloo, mpi) = {}, asked.stdout.split()
    if gloo != 'True':
        reasons['horovodrun'] = 'Horovod was built without Gloo'
    if mpi != 'True' or not open_mpi():
        reasons['mpirun'] = 'Horovod was built without MPI, or mpirun is not that of Open MPI'
    return reasons


def open_mpi():
    return shutil.which('mpirun') and 'Open' in subprocess.run(['mpirun', '--version'], stdout=subprocess.PIPE,
                                                               text=True).stdout


@pytest.fixture(params=['horovodrun', 'mpirun'])
def backend(request, horovod_builds):
    """A launcher of Horovod that is here."""
    if request.param in horovod_builds:
        pytest.skip(horovod_builds[request.param])
    return request.param


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope='module')
def shared_folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp('job'))


@pytest.fixture(scope='session')
def folder_of():
    return Folder


@pytest.fixture(scope='session')
def workers():
    return run_as_workers
