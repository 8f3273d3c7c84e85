"""Small runs on the shipped digits, and networks of a user's own, for the tests of the training loop."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sss_gluon.train import Config, train

ROOT = Path(__file__).resolve().parents[2]

# 8 x 8 digits, 18 steps an epoch: a fraction of a second
SMALL = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8,
             augment_pad=1, augment_flip=False, batch_size=64, epochs=2, schedule='constant',
             learning_rate=0.05, gamma=0.02)

OWN_NETS = '''
from mxnet.gluon import nn
from sss_gluon import ScaledBatchNorm, ScaledConv2D


class Net(nn.HybridBlock):
    """Neurons in front, one residual block; batch normalisation and dropout are optional."""

    def __init__(self, classes, in_channels, norm=True, dropout=False):
        super().__init__()
        self.dropout = dropout
        with self.name_scope():
            if norm:
                self.first = nn.Conv2D(8, 3, 2, 1, in_channels=in_channels, use_bias=False)
                self.norm = ScaledBatchNorm(8, kind='neuron')
            else:
                self.first = ScaledConv2D(8, 3, 2, 1, in_channels=in_channels, kind='neuron')
                self.norm = nn.HybridSequential()
            self.inner = nn.Conv2D(8, 3, padding=1, in_channels=8)
            self.last = ScaledConv2D(8, 3, padding=1, in_channels=8, kind='block')
            self.drop = nn.Dropout(0.2) if dropout else nn.HybridSequential()
            self.output = nn.Dense(classes, in_units=8 * 4 * 4)

    def hybrid_forward(self, F, x):
        x = F.Activation(self.norm(self.first(x)), act_type='relu')
        x = x + self.last(F.Activation(self.inner(x), act_type='relu'))
        if self.dropout:
            x = F.Dropout(x, p=0.1)         # an operator, no layer that could be found
        return self.output(F.flatten(self.drop(x)))


def net(classes, in_channels):
    return Net(classes, in_channels)


def plain(classes, in_channels):
    return Net(classes, in_channels, norm=False)


def dropout(classes, in_channels):
    return Net(classes, in_channels, dropout=True)


def operator(classes, in_channels):
    net = Net(classes, in_channels)
    net.dropout = True
    return net
'''


@pytest.fixture(scope='session')
def own_nets(tmp_path_factory):
    """Folder of the module own_nets.py with the networks net, plain, dropout and operator for 8 x 8 images."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'own_nets.py').write_text(OWN_NETS, 'utf-8')
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def configure(tmp_path):
    """A function that makes the configuration of a small run in a folder of its own."""
    def make(run='run', **settings):
        return Config(run=str(tmp_path / run), **dict(SMALL, **settings))
    return make


@pytest.fixture(scope='session')
def finished(tmp_path_factory):
    """Folder of a run that lost some blocks and neurons, but not all. Copy it before changing anything in it."""
    path = tmp_path_factory.mktemp('finished') / 'run'
    settings = dict(epochs=3, factors=['neuron', 'block'], gamma=0.04, gamma_mult={'conv2': 2.0}, learning_rate=0.1)
    train(Config(run=str(path), **dict(SMALL, **settings)), log=lambda line: None)
    return path


@pytest.fixture(scope='session')
def command():
    """Run Python with the package and given folders on its path; returns the finished process."""
    def run(arguments, folder, *paths, timeout=300):
        found = [str(ROOT), *map(str, paths), os.environ.get('PYTHONPATH', '')]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, found)))
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=str(folder), env=environment,
                              capture_output=True, text=True, timeout=timeout)
    return run
