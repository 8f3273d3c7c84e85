"""Adding factors changes no output, no name and no sharing, in whatever state the network is."""
import mxnet as mx
import numpy as np
import pytest
from families import FAMILIES, SHAPE, chain, conv, head, inverted, residual_v1
from mxnet import autograd, gluon
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.factors import Scaled, scalable, scale_layer
from sss_gluon.graph.fold import fold
from sss_gluon.graph.trace import trace

HYBRID = {'eager': None, 'hybrid': {}, 'static': dict(static_alloc=True, static_shape=True)}


def ready(net, fill, hybrid=None):
    net.initialize()
    if hybrid is not None:
        net.hybridize(**hybrid)
    net(mx.nd.zeros(SHAPE))
    return fill(net)


def passes(net, x):
    """Outputs in inference and training, and the gradients of the second."""
    found = [net(x).asnumpy()]
    mx.random.seed(0)
    with autograd.record():
        y = net(x)
    y.backward()
    mx.nd.waitall()
    gradients = {name: parameter.grad().asnumpy() for name, parameter in net._collect_params_with_prefix().items()
                 if parameter.grad_req != 'null' and not name.endswith('factor')}
    return found + [y.asnumpy()], gradients


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('hybrid', HYBRID)
@pytest.mark.parametrize('name', FAMILIES)
def test_nothing_else_changes(name, hybrid, fill, batch):
    net, x = FAMILIES[name][0](), batch(*SHAPE)
    ready(net, fill, HYBRID[hybrid])
    state = {key: p.data().copy() for key, p in net._collect_params_with_prefix().items()}
    parameters = dict(net.collect_params().items())
    types = [type(layer) for layer in layers(net)]
    outputs, gradients = passes(net, x)
    for key, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(state[key])
    sss.add_factors(net, input_shape=SHAPE, log=None)
    again, same = passes(net, x)
    assert all(np.array_equal(a, b) for a, b in zip(outputs, again))
    assert gradients.keys() == same.keys() and all(np.array_equal(gradients[key], same[key]) for key in gradients)
    assert all(net.collect_params()[key] is parameter for key, parameter in parameters.items())
    assert all(isinstance(layer, kind) for layer, kind in zip(layers(net), types))
    assert sum(isinstance(layer, Scaled) for layer in layers(net)) == len({key.partition('#')[0]
                                                                           for key in FAMILIES[name][1]})


def layers(net):
    found = []
    net.apply(found.append)
    return found


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('name', FAMILIES)
def test_each_factor_scales_the_output_of_its_layer(name, fill, batch):
    """Each network with λ against itself without factors and with λ multiplied into its parameters in float64."""
    plain, scaled = FAMILIES[name][0](), FAMILIES[name][0]()
    ready(plain, fill), ready(scaled, fill)
    sss.add_factors(scaled, input_shape=SHAPE, log=None)
    random, multiplied = np.random.RandomState(0), {}
    for factor in sss.scaling_factors(scaled):
        factor.parameter.set_data(mx.nd.array(random.uniform(-1.5, 1.5, factor.parameter.shape)))
    for path, block in paths(scaled):
        for attribute, one in block.folds.items() if isinstance(block, Scaled) else ():
            value = block._reg_params[attribute].data().asnumpy().astype('float64')
            for own in one.names:
                key = '.'.join(path + (own,))
                now = multiplied.get(key, plain._collect_params_with_prefix()[key].data().asnumpy().astype('float64'))
                if own in block.units:
                    now = np.ones_like(now)
                each = np.repeat(value, len(now) // value.size)
                multiplied[key] = now * each.reshape([-1] + [1] * (now.ndim - 1))
    for key, value in multiplied.items():
        plain._collect_params_with_prefix()[key].set_data(mx.nd.array(value))
    plain.apply(use_gamma)
    x = batch(*SHAPE)
    np.testing.assert_allclose(scaled(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)
    assert multiplied


def use_gamma(layer):
    if getattr(layer, '_kwargs', {}).get('fix_gamma'):
        layer._kwargs['fix_gamma'] = False


def paths(net, path=()):
    yield path, net
    for name, child in net._children.items():
        yield from paths(child, path + (name,))


LAYERS = {      # each with 6 outputs, its input, and the number of factors
    'Conv1D': (lambda: nn.Conv1D(6, 3, in_channels=4), (2, 4, 9), 6),
    'Conv3D': (lambda: nn.Conv3D(6, 2, in_channels=4, use_bias=False), (2, 4, 3, 4, 5), 6),
    'Dense': (lambda: nn.Dense(6, in_units=20), (2, 4, 5), 6),
    'Dense, no bias': (lambda: nn.Dense(6, in_units=20, use_bias=False), (2, 20), 6),
    'Dense, not flat': (lambda: nn.Dense(6, in_units=5, flatten=False), (2, 4, 5), 6),
    'BatchNorm, no gamma': (lambda: nn.BatchNorm(in_channels=6, scale=False), (2, 6, 5), 6),
    'BatchNorm, no beta': (lambda: nn.BatchNorm(in_channels=6, center=False), (2, 6, 5, 3), 6),
    'BatchNormReLU': (lambda: nn.BatchNormReLU(in_channels=6), (2, 6, 5, 3), 6),
    'SyncBatchNorm': (lambda: gluon.contrib.nn.SyncBatchNorm(in_channels=6, num_devices=1), (2, 6, 5, 3), 6),
    'block': (lambda: nn.Conv1D(6, 3, in_channels=4), (2, 4, 9), 1),
    'group': (lambda: nn.Conv2D(6, 3, in_channels=4, groups=2), (2, 4, 5, 5), 2),
}


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('training', [True, False], ids=['training', 'inference'])
@pytest.mark.parametrize('name', LAYERS)
def test_layers(name, training, fill, batch):
    make, shape, size = LAYERS[name]
    plain, scaled = fill(make()), fill(make())
    kind = 'neuron' if size == 6 else name
    scale_layer(scaled, kind, size, scalable(scaled))
    value = np.array([0.5, -2, 0, 1, 1.5, 0.25])[:size] if 'ReLU' not in name else np.array([0.5, 2, 0, 1, 1.5, 0.25])
    scaled.factor.set_data(mx.nd.array(value))
    x = batch(*shape)
    with autograd.record(train_mode=training):
        expected, found = plain(x), scaled(x)
    found.backward()
    last = name == 'Dense, not flat'
    each = np.repeat(value, 6 // size).reshape([-1] if last else [-1] + [1] * (expected.ndim - 2))
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy() * each, rtol=1e-5, atol=1e-5)
    assert isinstance(scaled, (type(plain), Scaled)) and type(scaled).__name__ == f'Scaled{type(plain).__name__}'


@pytest.mark.parametrize('when', ['before', 'after'])
def test_parameters_are_saved_and_loaded(when, tmp_path, fill, batch):
    first, second = residual_v1(), residual_v1()
    for net in (first, second):
        sss.add_factors(net, input_shape=SHAPE, log=None, share=True)
        if when == 'after':
            net.initialize()
    ready(first, fill)
    for factor in sss.scaling_factors(first):
        factor.parameter.set_data(mx.nd.array(np.linspace(-1, 1, factor.parameter.shape[0])))
    first.save_parameters(str(tmp_path / 'net.params'))
    second.load_parameters(str(tmp_path / 'net.params'))
    x = batch(*SHAPE)
    assert np.array_equal(first(x).asnumpy(), second(x).asnumpy())


def test_layers_learn_their_shapes_and_keep_waiting_for_the_first_batch(batch):
    net = inverted()
    net.initialize()
    sss.add_factors(net, input_shape=SHAPE, log=None)
    assert net[2].body[4].gamma.shape == (12,) and net[0].weight.shape == (4, 0, 3, 3)
    net.hybridize()
    assert net(batch(3, 3, 16, 16)).shape == (3, 4)


def test_parameters_are_multiplied_not_activations():
    net = residual_v1()
    sss.add_factors(net, input_shape=SHAPE, log=None)
    program, plain = trace(net, SHAPE, values=False), trace(residual_v1(), SHAPE, values=False)
    before = sorted(node.op for node in plain.nodes() if not node.is_variable)
    assert sorted(node.op for node in fold(program).nodes() if not node.is_variable) == before
    extra = [node.op for node in program.nodes() if not node.is_variable]
    assert len(extra) == len(before) + 2 * 5        # gamma and beta of five norms


def test_a_network_on_two_devices(batch):
    net = chain(conv(4), nn.BatchNorm(), 'relu', conv(3))
    devices = [mx.cpu(0), mx.cpu(1)]
    net.initialize(ctx=devices)
    for device in devices:
        net(batch(*SHAPE).as_in_context(device))
    sss.add_factors(net, input_shape=SHAPE, log=None)
    assert net[1].factor.list_ctx() == devices
    assert all(net(batch(*SHAPE).as_in_context(device)).shape == (2, 3, 8, 8) for device in devices)


def test_scaled_norms_in_a_constructor_that_does_not_know_the_channels(fill):
    def build(norm):
        return head(conv(4), norm(), 'relu', conv(5), norm(gamma_initializer='zeros'), 'relu')
    for hybrid in (False, True):
        net = build(sss.ScaledBatchNorm)
        net.initialize()
        if hybrid:
            net.hybridize()
        net(mx.nd.zeros(SHAPE))
        assert [factor.values().tolist() for factor in sss.scaling_factors(net)] == [[1] * 4, [1] * 5]
        fill(net)[1].factor.set_data(mx.nd.array([1, 0, 0, 1]))
        small = sss.compact(net, SHAPE)
        assert small.structure.layers['0']['after'] == [2, 3] and small.max_difference < 1e-5
