import itertools

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from sss_gluon.errors import SSSError
from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D, ScalingFactor, factor_values, scaling_factors
from sss_gluon.models import get_model

HYBRID = {'eager': None, 'hybrid': {}, 'static': dict(static_alloc=True, static_shape=True)}
FACTORS = [0.0, -0.7, 1.0, 0.3, 0.0, 1.0, 1.7, -1.0]       # a layer takes as many as it needs

# (kind, number of factors, arguments of a convolution from 6 to 12 channels)
CONVOLUTIONS = {
    'block': ('block', 1, dict(kernel_size=3, padding=1, use_bias=False)),
    'block, bias, stride': ('block', 1, dict(kernel_size=3, padding=1, strides=2)),
    'block, rectangular': ('block', 1, dict(kernel_size=(1, 3), strides=(2, 1), padding=(0, 1))),
    'neuron': ('neuron', 12, dict(kernel_size=1, use_bias=False)),
    'neuron, bias, dilation': ('neuron', 12, dict(kernel_size=3, padding=2, dilation=2)),
    'neuron, grouped': ('neuron', 12, dict(kernel_size=3, groups=3)),
    'neurons of 4': ('neuron', 3, dict(kernel_size=3, neuron_block=4)),
    'neurons of 8, which does not divide 12': ('neuron', 3, dict(kernel_size=3, use_bias=False, neuron_block=8)),
    'group': ('group', 3, dict(kernel_size=3, padding=1, groups=3, use_bias=False)),
    'group, bias, stride': ('group', 2, dict(kernel_size=3, strides=2, groups=2)),
    'group, depthwise': ('group', 6, dict(kernel_size=3, groups=6)),
    'neuron, activation': ('neuron', 12, dict(kernel_size=3, activation='relu')),
}

# (kind, number of factors, arguments of a batch normalisation of 6 channels)
NORMS = {
    'neuron': ('neuron', 6, {}),
    'neuron, other constants': ('neuron', 6, dict(epsilon=1e-2, momentum=0.5)),
    'neuron, global statistics': ('neuron', 6, dict(use_global_stats=True)),
    'neuron, no beta': ('neuron', 6, dict(center=False)),
    'neuron, no gamma': ('neuron', 6, dict(scale=False)),
    'neurons of 3': ('neuron', 2, dict(neuron_block=3)),
    'neurons of 5, which shares no divisor with 6': ('neuron', 6, dict(neuron_block=5)),
    'group': ('group', 3, dict(groups=3)),
    'group of one': ('group', 6, dict(groups=6)),
    'block': ('block', 1, {}),
}


class ActivationScaled(nn.HybridBlock):
    """The definition: a plain layer whose output is multiplied, channel by channel, by the repeated factor."""

    def __init__(self, layer, size, channels, activation):
        super().__init__()
        self.layer, self.repeats = layer, channels // size
        self.activation = nn.Activation(activation) if activation else None
        self.factor = self.params.get('factor', shape=(size,))

    def hybrid_forward(self, F, x, factor):
        y = F.broadcast_mul(self.layer(x), F.reshape(F.repeat(factor, repeats=self.repeats), (1, -1, 1, 1)))
        return self.activation(y) if self.activation else y


def pair(scaled, plain, size, channels, factors, activation=None):
    """The folded layer and its activation-scaled form with the same random parameters."""
    reference = ActivationScaled(plain, size, channels, activation)
    random = np.random.RandomState(3)
    for net in (scaled, reference):
        net.initialize()
    for name, parameter in plain._collect_params_with_prefix().items():
        value = random.standard_normal(parameter.shape)
        if name == 'beta' and parameter.grad_req == 'null':     # center=False
            value = np.zeros(parameter.shape)
        value = mx.nd.array(np.abs(value) if name == 'running_var' else value)
        parameter.set_data(value)
        getattr(scaled, name).set_data(value)
    for net in (scaled, reference):
        net.factor.set_data(mx.nd.array(factors))
    return scaled, reference


def run(net, layer, hybrid, training, batches):
    """{name: outputs, gradients and statistics} of some forward and backward passes."""
    if hybrid is not None:
        net.hybridize(**hybrid)
    found = {}
    for step, (x, head) in enumerate(batches):
        x = x.copy()
        x.attach_grad()
        with autograd.record(train_mode=training):
            y = net(x)
        y.backward(head)
        mx.nd.waitall()
        found[f'output {step}'], found[f'gradient of data {step}'] = y.asnumpy(), x.grad.asnumpy()
        for name, parameter in dict(layer._collect_params_with_prefix(), factor=net.factor).items():
            if parameter.grad_req != 'null':
                found[f'gradient of {name} {step}'] = parameter.grad().asnumpy()
            elif name != 'beta':
                found[f'{name} {step}'] = parameter.data().asnumpy()
    return found


def assert_same(scaled, reference, plain, hybrid, training, shape):
    random = np.random.RandomState(4)
    with autograd.pause(train_mode=training):
        out = reference(mx.nd.zeros(shape)).shape
    batches = [(mx.nd.array(random.standard_normal(shape)), mx.nd.array(random.standard_normal(out)))
               for _ in range(2)]
    for name, parameter in plain._collect_params_with_prefix().items():     # the call above may have moved statistics
        getattr(scaled, name).set_data(parameter.data())
    found, expected = run(scaled, scaled, hybrid, training, batches), run(reference, plain, None, training, batches)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * max(1, np.abs(value).max()), err_msg=name)
    return found


@pytest.mark.parametrize('hybrid', HYBRID)
@pytest.mark.parametrize('case', CONVOLUTIONS)
def test_convolution_equals_activation_scaling(case, hybrid):
    kind, size, arguments = CONVOLUTIONS[case]
    own = ('activation', 'neuron_block')
    plain = nn.Conv2D(12, in_channels=6, **{k: v for k, v in arguments.items() if k not in own})
    folded = ScaledConv2D(12, kind=kind, in_channels=6, **arguments)
    factors = np.resize(FACTORS, size) if size > 1 else [-0.7]
    scaled, reference = pair(folded, plain, size, 12, factors, arguments.get('activation'))
    found = assert_same(scaled, reference, plain, HYBRID[hybrid], True, (2, 6, 7, 6))
    expected = {'weight', 'factor'} | ({'bias'} if arguments.get('use_bias', True) else set())
    assert {name.split()[2] for name in found if 'gradient' in name} == expected | {'data'}


@pytest.mark.parametrize('hybrid', HYBRID)
@pytest.mark.parametrize('training', [True, False], ids=['training', 'inference'])
@pytest.mark.parametrize('case', NORMS)
def test_batch_norm_equals_activation_scaling(case, training, hybrid):
    kind, size, arguments = NORMS[case]
    plain = nn.BatchNorm(in_channels=6, **{k: v for k, v in arguments.items() if k not in ('groups', 'neuron_block')})
    factors = np.resize(FACTORS, size) if size > 1 else [-0.7]
    scaled, reference = pair(ScaledBatchNorm(in_channels=6, kind=kind, **arguments), plain, size, 6, factors)
    before = plain.running_mean.data().asnumpy()
    found = assert_same(scaled, reference, plain, HYBRID[hybrid], training, (4, 6, 5, 3))
    moves = training and not arguments.get('use_global_stats')
    assert (np.abs(found['running_mean 1'] - before).max() > 0.1) == moves


@pytest.mark.parametrize('value', [0.0, 1.0, -1.0, 0.25])
@pytest.mark.parametrize('make, plain', [
    (lambda: ScaledConv2D(12, 3, in_channels=6), lambda: nn.Conv2D(12, 3, in_channels=6)),
    (lambda: ScaledBatchNorm(6, 'block'), lambda: nn.BatchNorm(in_channels=6)),
], ids=['convolution', 'norm'])
def test_one_factor_of_every_sign(make, plain, value):
    layer, plain = make(), plain()
    scaled, reference = pair(layer, plain, 1, 12 if isinstance(layer, nn.Conv2D) else 6, [value])
    found = assert_same(scaled, reference, plain, HYBRID['static'], True, (2, 6, 7, 6))
    assert (found['output 0'] == 0).all() == (value == 0)
    assert np.abs(found['gradient of factor 0']).min() > 0         # a zero factor can return


def test_channel_axis_of_batch_norm():
    scaled, plain = ScaledBatchNorm(4, 'group', 2, axis=3), nn.BatchNorm(in_channels=4, axis=3)
    for net in (scaled, plain):
        net.initialize()
    scaled.factor.set_data(mx.nd.array([2, -3]))
    x = mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 5, 4)))
    np.testing.assert_allclose(scaled(x).asnumpy(), plain(x).asnumpy() * [2, 2, -3, -3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('make, kind, shape', [
    (lambda: ScaledConv2D(8, 3, in_channels=4), 'block', (1,)),
    (lambda: ScaledConv2D(8, 3, in_channels=4, kind='neuron'), 'neuron', (8,)),
    (lambda: ScaledConv2D(8, 3, in_channels=4, groups=2, kind='group'), 'group', (2,)),
    (lambda: ScaledBatchNorm(8), 'neuron', (8,)),
    (lambda: ScaledBatchNorm(8, 'group', 4), 'group', (4,)),
    (lambda: ScaledBatchNorm(8, 'block'), 'block', (1,)),
])
def test_new_factor(make, kind, shape):
    layer = make()
    layer.initialize(mx.init.Xavier())
    factor, = scaling_factors(layer)
    assert factor == ScalingFactor('', kind, layer.factor)
    assert factor.parameter.wd_mult == 0 and factor.parameter.lr_mult == 1
    assert factor.values().dtype == np.float32 and factor.values().tolist() == np.ones(shape).tolist()


@pytest.mark.parametrize('make, others', [
    (lambda: ScaledConv2D(5, 3, in_channels=4, kind='neuron'), 'float16'),
    (lambda: ScaledBatchNorm(5), 'float32'),        # BatchNorm keeps its parameters in float32
], ids=['convolution', 'norm'])
@pytest.mark.parametrize('initialised', [True, False])
def test_factor_stays_float32(make, others, initialised):
    layer = make()
    values = np.array([0.1, 1e-8, 0, -1 / 3, 70000], 'float32')     # float16 represents none of them but 0
    if initialised:
        layer.initialize()
        layer.factor.set_data(mx.nd.array(values))
    net = nn.HybridSequential()
    net.add(layer)
    net.hybridize()
    net.cast('float16')
    if not initialised:
        layer.initialize()
        layer.factor.set_data(mx.nd.array(values))
    assert layer.factor.data().dtype == layer.factor.grad().dtype == np.float32
    assert factor_values(net)['0'].tolist() == values.tolist()
    assert {np.dtype(p.dtype).name for p in net.collect_params('.*(?<!factor)$').values()} == {others}
    arguments, outputs, _ = net(mx.sym.var('data')).infer_type(data='float16')
    assert outputs == [np.float16]      # outputs have the type of the input


def test_factors_are_listed_in_forward_order_and_named_alike():
    first, second = (scaling_factors(get_model('cifar_resnext20', factors=('group', 'block'))) for _ in range(2))
    names = [f'stage{stage}.{block}.{layer}' for stage, block, layer
             in itertools.product((1, 2, 3), (0, 1), ('norm2', 'norm3'))]
    assert [factor.name for factor in first] == [factor.name for factor in second] == names
    assert [factor.kind for factor in first] == ['group', 'block'] * 6
    assert first[0].parameter.name != second[0].parameter.name      # Gluon's own names differ


def test_shared_factors_are_listed_once():
    net, layer = nn.HybridSequential(), ScaledConv2D(4, 1, in_channels=4)
    twin = ScaledConv2D(4, 1, in_channels=4, params=layer.params)
    net.add(layer, layer, twin, ScaledConv2D(4, 1, in_channels=4))
    factors = scaling_factors(net)
    assert [factor.name for factor in factors] == ['0', '3']
    assert factors[0].parameter is layer.factor is twin.factor


def test_values_are_copies():
    layer = ScaledBatchNorm(3)
    layer.initialize()
    values = factor_values(layer)
    values[''][:] = 7
    assert layer.factor.data().asnumpy().tolist() == [1, 1, 1]


def test_network_without_factors():
    assert scaling_factors(get_model('cifar_resnet20', factors=())) == []


@pytest.mark.parametrize('make, message', [
    (lambda: ScaledConv2D(4, 3, in_channels=2, kind='channel'),
     "ScaledConv2D.*'channel'.*neuron, group, block"),
    (lambda: ScaledConv2D(4, 3), 'ScaledConv2D.*in_channels'),
    (lambda: ScaledBatchNorm(kind='group', groups=2), 'ScaledBatchNorm.*in_channels'),
    (lambda: ScaledBatchNorm(neuron_block=8), 'ScaledBatchNorm.*in_channels'),
    (lambda: ScaledBatchNorm(4, neuron_block=0), 'neuron_block=0'),
    (lambda: ScaledConv2D(4, 3, in_channels=2, kind='neuron', neuron_block=1.5), 'neuron_block=1.5'),
    (lambda: ScaledBatchNorm(4, 'group'), '4 channels.*groups=None'),
    (lambda: ScaledBatchNorm(4, 'group', 3), '4 channels.*groups=3'),
])
def test_errors(make, message):
    with pytest.raises(SSSError, match=message):
        make()
