import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D
from sss_gluon.graph.fold import fold
from sss_gluon.graph.trace import trace
from sss_gluon.models import ARCHITECTURES, get_model
from sss_gluon.structures import compact


def operators(program):
    return [node.op for node in program.nodes() if not node.is_variable]


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_factors_disappear(name, narrow, fill, zero, batch):
    """The result has the operators and names of the network without factors, and the same outputs."""
    options, size = narrow[name]
    net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, **options)))
    x = batch(2, 3, size, size)
    folded = fold(trace(net, x.shape))
    plain = trace(get_model(name, factors=(), **options), x.shape, values=False)
    assert operators(folded) == operators(plain)
    assert {key: value.shape for key, value in folded.values.items()} \
        == {key: value.shape for key, value in plain.values.items()}
    assert [node.name for node in folded.nodes() if node.op == 'Convolution'] \
        == [node.name for node in plain.nodes() if node.op == 'Convolution']
    expected = net(x).asnumpy()
    np.testing.assert_allclose(folded.run(x.asnumpy())[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('layer, values', [
    (lambda: ScaledConv2D(4, 3, in_channels=2, kind='neuron'), [2, 0, -1, 0.5]),
    (lambda: ScaledConv2D(4, 3, in_channels=2, groups=2, kind='group'), [3, -0.5]),
    (lambda: ScaledConv2D(4, 3, in_channels=2), [0.3]),
], ids=['neuron', 'group', 'block'])
def test_folded_weights_of_a_convolution(layer, values, fill):
    layer = fill(layer())
    layer.factor.set_data(mx.nd.array(values))
    folded = fold(trace(layer, (1, 2, 5, 5)))
    scale = np.repeat(np.float32(values), 4 // len(values))
    assert set(folded.values) == {'weight', 'bias'} and operators(folded) == ['Convolution']
    np.testing.assert_array_equal(folded.values['weight'], layer.weight.data().asnumpy() * scale.reshape(-1, 1, 1, 1))
    np.testing.assert_array_equal(folded.values['bias'], layer.bias.data().asnumpy() * scale)


def test_folded_parameters_of_a_norm(fill):
    """Factor and gamma have the same shape: the folded parameter is named gamma."""
    layer = fill(ScaledBatchNorm(4))
    layer.factor.set_data(mx.nd.array([2, 0, -1, 0.5]))
    folded = fold(trace(layer, (1, 4, 5, 5)))
    assert set(folded.values) == {'gamma', 'beta', 'running_mean', 'running_var'} and operators(folded) == ['BatchNorm']
    for name in ('gamma', 'beta'):
        np.testing.assert_array_equal(folded.values[name], getattr(layer, name).data().asnumpy() * [2, 0, -1, 0.5])
    np.testing.assert_array_equal(folded.values['running_mean'], layer.running_mean.data().asnumpy())


def test_multipliers_and_initializers_are_those_of_the_weight():
    """The weight decay of a factor, 0, is not inherited by the weight that it is folded into."""
    net = get_model('cifar_vgg16')
    net.initialize()
    net.norm1_1.gamma.lr_mult, net.norm1_1.beta.wd_mult = 0.25, 0
    attributes = {node.name: node.attrs for node in fold(trace(net, (1, 3, 32, 32))).nodes() if node.is_variable}
    assert {key: attributes['norm1_1_gamma'][key] for key in ('__lr_mult__', '__wd_mult__', '__grad_req__')} \
        == {'__lr_mult__': '0.25', '__wd_mult__': '1.0', '__grad_req__': 'write'}
    assert attributes['norm1_1_beta']['__wd_mult__'] == '0'
    assert 'ones' in attributes['norm1_1_gamma']['__init__']
    assert 'xavier' in attributes['conv1_1_weight']['__init__']


def test_nothing_to_fold(fill):
    program = trace(fill(get_model('cifar_resnet20', factors=(), depths=(1,), widths=(4,))), (1, 3, 8, 8))
    assert fold(program) is program


class Twice(nn.HybridBlock):
    """One weight used twice: scaled by two factors, or scaled once and once not."""

    def __init__(self, plain):
        super().__init__()
        self.plain = plain
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(3, 3, 1, 1))
            self.first = self.params.get('first', shape=(1,))
            self.second = self.params.get('second', shape=(1,))

    def hybrid_forward(self, F, x, weight, first, second):
        arguments = dict(num_filter=3, kernel=(1, 1), no_bias=True)
        weights = [F.broadcast_mul(weight, F.reshape(factor, (1, 1, 1, 1))) for factor in (first, second)]
        if self.plain:
            weights[0] = weight
        return F.concat(*[F.Convolution(x, w, **arguments) for w in weights])


@pytest.mark.parametrize('plain', [True, False])
def test_a_weight_that_is_used_twice(plain, fill, batch, difference):
    net = fill(Twice(plain))
    net.first.set_data(mx.nd.array([2]))
    net.second.set_data(mx.nd.array([-3]))
    x, weight = batch(1, 3, 4, 4), net.weight.data().asnumpy()
    folded = fold(trace(net, x.shape))
    assert set(folded.values) == {'weight', 'weight_1'}
    np.testing.assert_array_equal(folded.values['weight'], weight * (1 if plain else 2))
    np.testing.assert_array_equal(folded.values['weight_1'], weight * -3)
    assert difference(net(x), compact(net, x.shape).net(x)) < 1e-6


class Positions(nn.HybridBlock):
    """x + s · (0, 1, 2), or x + (0, 1, 2): numbers that come from no parameter."""

    def __init__(self, scaled):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(3, 1, in_channels=3, use_bias=False)
            if scaled:
                self.scale = self.params.get('scale', shape=(1, 3, 1, 1))

    def hybrid_forward(self, F, x, scale=None):
        numbers = F.reshape(F.arange(3), (1, 3, 1, 1))
        return F.broadcast_add(self.conv(x), numbers if scale is None else numbers * scale)


@pytest.mark.parametrize('scaled', [True, False])
def test_what_depends_on_no_parameter_does_not_become_one(scaled, fill, batch, difference):
    net, x = fill(Positions(scaled)), batch(2, 3, 4, 4)
    small = compact(net, x.shape)
    assert difference(net(x), small.net(x)) < 1e-6
    assert ('_arange' in operators(small.program)) != scaled
    assert set(small.net.collect_params()) == {'conv_weight'} | ({'scale'} if scaled else set())


def test_random_numbers_are_not_folded(fill):
    """Dropout on a weight draws new numbers in every training step."""
    class DroppedWeight(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.weight = self.params.get('weight', shape=(4, 3))

        def hybrid_forward(self, F, x, weight):
            return F.FullyConnected(x, F.Dropout(weight * 2, p=0.5), num_hidden=4, no_bias=True)

    net = fill(DroppedWeight())
    folded = fold(trace(net, (1, 3)))
    assert operators(folded) == ['Dropout', 'FullyConnected']
    np.testing.assert_array_equal(folded.values['weight'], 2 * net.weight.data().asnumpy())
