"""Networks with values as training leaves them, and small runs on the shipped digits, shared by the tests."""
import sss_gluon  # noqa: F401  (first: MXNet needs names that NumPy removed)

# isort: split
import gc
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from claims import CLAIMS, REPEATS
from filelock import FileLock
from groups import group, scheduler

from sss_gluon import timing
from sss_gluon.factors import scaling_factors
from sss_gluon.methods import sss, train
from sss_gluon.train import Config

pytest.register_assert_rewrite('checks', 'comparison', 'installation', 'trained_net')     # they assert for many tests

# A job in the background (`bash scripts/test.sh &`) ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]

# 8 x 8 digits, 18 steps an epoch: a fraction of a second
SMALL = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8,
             augment_pad=1, augment_flip=False, batch_size=64, epochs=2, lr_mode='constant',
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

# A narrow or shallow variant of each network, so that it can be run quickly, and the size of its input.
NARROW = {
    'cifar_vgg16': (dict(stages=((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8))), 32),
    'cifar_resnet20': (dict(depths=(2, 1, 1), widths=(4, 6, 8)), 16),
    'cifar_resnet164': (dict(depths=(2, 1, 1), widths=(8, 16, 24)), 16),
    'cifar_resnext20': (dict(depths=(2, 1, 1), widths=(8, 16, 24), groups=4), 16),
    'cifar_resnext164': (dict(depths=(1, 1, 2), widths=(8, 16, 24), groups=2, inner_ratio=0.25), 16),
    'vgg16': (dict(stages=((3, 4), (4, 4), (4, 5, 4), (4, 4, 4), (4, 4, 4))), 224),
    'resnet50': (dict(depths=(1, 2, 1, 1), widths=(8, 16, 24, 32)), 64),
    'resnext50_32x4d': (dict(depths=(1, 2, 1, 1), widths=(16, 32, 48, 64), groups=8), 64),
    'peleenet': (dict(depths=(1, 1, 2, 1)), 64),
}


def _fill(net, seed=0):
    """Give a network random parameters, running statistics included; factors are 1."""
    random = np.random.default_rng(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        shape = parameter.shape
        if name.endswith('weight'):
            drawn = random.standard_normal(min(np.prod(shape), 1_000_003), 'float32')   # a prime, where it repeats
            value = np.resize(drawn * np.float32(np.sqrt(2 / np.prod(shape[1:]))), shape)
        elif name.endswith(('gamma', 'running_var', 'moving_var')):
            value = random.uniform(0.5, 1.5, shape)
        elif name.endswith('factor'):
            value = np.ones(shape)
        else:
            value = random.standard_normal(shape) * 0.3
        parameter._load_init(mx.nd.array(value, dtype=parameter.dtype), mx.cpu())
    return net


def _zero(net, chance=0.4, seed=0):
    """Put each entry of each factor at zero by chance, the others anywhere between -0.5 and 1.5, never near zero."""
    random = np.random.RandomState(seed)
    for factor in scaling_factors(net):
        size = factor.parameter.shape
        values = random.uniform(0.3, 1.5, size) * np.where(random.rand(*size) < 0.1, -0.3, 1)
        factor.parameter.set_data(mx.nd.array(values * (random.rand(*size) >= chance)))
    return net


def _set_factors(net, values):
    """``values``: {name of a factor: number for all its entries, or one number each}."""
    factors = {factor.name: factor.parameter for factor in scaling_factors(net)}
    for name, value in values.items():
        factors[name].set_data(mx.nd.array(np.broadcast_to(value, factors[name].shape)))
    return net


def _difference(expected, found):
    """Largest difference of two NDArrays (or lists of them) over the largest absolute value of the first."""
    if not isinstance(expected, (list, tuple)):
        expected, found = [expected], [found]
    assert len(expected) == len(found)
    worst = 0.0
    for a, b in zip(expected, found):
        a, b = a.asnumpy(), b.asnumpy()
        assert a.shape == b.shape and a.dtype == b.dtype and np.isfinite(a).all() and np.abs(a).max() > 0
        worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests of ``claims``, and begin with what takes long, so that all processes end together."""
    for item in items:
        for names, mark in ((CLAIMS, 'claim'), (REPEATS, 'slow')):
            if item.nodeid.partition('/')[2].startswith(names):
                item.add_marker(mark)
    items.sort(key=lambda item: (group(item.nodeid) == item.nodeid, item.get_closest_marker('slow') is None))


def pytest_collection_finish():
    """What was imported and collected stays, so the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return scheduler(config, log) if config.getoption('dist') == 'loadgroup' else None


@pytest.fixture(scope='session', autouse=True)
def few_rounds():
    """Latencies and gradients that nobody looks at are measured in as few rounds as possible."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, 'AT_MOST', 0.0)
        patch.setattr(sss, 'BATCHES', 2)
        yield


@pytest.fixture(scope='session')
def narrow():
    """{network: (options that make it small, height and width of its input)}."""
    return NARROW


@pytest.fixture(scope='session')
def fill():
    return _fill


@pytest.fixture(scope='session')
def zero():
    return _zero


@pytest.fixture(scope='session')
def set_factors():
    return _set_factors


@pytest.fixture(scope='session')
def difference():
    return _difference


@pytest.fixture(scope='session')
def batch():
    """A function that makes a batch of normal numbers of a shape."""
    def make(*shape, seed=1):
        return mx.nd.array(np.random.RandomState(seed).standard_normal(shape))
    return make


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
def once(tmp_path_factory):
    """A function that gives the folder ``name``, which ``fill(folder)`` has filled once for all processes of the tests.

    Copy it before changing anything in it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base

    def find(name, fill):
        folder, filled = base / name, base / f'{name}.filled'
        with FileLock(str(base / f'{name}.lock')):
            if not filled.exists():
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder
    return find


@pytest.fixture(scope='session')
def trained(once):
    """A function that gives the folder of a finished run, trained once for each configuration. Copy it to change it."""
    def find(**settings):
        settings = dict(SMALL, **settings)
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        return once(f'trained-{key}', lambda folder: train(Config(run=str(folder / 'run'), **settings),
                                                           log=lambda line: None)) / 'run'
    return find


@pytest.fixture(scope='session')
def finished(trained):
    """Folder of a run that lost some blocks and neurons, but not all. Copy it before changing anything in it."""
    return trained(epochs=3, factors=['neuron', 'block'], gamma=0.04, gamma_mult={'conv2': 2.0}, learning_rate=0.1)


@pytest.fixture(scope='session')
def command():
    """Run Python with the package and given folders on its path; returns the finished process."""
    def run(arguments, folder, *paths, timeout=300):
        found = [str(ROOT), *map(str, paths), os.environ.get('PYTHONPATH', '')]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, found)))
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=str(folder), env=environment,
                              capture_output=True, text=True, timeout=timeout)
    return run


@pytest.fixture
def serve(monkeypatch):
    """A function that serves {path: content} on this machine and returns the address and the list of requests.

    Content None answers 404; content (bytes, length) announces another length than it sends.
    """
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    servers = []

    def start(files):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                content = files.get(self.path.lstrip('/'))
                if content is None:
                    self.send_error(404)
                    return
                content, length = content if isinstance(content, tuple) else (content, len(content))
                self.send_response(200)
                self.send_header('Content-Length', str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        servers.append((server, thread))
        return f'http://127.0.0.1:{server.server_port}/', requests

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
