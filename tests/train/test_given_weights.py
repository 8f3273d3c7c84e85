"""Networks that start from given weights: of files, checkpoints, exports, and of GluonCV."""
import hashlib
import io
import socket
import zipfile

import mxnet as mx
import numpy as np
import pytest

import sss_gluon as sss
from sss_gluon import get_model, scaling_factors
from sss_gluon.deploy import load_run
from sss_gluon.errors import SSSError
from sss_gluon.factors import scale_layer
from sss_gluon.methods import train
from sss_gluon.train.given_weights import start_from
from sss_gluon.train.network import build_network, load_data
from sss_gluon.train.parameters import named_parameters

SMALL = dict(classes=10, in_channels=1, depths=(1, 1, 1), widths=(8, 8, 16))


def values(net):
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in named_parameters(net)}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_dense_network_starts_one_with_factors(configure, tmp_path, fill, batch, difference):
    dense = fill(get_model('cifar_resnet20', factors=(), **SMALL))
    dense.save_parameters(str(tmp_path / 'dense.params'))
    config = configure(init=str(tmp_path / 'dense.params'), factors=['neuron', 'block'])
    net = build_network(config, load_data(config))
    assert all((factor.values() == 1).all() for factor in scaling_factors(net)) and len(scaling_factors(net)) == 6
    for name, expected in values(dense).items():
        np.testing.assert_array_equal(values(net)[name], expected, err_msg=name)
    x = batch(4, 1, 8, 8)
    assert difference(dense(x), net(x)) < 1e-6


@pytest.mark.parametrize('factors', [['neuron', 'block'], ['block'], []])
def test_factors_of_the_file_are_folded_into_its_weights(configure, tmp_path, fill, zero, batch, difference, factors):
    """The same outputs from λ = 1, or without factors at all."""
    given = zero(fill(get_model('cifar_resnet20', factors=('neuron', 'block'), **SMALL)), chance=0.2)
    given.save_parameters(str(tmp_path / 'given.params'))
    config = configure(init=str(tmp_path / 'given.params'), factors=factors)
    net = build_network(config, load_data(config))
    assert all((factor.values() == 1).all() for factor in scaling_factors(net))
    x = batch(4, 1, 8, 8)
    assert difference(given(x), net(x)) < 1e-5
    statistics = [one.stage3[0].norm1.running_var.data().asnumpy() for one in (net, given)]
    np.testing.assert_array_equal(*statistics)


@pytest.mark.parametrize('kind', ['neuron', 'block', 'group'])
def test_factors_of_every_kind_and_layer_are_folded(tmp_path, fill, zero, batch, difference, kind):
    def make():
        net = mx.gluon.nn.HybridSequential()
        net.add(sss.ScaledConv2D(8, 3, in_channels=4, groups=2, kind=kind),
                sss.ScaledBatchNorm(8, kind=kind, groups=4 if kind == 'group' else None))
        return fill(net)

    given, net = zero(make(), chance=0.3), make()
    given.save_parameters(str(tmp_path / 'given.params'))
    start_from(net, str(tmp_path / 'given.params'))
    x = batch(2, 4, 6, 6)
    assert all((factor.values() == 1).all() for factor in scaling_factors(net))
    assert difference(given(x), net(x)) < 1e-5


def test_checkpoint_starts_another_run(configure, finished, batch, difference):
    checkpoint = sorted((finished / 'checkpoints').iterdir())[-1]
    config = configure(init=str(checkpoint), factors=['block'])
    net, trained = build_network(config, load_data(config)), load_run(finished).net
    assert any((factor.values() == 0).any() for factor in scaling_factors(trained))
    assert all((factor.values() == 1).all() for factor in scaling_factors(net)) and len(scaling_factors(net)) == 3
    x = batch(4, 1, 8, 8)
    assert difference(trained(x), net(x)) < 1e-5


def test_exported_network_starts_one_by_order(configure, tmp_path, fill, batch, difference):
    """Names of an export are others; order, kind and shape agree one by one."""
    dense = fill(get_model('cifar_vgg16', classes=10, in_channels=1, factors=(), stages=((4, 4), (6,)), final_size=2))
    dense.hybridize()
    x = batch(2, 1, 8, 8)
    dense(x)
    dense.export(str(tmp_path / 'dense'))
    net = fill(get_model('cifar_vgg16', classes=10, in_channels=1, stages=((4, 4), (6,)), final_size=2), seed=1)
    start_from(net, str(tmp_path / 'dense-0000.params'))
    assert difference(dense(x), net(x)) < 1e-6


@pytest.mark.slow
def test_gluoncv_network_starts_ours(tmp_path, fill, batch, difference):
    model_zoo = pytest.importorskip('gluoncv.model_zoo')
    theirs = model_zoo.get_model('resnext50_32x4d')
    theirs.initialize()
    theirs(mx.nd.zeros((1, 3, 224, 224)))       # GluonCV infers its shapes
    fill_like = np.random.RandomState(0)
    for parameter in theirs.collect_params().values():
        if parameter.name.endswith(('gamma', 'running_var')):
            parameter.set_data(mx.nd.array(fill_like.uniform(0.5, 1.5, parameter.shape)))
    theirs.save_parameters(str(tmp_path / 'theirs.params'))
    net = get_model('resnext50_32x4d')
    net.initialize()
    start_from(net, str(tmp_path / 'theirs.params'))
    x = batch(1, 3, 224, 224)
    assert difference(theirs(x), net(x)) < 1e-4
    assert len(scaling_factors(net)) == 32 and all((factor.values() == 1).all() for factor in scaling_factors(net))


def test_start_on_two_devices(configure, tmp_path, fill):
    dense = fill(get_model('cifar_resnet20', factors=(), **SMALL))
    dense.save_parameters(str(tmp_path / 'dense.params'))
    config = configure(init=str(tmp_path / 'dense.params'), devices=['cpu0', 'cpu1'])
    net = build_network(config, load_data(config))
    for name, parameter in named_parameters(net):
        first, second = parameter.list_data()
        np.testing.assert_array_equal(first.asnumpy(), second.asnumpy(), err_msg=name)
    assert (net.output.weight.data(mx.cpu(1)).asnumpy() == values(dense)['output.weight']).all()


# Another number of classes

@pytest.mark.parametrize('names', ['structural', 'prefixed', 'wrapped', 'by order'])
def test_the_head_of_other_classes_starts_anew(configure, tmp_path, fill, names):
    """Names: of the layers; of Gluon's parameters, with the prefix of another instance; of a network around it.

    Where the names say what belongs together, the order of the file does not matter.
    """
    given = fill(get_model('cifar_resnet20', factors=(), **dict(SMALL, classes=7)))
    path = str(tmp_path / 'given.params')
    arrays = given._collect_params_with_prefix()
    if names == 'prefixed':
        arrays = {'another0_' + p.name[len(given.prefix):]: p for p in given.collect_params().values()}
    renamed = {'wrapped': lambda n, name: f'backbone.{name}',
               'by order': lambda n, name: f'a{n}_{name.rpartition(".")[2]}'}.get(names, lambda n, name: name)
    file = [(renamed(n, name), parameter.data()) for n, (name, parameter) in enumerate(arrays.items())]
    mx.nd.save(path, dict(file if names == 'by order' else reversed(file)))
    said = []
    config = configure(init=path, factors=['block'], seed=3)
    net = build_network(config, load_data(config), log=said.append)
    anew = values(build_network(configure(factors=['block'], seed=3), load_data(config)))
    found, expected = values(net), values(given)
    assert [line.split(' ')[0] for line in said] == ['output.weight', 'output.bias']
    assert all('(10,' in line and '(7,' in line and path in line for line in said)
    for name in found:
        kept = anew if name.startswith('output') or name.endswith('factor') else expected
        np.testing.assert_array_equal(found[name], kept[name], err_msg=name)


def test_colour_weights_start_a_network_for_grey_images(tmp_path, fill, batch, difference):
    """A grey image in three channels is what its sum of weights sees; only the first convolution is added up."""
    given = fill(get_model('cifar_resnet20', factors=(), **dict(SMALL, in_channels=3)))
    given.save_parameters(str(tmp_path / 'given.params'))
    net = fill(get_model('cifar_resnet20', factors=(), **SMALL), seed=1)
    assert [note.split()[0] for note in start_from(net, str(tmp_path / 'given.params'))] == ['stem.weight']
    x = batch(2, 1, 8, 8)
    assert difference(given(mx.nd.concat(x, x, x, dim=1)), net(x)) < 1e-5


def test_two_factors_of_one_layer_are_folded(tmp_path, fill, zero, batch, difference):
    def make():
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(6, 2, in_channels=6), mx.gluon.nn.Activation('relu'),
                mx.gluon.nn.Dense(6, in_units=6 * 9), mx.gluon.nn.Activation('relu'), mx.gluon.nn.Dense(3, in_units=6))
        return net

    def scaled(net):
        for layer in (net[0], net[2]):
            scale_layer(layer, 'neuron', 6, ('weight', 'bias'))
            scale_layer(layer, 'block', 1, ('weight', 'bias'))
        return net

    given = zero(fill(scaled(make())), chance=0.3)
    for name in ('0', '2'):
        given._collect_params_with_prefix()[f'{name}.block_factor'].set_data(mx.nd.array([0.5]))
    given.save_parameters(str(tmp_path / 'given.params'))
    for net in (fill(scaled(make()), seed=1), fill(make(), seed=1)):
        start_from(net, str(tmp_path / 'given.params'))
        x = batch(2, 6, 4, 4)
        assert difference(given(x), net(x)) < 1e-5


# GluonCV's published weights

NAME = 'mobilenetv2_0.25'


@pytest.fixture
def published(monkeypatch, tmp_path, serve):
    """A function that serves an archive as GluonCV publishes it (None: 404); returns network, requests and address."""
    model_zoo = pytest.importorskip('gluoncv.model_zoo')
    theirs = model_zoo.get_model(NAME, classes=1000)
    theirs.initialize()
    theirs(mx.nd.zeros((1, 3, 32, 32)))
    theirs.save_parameters(str(tmp_path / 'theirs.params'))
    content = (tmp_path / 'theirs.params').read_bytes()
    sha1 = hashlib.sha1(content).hexdigest()
    monkeypatch.setitem(model_zoo.model_store._model_sha1, NAME, sha1)
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'home'))

    def start(archive=True):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, 'w') as file:
            file.writestr(f'{NAME}-{sha1[:8]}.params', content)
        file = {True: packed.getvalue(), False: b'no archive', None: None}[archive]
        url, requests = serve({f'gluon/models/{NAME}-{sha1[:8]}.zip': file})
        monkeypatch.setenv('MXNET_GLUON_REPO', url)
        return theirs, requests
    return start


def gluoncv(configure, **settings):
    return configure(**dict(dict(model=f'gluoncv:{NAME}', model_options={}, factors=['neuron'], image_size=16,
                                 init='gluoncv'), **settings))


def test_pretrained_weights_of_gluoncv(configure, published, tmp_path, capfd):
    """Downloaded once, by GluonCV; the head of 1000 classes starts anew, and the digits are grey."""
    theirs, requests = published()
    config, said = gluoncv(configure), []
    for _ in range(2):
        net = build_network(config, load_data(config), log=said.append)
    assert len(requests) == 1 and [line.split()[0] for line in said[:2]] == ['output.0.weight', 'features.0.weight']
    expected = {name: p.data().asnumpy() for name, p in theirs._collect_params_with_prefix().items()}
    for name, value in values(net).items():
        if name == 'features.0.weight':
            np.testing.assert_allclose(value, expected[name].sum(axis=1, keepdims=True), rtol=1e-6)
        elif name.endswith('factor'):
            assert (value == 1).all()
        elif not name.startswith('output'):
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert values(net)['output.0.weight'].shape[0] == 10


@pytest.mark.parametrize('archive, words', [(False, 'zip'), (None, 'gluon/models'), ('nobody', 'refused')])
def test_weights_that_cannot_be_downloaded(configure, published, monkeypatch, tmp_path, archive, words):
    with socket.socket() as unused:                     # bound, but nobody listens
        unused.bind(('127.0.0.1', 0))
        published(None if archive == 'nobody' else archive)
        if archive == 'nobody':
            monkeypatch.setenv('MXNET_GLUON_REPO', f'http://127.0.0.1:{unused.getsockname()[1]}/')
        config = gluoncv(configure)
        with pytest.raises(SSSError, match=f"GluonCV's weights of gluoncv:{NAME} .*{words}.*{tmp_path}/home") as error:
            build_network(config, load_data(config))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('model, words', [('cifar_resnet20', 'init=gluoncv needs a network of GluonCV'),
                                          ('gluoncv:cifar_resnext29_32x4d', 'gluoncv:cifar_resnext29_32x4d')])
def test_networks_that_gluoncv_publishes_no_weights_of(configure, published, model, words):
    config = gluoncv(configure, model=model, image_size=16, factors=[])
    with pytest.raises(SSSError, match=words):
        build_network(config, load_data(config))


def write_other(path, name, fill):
    other = {'deeper': dict(SMALL, depths=(1, 1, 2)), 'wider': dict(SMALL, widths=(8, 8, 24)),
             'wider and other classes': dict(SMALL, widths=(8, 8, 24), classes=7),
             'shallower': dict(SMALL, depths=(1, 1), widths=(8, 8))}[name]
    fill(get_model('cifar_resnet20', factors=(), **other)).save_parameters(str(path))


@pytest.mark.parametrize('name', ['deeper', 'wider', 'wider and other classes', 'shallower'])
def test_weights_of_another_network(configure, tmp_path, fill, name):
    path = tmp_path / 'other.params'
    write_other(path, name, fill)
    config = configure(init=str(path))
    with pytest.raises(SSSError, match=f'{path} .* another network') as error:
        build_network(config, load_data(config))
    assert len(str(error.value).splitlines()) == 1


def test_a_network_is_not_half_changed_by_a_wrong_file(tmp_path, fill):
    path = tmp_path / 'other.params'
    write_other(path, 'wider and other classes', fill)
    net = fill(get_model('cifar_resnet20', **SMALL), seed=3)
    before = values(net)
    with pytest.raises(SSSError):
        start_from(net, str(path))
    assert_equal(values(net), before)


@pytest.mark.parametrize('name, content, words', [
    ('nothing.params', None, 'does not exist'), ('text.params', b'these are no weights', 'not a readable params file'),
    ('nothing.npz', None, 'there is no'), ('text.npz', b'text', 'damaged or not an .npz'),
    ('empty.params', b'', 'not a readable params file'),
])
def test_files_that_hold_no_weights(configure, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config = configure(init=str(tmp_path / name))
    with pytest.raises(SSSError, match=words) as error:
        build_network(config, load_data(config))
    assert name in str(error.value) and len(str(error.value).splitlines()) == 1


def test_other_arrays_are_no_weights(configure, tmp_path):
    np.savez(tmp_path / 'other.npz', a=np.zeros(3))
    mx.nd.save(str(tmp_path / 'list.params'), [mx.nd.zeros((2,))])
    for name, words in (('other.npz', 'holds no parameters'), ('list.params', 'without names')):
        config = configure(init=str(tmp_path / name))
        with pytest.raises(SSSError, match=words):
            build_network(config, load_data(config))


def test_a_run_starts_from_given_weights_and_leaves_nothing_when_it_cannot(configure, tmp_path, fill):
    fill(get_model('cifar_resnet20', factors=(), **SMALL)).save_parameters(str(tmp_path / 'dense.params'))
    run = train(configure(init=str(tmp_path / 'dense.params'), epochs=1, learning_rate=0.0), log=lambda line: None)
    with np.load(run.checkpoints / 'epoch-0001.npz') as file, mx.cpu(0):
        given = mx.nd.load(str(tmp_path / 'dense.params'))
        for name, array in given.items():
            if 'running' not in name:
                np.testing.assert_array_equal(file[f'param:{name}'], array.asnumpy(), err_msg=name)
    with pytest.raises(SSSError, match='does not exist'):
        train(configure('other', init=str(tmp_path / 'nothing.params')))
    assert not (tmp_path / 'other').exists()
