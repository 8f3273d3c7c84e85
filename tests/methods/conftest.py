"""Small runs on the shipped digits, and cases with known weights."""
import pytest

from sss_gluon import get_model
from sss_gluon.data import load
from sss_gluon.methods.method import Case
from sss_gluon.train import Config

SMALL = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8, factors=[],
             augment_pad=1, augment_flip=False, batch_size=64, epochs=1, lr_mode='constant', learning_rate=0.05)
GROUPS = dict(SMALL, model='cifar_resnext20', model_options=dict(depths=[1, 1, 1], widths=[8, 16, 24], groups=4))


def quiet(line):
    pass


@pytest.fixture
def configure(tmp_path):
    """A function that makes the configuration of a small run; ``model`` selects the base settings."""
    def make(run='run', **settings):
        base = GROUPS if settings.get('model') == 'cifar_resnext20' else SMALL
        return Config(run=str(tmp_path / run), **dict(base, **settings))
    return make


@pytest.fixture(scope='session')
def source(trained):
    """A function that gives the run folder of a trained network, dense, by model. Nobody writes into it."""
    return lambda model='cifar_resnet20': str(trained(**dict(GROUPS if model == 'cifar_resnext20' else SMALL,
                                                             epochs=2)))


@pytest.fixture(scope='session')
def emptied(trained):
    """The run folder of a network whose blocks are all zero. Nobody writes into it."""
    return str(trained(**dict(SMALL, factors=['block'], gamma=50.0, learning_rate=0.1)))


@pytest.fixture(scope='session')
def digits():
    return load('digits', None, None, 8)


@pytest.fixture
def make_case(digits, fill):
    """A case of a narrow network with random weights and running statistics."""
    def make(kinds=('neuron',), model='cifar_resnet20', seed=0, net=None, log=quiet, size=8, **options):
        settings = GROUPS if model == 'cifar_resnext20' else SMALL
        net = net or fill(get_model(model, 10, kinds, 1, **settings['model_options']), seed)
        options = dict(dict(images=16, positions=4, scope='layer', constants='approximate', order='even'), **options)
        return Case(net, digits.pad_to(size), Config(seed=seed), options, log)
    return make
