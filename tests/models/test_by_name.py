"""Networks of GluonCV and of the user by name: what they are called with, their factors, and what cannot be built."""
import sys

import mxnet as mx
import numpy as np
import pytest

import sss_gluon as sss
from sss_gluon.errors import SSSError
from sss_gluon.models import user

SHAPE = (1, 2, 16, 16)
FUNCTIONS = '''
from mxnet.gluon import nn
from sss_gluon import ScaledBatchNorm


def small(units, norm=nn.BatchNorm, **more):
    """Shapes are left to the first batch."""
    net = nn.HybridSequential(**more)
    net.add(nn.Conv2D(8, 3, padding=1, use_bias=False), norm(in_channels=8), nn.Activation('relu'), nn.Conv2D(8, 1),
            nn.Activation('relu'), nn.GlobalAvgPool2D(), nn.Dense(units))
    return net


def nothing():
    return small(7)


def classes(classes):
    return small(classes)


def channels(classes, in_channels=None):
    net = small(classes)
    net.asked = in_channels
    return net


def passed_on(**given):
    return small(given.pop('classes'), **given)


def given_all(**given):
    net = small(given['classes'])
    net.asked = given
    return net


def scaled(classes):
    return small(classes, ScaledBatchNorm)


def chosen(classes, factors=()):
    net = small(classes, ScaledBatchNorm if 'neuron' in factors else nn.BatchNorm)
    net.asked = factors
    return net


def fails(classes):
    return small(classes, speed=3)


class Net(nn.HybridSequential):
    def __init__(self, classes, width=4):
        super().__init__()
        self.add(nn.Dense(width), nn.Dense(classes))
'''


@pytest.fixture(scope='module', autouse=True)
def functions(tmp_path_factory):
    folder = tmp_path_factory.mktemp('functions')
    (folder / 'functions_of_ones_own.py').write_text(FUNCTIONS, 'utf-8')
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def mine(function, *arguments, **options):
    return sss.get_model(f'functions_of_ones_own:{function}', *arguments, **options)


def kinds(net):
    return {factor.kind for factor in sss.scaling_factors(net)}


# Functions of the user

@pytest.mark.parametrize('function, options, outputs', [
    ('nothing', {}, 7), ('classes', {}, 5), ('channels', {}, 5), ('passed_on', {}, 5), ('given_all', {}, 5),
    ('scaled', {}, 5), ('chosen', {}, 5), ('Net', {}, 5), ('Net', dict(width=3), 5)])
def test_a_function_gets_what_it_takes(function, options, outputs):
    """Nothing is initialised; a shape is enough to know all others."""
    net = mine(function, 5, (), SHAPE[1], SHAPE, **options) if function != 'scaled' else mine(function, 5)
    net.initialize()
    assert net(mx.nd.ones((3,) + SHAPE[1:])).shape == (3, outputs)
    assert net.spec == dict(name=f'functions_of_ones_own:{function}', classes=5, options=options,
                            in_channels=3 if function == 'scaled' else 2, factors=None if function == 'scaled' else [])


def test_what_a_function_is_given():
    assert mine('channels', 5, in_channels=4).asked == 4
    assert mine('given_all', 5, (), 4).asked == dict(classes=5, in_channels=4, factors=())
    assert mine('given_all', 5).asked == dict(classes=5, in_channels=3)
    assert mine('chosen', 5, 'neuron').asked == ('neuron',) and mine('chosen', 5).asked == ()


def test_only_what_is_offered_is_left_out():
    """An option that a function does not take is an error, and so is one that fails inside."""
    def inner(a):
        return a

    def passes(**given):
        return inner(**given)

    assert user.call(passes, dict(a=1), dict(b=2, c=3)) == 1
    for options in ({}, dict(a=1, d=4)):
        with pytest.raises(TypeError):
            user.call(passes, options, dict(b=2))
    assert user.call(lambda a, b=0: (a, b), dict(a=1), dict(b=2, c=3)) == (1, 2)
    assert user.call(dict, dict(a=1), dict(b=2)) in (dict(a=1), dict(a=1, b=2))      # written in C


@pytest.mark.parametrize('factors, found', [
    (None, {'neuron'}), (('neuron',), {'neuron'}), ('neuron', {'neuron'}), ((), set()), (('block',), set())])
def test_a_network_without_factors_gets_those_that_are_wanted(factors, found):
    net = mine('classes', 5, factors, SHAPE[1], SHAPE)
    assert kinds(net) == found
    net.initialize()
    assert net(mx.nd.ones(SHAPE)).shape == (1, 5)
    assert [factor.parameter.shape for factor in sss.scaling_factors(net)] == [(8,), (8,)][:2 * len(found)]


def test_factors_that_are_there_stay():
    assert [factor.name for factor in sss.scaling_factors(mine('scaled', 5, None, SHAPE[1], SHAPE))] == ['1']
    assert [factor.name for factor in sss.scaling_factors(mine('chosen', 5, ['neuron'], 2, SHAPE))] == ['1']
    assert kinds(mine('classes', 5)) == set()       # without a shape it is not traced


@pytest.mark.parametrize('function, arguments, message', [
    ('scaled', dict(factors=()), r"factors of its own \(neuron\), but factors=\[\]"),
    ('scaled', dict(factors='block'), 'factors of its own'),
    ('classes', dict(factors='neurons'), "no 'neurons' structures.*neuron, group, block"),
    ('classes', dict(factors='neuron'), r'input_shape=\(1, 3, height, width\)'),
    ('classes', dict(width=3), "unexpected keyword argument 'width'"),
    ('fails', {}, "unexpected keyword argument 'speed'"), ('small', {}, "required positional argument: 'units'"),
    ('absent', {}, "no attribute 'absent'"),
])
def test_errors_of_functions(function, arguments, message):
    with pytest.raises(SSSError, match=f"functions_of_ones_own:{function}.*{message}"):
        mine(function, classes=5, **arguments)


# GluonCV

def test_gluoncv_is_imported_only_when_it_is_asked_for(command, tmp_path):
    done = command(['-c', 'import sys, sss_gluon, sss_gluon.cli, sss_gluon.methods\n'
                          'sss_gluon.get_model("cifar_resnet20")\nprint("gluoncv" in sys.modules)'], tmp_path)
    assert done.stdout.strip() == 'False', done.stderr


@pytest.mark.parametrize('missing, words', [('gluoncv', 'not installed: pip install gluoncv'),
                                            ('gluoncv.model_zoo', 'pip install gluoncv')])
def test_gluoncv_is_missing(monkeypatch, missing, words):
    if missing == 'gluoncv.model_zoo':
        pytest.importorskip('gluoncv')
        monkeypatch.delattr(sys.modules['gluoncv'], 'model_zoo', raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SSSError, match=words) as error:
        sss.get_model('gluoncv:resnet18_v1b')
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('name, options, message', [
    ('resnet50_v1bb', {}, "did you mean 'gluoncv:resnet50_v1b'"), ('', {}, 'did you mean'),
    ('resnet18_v1b', dict(pretrained=True), 'pretrained cannot be set.*init=gluoncv'),
    ('ssd_512_resnet50_v1_custom', dict(transfer='coco'), 'transfer cannot be set'),
    ('mobilenetv2_0.25', dict(speed=3), "speed"),
    ('ssd_512_resnet50_v1_voc', dict(classes=3), 'classes'),
    ('mobilenetv2_0.25', dict(factors='block'), r'input_shape=\(1, 3,'),
])
def test_what_gluoncv_cannot_build(name, options, message):
    pytest.importorskip('gluoncv')
    with pytest.raises(SSSError, match=f'gluoncv:{name}.*{message}') as error:
        sss.get_model(f'gluoncv:{name}', **options)
    assert len(str(error.value).splitlines()) == 1


def test_networks_of_gluoncv_are_built_without_weights(monkeypatch):
    """Those that would load weights of their backbones too."""
    model_store = pytest.importorskip('gluoncv.model_zoo.model_store')
    monkeypatch.setattr(model_store, 'get_model_file', lambda *names, **more: pytest.fail(f'loads {names}'))
    for name in ('fcn_resnet50_voc', 'yolo3_mobilenet1.0_voc', 'simple_pose_resnet18_v1b'):
        sss.get_model(f'gluoncv:{name}')


@pytest.mark.parametrize('name, wanted', [('cifar_resnet20_v1', ('neuron', 'block')), ('mobilenetv2_0.25', None)])
def test_a_network_of_gluoncv_is_pruned_and_rebuilt(name, wanted, zero, batch, difference, tmp_path):
    """The structure.json alone says how it is built; the same structure removes the same from a second instance."""
    pytest.importorskip('gluoncv')
    shape = (1, 1, 16, 16)
    net = sss.get_model(f'gluoncv:{name}', 4, wanted, 1, shape)
    assert kinds(net) == {'neuron', 'block'}
    net.initialize(mx.init.Xavier())
    x = batch(3, *shape[1:])
    assert net(x).shape == (3, 4)
    small = sss.compact(zero(net, chance=0.3), shape)
    assert 0 < small.after.macs < 0.8 * small.before.macs
    small.export(tmp_path / 'small')
    again = sss.rebuild(tmp_path / 'small-structure.json', params=tmp_path / 'small-0000.params')
    assert difference(net(x), again(x)) < 1e-5
    same = sss.get_model(f'gluoncv:{name}', 4, wanted, 1, shape)
    same.initialize()
    sss.set_structure(same, tmp_path / 'small-structure.json')
    dead = [(factor.name, np.flatnonzero(factor.values() == 0).tolist()) for factor in sss.scaling_factors(same)]
    rows = {name: np.setdiff1d(np.arange(row['size']), row['kept']).tolist()
            for name, row in small.structure.factors.items()}
    assert dict(dead) == rows and any(rows.values())


def test_a_structure_causes_no_other_code_to_be_imported():
    structure = sss.Structure(dict(name='functions_of_ones_own:nothing'), (1, 3, 8, 8), {}, {})
    with pytest.raises(SSSError, match='pass model='):
        sss.rebuild(structure)
    structure.model = dict(name='gluoncv:resnet18_v1b', options=dict(pretrained=True))
    with pytest.raises(SSSError, match='pretrained'):
        sss.rebuild(structure)
