"""BatchNorm folded into the layer before it: by hand, in all networks, and where it must stay."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon.graph.batchnorm import fold_batchnorm
from sss_gluon.graph.fold import fold
from sss_gluon.graph.ir import Entry, Program, from_symbol, to_json
from sss_gluon.graph.prune import prune_graph
from sss_gluon.graph.trace import trace
from sss_gluon.models import ARCHITECTURES, get_model

CHANNELS = np.array([0.5, 2, -1, 0], 'float32')         # gamma
BETA = np.array([1, 0, 3, -2], 'float32')
MEAN = np.array([0, 1, -2, 4], 'float32')
VARIANCE = np.array([0.25, 4, 1, 9], 'float32')         # with eps 0 its roots are 0.5, 2, 1, 3
SCALE = np.array([1, 1, -1, 0])                         # gamma / root
FIXED = np.array([2, 0.5, 1, 1 / 3])                    # 1 / root


class Pair(nn.HybridBlock):
    """A layer and a BatchNorm, and a function of both of their outputs."""

    def __init__(self, layer, use=None, **norm):
        super().__init__()
        self.use = use
        with self.name_scope():
            self.layer = layer
            self.norm = nn.BatchNorm(in_channels=4, **dict(dict(epsilon=0), **norm))

    def hybrid_forward(self, F, x):
        y = self.layer(x)
        return self.use(F, x, y, self.norm(y)) if self.use else self.norm(y)


def program(layer, shape, fill, use=None, **norm):
    """Traced, with the statistics above."""
    net = fill(Pair(layer, use, **norm))
    for name, value in dict(gamma=CHANNELS, beta=BETA, running_mean=MEAN, running_var=VARIANCE).items():
        getattr(net.norm, name).set_data(mx.nd.array(value))
    return fold(trace(net, shape))


def operators(program):
    return [node.op for node in program.nodes() if not node.is_variable]


def same_outputs(before, after):
    x = np.random.RandomState(0).standard_normal(before.input_shape).astype('float32')
    expected, found = before.run(x), after.run(x)
    assert len(expected) == len(found)
    for a, b in zip(expected, found):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())


LAYERS = {
    'convolution': (lambda bias: nn.Conv2D(4, 3, in_channels=6, use_bias=bias), (2, 6, 5, 5), 0),
    'grouped': (lambda bias: nn.Conv2D(4, 3, in_channels=6, groups=2, use_bias=bias), (2, 6, 5, 5), 0),
    'one axis': (lambda bias: nn.Conv1D(4, 3, in_channels=6, use_bias=bias), (2, 6, 5), 0),
    'transposed': (lambda bias: nn.Conv2DTranspose(4, 3, in_channels=6, use_bias=bias), (2, 6, 5, 5), 1),
    'dense': (lambda bias: nn.Dense(4, in_units=6, use_bias=bias), (2, 6), 0),
}


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('scale', [True, False])
@pytest.mark.parametrize('name', LAYERS)
def test_weights_by_hand(name, scale, bias, fill):
    make, shape, axis = LAYERS[name]
    before = program(make(bias), shape, fill, scale=scale)
    after = fold_batchnorm(before)
    assert len(operators(after)) == 1 and set(after.values) == {'layer_weight', 'layer_bias'}
    factor = SCALE if scale else FIXED
    shape = [1] * before.values['layer_weight'].ndim
    shape[axis] = 4
    np.testing.assert_allclose(after.values['layer_weight'], before.values['layer_weight'] * factor.reshape(shape),
                               rtol=1e-6, atol=0)
    old = before.values['layer_bias'].astype('float64') if bias else 0
    np.testing.assert_allclose(after.values['layer_bias'], BETA + (old - MEAN) * factor, rtol=1e-6, atol=1e-7)
    assert {value.dtype for value in after.values.values()} == {np.dtype('float32')}
    same_outputs(before, after)


def test_groups_of_a_transposed_convolution(fill):
    """The weight is (6 inputs, 2 outputs per group): inputs 0 to 2 give outputs 0 and 1, the others 2 and 3."""
    before = program(nn.Conv2DTranspose(4, 3, in_channels=6, groups=2), (2, 6, 5, 5), fill)
    after = fold_batchnorm(before)
    factor = np.array([[1, 1]] * 3 + [[-1, 0]] * 3).reshape(6, 2, 1, 1)
    np.testing.assert_array_equal(after.values['layer_weight'], before.values['layer_weight'] * factor)
    same_outputs(before, after)


def of_symbol(symbol, shape, **values):
    arrays = {name: np.array(value, 'float32') for name, value in values.items()}
    return Program(from_symbol(symbol), arrays, {'data': shape})


def norm(x, name, **attributes):
    return mx.sym.BatchNorm(x, *(mx.sym.var(f'{name}_{part}') for part in ('gamma', 'beta', 'mean', 'variance')),
                            name=name, **attributes)


def test_in_float64():
    """Exact in float32, even if means and variances of very different sizes cancel."""
    random = np.random.RandomState(0)
    size = 10.0 ** random.uniform(-3, 3, (4, 200))
    values = dict(weight=random.standard_normal((200, 1, 1, 1)), bias=size[0], norm_gamma=random.standard_normal(200),
                  norm_beta=-size[1], norm_mean=size[0] + size[2], norm_variance=size[3])
    layer = mx.sym.Convolution(mx.sym.var('data'), mx.sym.var('weight'), mx.sym.var('bias'), kernel=(1, 1),
                               num_filter=200)
    before = of_symbol(norm(layer, 'norm', eps=1e-5, fix_gamma=False, use_global_stats=True), (1, 1, 2, 2), **values)
    after = fold_batchnorm(before)
    weight, bias, gamma, beta, mean, variance = (before.values[name].astype('float64').ravel() for name in values)
    scale = gamma / np.sqrt(variance + 1e-5)
    for name, expected in dict(weight=weight * scale, bias=beta + (bias - mean) * scale).items():
        found = after.values[name].ravel()
        assert (np.abs(found - expected) <= np.spacing(np.abs(found)) / 2 * 1.001).all()


# BatchNorms that stay: those behind an addition, a pooling or a concatenation. The first one of a network whose stem is
# a bare convolution is folded, because the shortcut of the first block starts behind it.
LEFT = {'cifar_vgg16': 0, 'cifar_resnet20': 4, 'cifar_resnet164': 4, 'cifar_resnext20': 0, 'cifar_resnext164': 0,
        'vgg16': 0, 'resnet50': 6, 'resnext50_32x4d': 0, 'peleenet': 0}


@pytest.mark.parametrize('cut', [False, True], ids=['dense', 'compact'])
@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name == 'vgg16' else ())
                                  for name in LEFT])
def test_all_networks(name, cut, narrow, fill, zero):
    options, size = narrow[name]
    net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, **options)), chance=0.3 if cut else 0)
    before = fold(trace(net, (2, 3, size, size)))
    if cut:
        before = prune_graph(before)[0]
    text, after = to_json(before.outputs), fold_batchnorm(before)
    assert to_json(before.outputs) == text
    kept = operators(after).count('BatchNorm')
    assert kept == LEFT[name] if not cut else kept <= LEFT[name] < operators(before).count('BatchNorm')
    assert [op for op in operators(after) if op != 'BatchNorm'] == [op for op in operators(before) if op != 'BatchNorm']
    assert operators(fold_batchnorm(after)) == operators(after)
    same_outputs(before, after)


NOT_FOLDED = {
    'the layer is read by something else': (nn.Conv2D, lambda F, x, y, z: z + y, {}),
    'the layer is an output': (nn.Conv2D, lambda F, x, y, z: (y, z), {}),
    'over the height': (nn.Conv2D, None, dict(axis=2)),
    'over the last of three axes': (lambda *_, in_channels: nn.Dense(4, flatten=False, in_units=4), None, dict(axis=1)),
}


@pytest.mark.parametrize('case', NOT_FOLDED)
def test_what_is_not_folded(case, fill):
    make, use, norm = NOT_FOLDED[case]
    before = program(make(4, 3, in_channels=6), (2, 4, 4) if 'last' in case else (2, 6, 6, 6), fill, use, **norm)
    after = fold_batchnorm(before)
    assert after is before and 'BatchNorm' in operators(after)


def test_mean_that_is_an_output(fill):
    before = program(nn.Conv2D(4, 3, in_channels=6), (2, 6, 5, 5), fill)
    node = before.outputs[0].node
    node.attrs['output_mean_var'] = 'True'
    before.outputs.append(Entry(node, 1))
    assert fold_batchnorm(before) is before


def test_after_an_activation_it_stays(fill):
    before = program(nn.Conv2D(4, 3, in_channels=6, activation='relu'), (2, 6, 5, 5), fill)
    assert fold_batchnorm(before) is before


@pytest.mark.parametrize('computed', ['weight', 'gamma'])
def test_parameters_that_depend_on_the_input(computed):
    data, values = mx.sym.var('data'), dict(weight=np.ones((4, 3, 1, 1)), norm_gamma=CHANNELS, norm_beta=BETA,
                                            norm_mean=MEAN, norm_variance=VARIANCE)
    weight, gamma = mx.sym.var('weight'), mx.sym.var('norm_gamma')
    if computed == 'weight':
        weight = mx.sym.broadcast_mul(weight, mx.sym.mean(data))
    else:
        gamma = mx.sym.broadcast_mul(gamma, mx.sym.mean(data))
    layer = mx.sym.Convolution(data, weight, kernel=(1, 1), num_filter=4, no_bias=True)
    before = of_symbol(mx.sym.BatchNorm(layer, gamma, *(mx.sym.var(f'norm_{part}') for part in
                                                        ('beta', 'mean', 'variance'))), (1, 3, 5, 5), **values)
    assert fold_batchnorm(before) is before


def test_over_the_last_of_three_axes_of_a_dense_layer(fill):
    before = program(nn.Dense(4, flatten=False, in_units=6), (2, 5, 6), fill, axis=-1)
    after = fold_batchnorm(before)
    assert operators(after) == ['FullyConnected']
    same_outputs(before, after)


def test_two_in_a_row():
    """4·(2·(3x + 1) + 1) + 1 = 24x + 13."""
    layer = mx.sym.Convolution(mx.sym.var('data'), mx.sym.var('weight'), mx.sym.var('bias'), kernel=(1, 1),
                               num_filter=1)
    one = dict(beta=[1], mean=[0], variance=[1])
    values = {f'{name}_{part}': value for name in ('first', 'second') for part, value in one.items()}
    before = of_symbol(norm(norm(layer, 'first', eps=0, fix_gamma=False), 'second', eps=0, fix_gamma=False),
                       (1, 1, 2, 2), weight=[[[[3]]]], bias=[1], first_gamma=[2], second_gamma=[4], **values)
    after = fold_batchnorm(before)
    assert operators(after) == ['Convolution']
    assert (after.values['weight'].item(), after.values['bias'].item()) == (24, 13)
    same_outputs(before, after)


def test_a_layer_that_is_called_twice(fill):
    """One weight, two BatchNorms: it becomes two weights."""
    class Twice(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.layer = nn.Conv2D(4, 3, padding=1, in_channels=4)
                self.one, self.two = nn.BatchNorm(in_channels=4), nn.BatchNorm(in_channels=4)

        def hybrid_forward(self, F, x):
            return self.two(self.layer(F.relu(self.one(self.layer(x)))))

    before = fold(trace(fill(Twice()), (2, 4, 5, 5)))
    after = fold_batchnorm(before)
    assert operators(after).count('BatchNorm') == 0 and len(after.values) == 4 and len(before.values) == 10
    same_outputs(before, after)
