"""Pruning of the nine networks: the same outputs and gradients, the right sizes, plain operators."""
import json
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from sss_gluon.errors import SSSError
from sss_gluon.factors import ScaledBatchNorm, ScaledConv2D, scaling_factors
from sss_gluon.graph import count
from sss_gluon.graph.concat import is_whole_slice
from sss_gluon.graph.fold import fold
from sss_gluon.graph.ir import to_json
from sss_gluon.graph.operators import RULES, Channelwise
from sss_gluon.graph.trace import trace
from sss_gluon.models import ARCHITECTURES, get_model
from sss_gluon.structures import compact, remaining

SIZES = {       # height and width of the input: as small as the network allows
    'cifar_vgg16': 32, 'cifar_resnet20': 16, 'cifar_resnet164': 16, 'cifar_resnext20': 16, 'cifar_resnext164': 16,
    'vgg16': 224, 'resnet50': 64, 'resnext50_32x4d': 64, 'peleenet': 64,
}


def operators(program):
    """Without the slices behind concatenations of odd widths, see test_concat.py."""
    return [node.op for node in program.nodes() if not node.is_variable and not is_whole_slice(node)]


def check(net, shape, difference, batch, constants=0):
    """Compact a network, and check all that is true of every compact network.

    ``constants``: how often a constant is added where a branch was. Apart from that there is no operator that the
    network without factors (which is what folding leaves, see test_fold.py) has not.
    """
    small = compact(net, shape)
    x = batch(*shape)
    assert difference(net(x), small.net(x)) < 1e-4
    assert small.max_difference < 1e-4 and small.unhandled == []
    assert small.before == count(net, shape) and small.after == count(small.net, shape)
    assert not [name for name in small.net.collect_params() if 'factor' in name]

    before, after = operators(fold(trace(net, shape, values=False))), operators(small.program)
    assert after.count('broadcast_add') == constants and set(after) <= set(before) | {'broadcast_add'}
    assert len(after) <= len(before)
    again = compact(small.net, shape)
    assert again.after == again.before == small.after and again.max_difference < 1e-6
    assert json.loads(to_json(again.program.outputs)) == json.loads(to_json(small.program.outputs))
    for name, value in small.program.values.items():
        np.testing.assert_array_equal(again.program.values[name], value)
    return small


@pytest.mark.parametrize('name', SIZES)
def test_nothing_is_removed(name, narrow, fill, zero, difference, batch):
    """Without zeros it is the network without factors, layer by layer."""
    options, size = narrow[name]
    net = zero(fill(get_model(name, factors=ARCHITECTURES[name].offered, **options)), chance=0)
    shape = (2, 3, size, size)
    small = compact(net, shape)
    x = batch(*shape)
    assert difference(net(x), small.net(x)) < 1e-5
    plain = get_model(name, factors=(), **options)
    assert small.before == small.after == count(plain, shape)
    expected = {key.replace('.', '_'): p.shape for key, p in plain._collect_params_with_prefix().items()}
    assert {key: p.shape for key, p in small.net.collect_params().items()} == expected
    assert operators(small.program) == operators(trace(plain, shape, values=False))


@pytest.mark.parametrize('name', SIZES)
def test_everything_is_removed(name, narrow, fill, set_factors, difference, batch):
    options, size = narrow[name]
    net = fill(get_model(name, factors=ARCHITECTURES[name].offered, **options))
    set_factors(net, {factor.name: 0 for factor in scaling_factors(net)})
    small = check(net, (2, 3, size, size), difference, batch)
    assert small.after.params < small.before.params and small.after.macs < small.before.macs
    assert all(row['kept'] == [] for row in small.structure.factors.values())


# (network, factors at zero, remaining widths of layers: [outputs, inputs] or None, additions of a constant)
SHALLOW = {'cifar_resnet164': dict(depths=(1, 1, 2), widths=(8, 16, 24)), 'peleenet': dict(depths=(1, 2, 1, 1))}
SPECIAL = {
    'block': ('cifar_resnet20', ['stage1.1.conv2'], {'stage1_1_conv1': None, 'stage1_1_conv2': None}, 0),
    'first blocks of all stages': (
        'cifar_resnet20', ['stage1.0.conv2', 'stage2.0.conv2', 'stage3.0.conv2'],
        {'stage2_0_conv1': None, 'stage2_0_conv2': None, 'stage2_0_shortcut': [32, 16], 'stage3_0_shortcut': [64, 32]},
        0),
    'all blocks of a stage': (
        'cifar_resnet20', ['stage2.0.conv2', 'stage2.1.conv2', 'stage2.2.conv2'],
        {'stage2_0_conv1': None, 'stage2_0_shortcut': [32, 16], 'stage2_2_conv2': None, 'stage3_0_conv1': [64, 32]}, 0),
    'all blocks': ('cifar_resnet20', [f'stage{i}.{j}.conv2' for i in (1, 2, 3) for j in range(3)],
                   {'stem': [16, 3], 'stage1_0_shortcut': [16, 16], 'stage3_2_conv1': None, 'output': [10, 64]}, 0),
    'all neurons inside a block': ('cifar_resnet20', ['stage2.1.norm2'],
                                   {'stage2_1_conv1': None, 'stage2_1_conv2': None, 'stage2_2_conv1': [32, 32]}, 0),
    'block of bottlenecks': ('cifar_resnet164', ['stage3.0.conv3', 'stage3.1.conv3'],
                             {'stage3_0_conv2': None, 'stage3_0_shortcut': [24, 16], 'stage3_1_conv1': None}, 0),
    # norm3 still gives a constant per channel, through ReLU and a 1x1 convolution
    'neurons of a bottleneck': ('cifar_resnet164', ['stage3.1.norm2'],
                                {'stage3_1_conv1': None, 'stage3_1_conv2': None, 'stage3_1_conv3': None}, 1),
    'all groups of a block': ('cifar_resnext20', ['stage2.1.norm2'],
                              {'stage2_1_conv1': None, 'stage2_1_conv2': None, 'stage2_1_conv3': None}, 1),
    'all groups of first blocks': (
        'cifar_resnext20', ['stage1.0.norm2', 'stage2.0.norm2'],
        {'stage1_0_conv1': None, 'stage1_0_shortcut': [64, 64], 'stage2_0_shortcut': [128, 64]}, 2),
    'all groups and the block': ('cifar_resnext20', ['stage2.1.norm2', 'stage2.1.norm3'],
                                 {'stage2_1_conv1': None, 'stage2_1_conv3': None}, 0),
    'all blocks of a ResNeXt stage': ('cifar_resnext20', ['stage2.0.norm3', 'stage2.1.norm3'],
                                      {'stage2_0_conv1': None, 'stage2_1_conv3': None,
                                       'stage2_0_shortcut': [128, 64]}, 0),
    'a plain layer': ('cifar_vgg16', ['norm4_2'], {'conv4_1': [1, 1], 'conv4_2': [1, 1]}, 0),
    'every plain layer': ('cifar_vgg16', [f'norm{i}_{j}' for i in range(1, 6) for j in range(1, 3 + (i > 2))],
                          {'conv1_1': [1, 3], 'conv3_2': [1, 1], 'conv5_3': [1, 1], 'output': [10, 1]}, 0),
    'a branch of a dense layer': ('peleenet', ['stage2.0.branch1b.norm'],
                                  {'stage2_0_branch1a_conv': None, 'stage2_0_branch1b_conv': None,
                                   'stage2_1_branch1a_conv': [32, 64 + 16]}, 0),
    # the layer behind it is constant, and the biases of those that read it take that up
    'inside a branch of a dense layer': ('peleenet', ['stage2.0.branch2b.norm'],
                                         {'stage2_0_branch2a_conv': None, 'stage2_0_branch2c_conv': None,
                                          'stage2_1_branch1a_conv': [32, 64 + 16]}, 0),
    'both branches of a dense layer': ('peleenet', ['stage2.0.branch1b.norm', 'stage2.0.branch2c.norm'],
                                       {'stage2_0_branch1a_conv': None, 'stage2_0_branch2c_conv': None,
                                        'stage2_1_branch1a_conv': [32, 64]}, 0),
    'the stem': ('peleenet', ['stem.branch2.norm'],
                 {'stem_branch1_conv': None, 'stem_branch2_conv': None, 'stem_fuse_conv': [32, 32]}, 0),
}


@pytest.mark.parametrize('case', SPECIAL)
def test_special_subsets(case, fill, set_factors, difference, batch):
    name, zeros, left, constants = SPECIAL[case]
    net = get_model(name, factors=ARCHITECTURES[name].offered, **SHALLOW.get(name, {}))
    set_factors(fill(net), dict.fromkeys(zeros, 0))
    small = check(net, (2, 3, SIZES[name], SIZES[name]), difference, batch, constants)
    assert {layer: small.structure.layers[layer]['after'] for layer in left} == left


@pytest.mark.parametrize('name', ['cifar_resnext20', 'peleenet'])
def test_remaining(name, narrow, fill, zero):
    """Sizes before and after, without building the compact network."""
    options, size = narrow[name]
    net = zero(fill(get_model(name, **options)))
    small = compact(net, (1, 3, size, size))
    assert remaining(net, (1, 3, size, size)) == (small.before, small.after)


def test_a_negative_factor_is_kept(fill, set_factors, difference, batch):
    net = set_factors(fill(get_model('cifar_resnet20')), {'stage1.0.conv2': -0.5, 'stage1.1.conv2': 1e-30})
    small = check(net, (1, 3, 16, 16), difference, batch)
    assert small.after == small.before and small.structure.removed() == {'block': 0}


def test_structure_of_a_compaction(fill, set_factors):
    net = get_model('cifar_resnext20', factors='group', depths=(1,), widths=(8,), groups=4, classes=2, in_channels=1)
    set_factors(fill(net), {'stage1.0.norm2': [0, 1, 0, -1]})
    structure = compact(net, (3, 1, 5, 5)).structure
    assert structure.model == net.spec and structure.input_shape == (3, 1, 5, 5)
    assert structure.factors == {'stage1.0.norm2': {'kind': 'group', 'size': 4, 'kept': [1, 3]}}
    assert structure.layers == {
        'stem_0': {'before': [64, 1], 'after': [64, 1]},
        'stage1_0_conv1': {'before': [4, 64], 'after': [2, 64]},
        'stage1_0_conv2': {'before': [4, 1], 'after': [2, 1]},
        'stage1_0_conv3': {'before': [8, 4], 'after': [8, 2]},
        'stage1_0_shortcut': {'before': [8, 64], 'after': [8, 64]},
        'output': {'before': [2, 8], 'after': [2, 8]},
    }
    assert structure.removed() == {'group': 2}


def test_what_is_printed_of_a_compaction_is_a_line(fill, set_factors):
    net = set_factors(fill(get_model('cifar_resnet20')), {'stage1.0.conv2': 0})
    small = compact(net, (1, 3, 32, 32))
    text = repr(small)
    assert len(text) < 200 and '\n' not in text
    for word in (f'{small.before.macs:,}', f'{small.after.macs:,}', f'{small.after.params:,}', '1 of 9 blocks removed'):
        assert word in text
    assert len(repr(small.structure)) < 200 and 'cifar_resnet20' in repr(small.structure)
    plain = compact(fill(get_model('cifar_resnet20', factors=())), (1, 3, 32, 32))
    assert 'no factors' in repr(plain)


def test_the_network_is_not_changed(fill, zero):
    net = zero(fill(get_model('cifar_resnext20', factors=('group', 'block'))))
    before = {key: p.data().asnumpy().copy() for key, p in net._collect_params_with_prefix().items()}
    compact(net, (1, 3, 16, 16))
    for key, p in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(p.data().asnumpy(), before[key])


def test_hybridized_with_static_shapes_right_after_training(fill, zero, difference, batch):
    """The last training step is included, though nothing waited for it."""
    net = zero(fill(get_model('cifar_resnet20', factors=('neuron', 'block'))))
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params('.*(?<!factor)$'), 'sgd', dict(learning_rate=0.01), kvstore=None)
    for step in range(3):
        with autograd.record():
            loss = net(batch(8, 3, 16, 16, seed=step)).square().sum()
        loss.backward()
        trainer.step(8)
    small = compact(net, (2, 3, 16, 16))
    x = batch(2, 3, 16, 16)
    assert difference(net(x), small.net(x)) < 1e-4


# {layer: the layer whose neurons are its inputs}, in cifar_vgg16
VGG = ['norm1_1', 'norm1_2', 'norm2_1', 'norm2_2', 'norm3_1', 'norm3_2', 'norm3_3', 'norm4_1', 'norm4_2', 'norm4_3',
       'norm5_1', 'norm5_2', 'norm5_3']


def gradients(net, x, head, training):
    net.collect_params().zero_grad()
    with autograd.record(train_mode=training):
        y = net(x)
    y.backward(head)
    found = {key.replace('.', '_'): (p.grad() if p.grad_req != 'null' else p.data()).asnumpy()
             for key, p in net._collect_params_with_prefix().items()}
    return y, found


@pytest.mark.parametrize('name, size, options, training', [
    ('cifar_resnet20', 16, {}, True),
    ('cifar_resnet20', 16, {}, False),      # no VGG: the gradient of MXNet's max pooling is wrong in inference mode
    ('cifar_vgg16', 64, dict(stages=((4, 6), (8, 8), (8, 8, 8), (8, 8, 8), (8, 8, 8)), final_size=2), True),
], ids=['resnet, training', 'resnet, inference', 'vgg, training'])
def test_gradients_of_what_remains(name, size, options, training, fill, zero, difference, batch):
    """λW is one weight now: its gradient is that of W divided by λ; statistics move as before."""
    net = zero(fill(get_model(name, classes=7, **options)), chance=0.4, seed=1)
    x, head = batch(8, 3, size, size), batch(8, 7, seed=2)
    small = compact(net, x.shape)
    (y, expected), (z, found) = gradients(net, x, head, training), gradients(small.net, x, head, training)
    assert difference(y, z) < 1e-4
    values = {factor.name.replace('.', '_'): factor.values() for factor in scaling_factors(net)}
    kept = {key: np.flatnonzero(value) for key, value in values.items()}
    assert len(found) < len(expected)
    for key in found:
        layer = re.sub('_(weight|bias|gamma|beta|running_mean|running_var)$', '', key)
        gradient = expected[key]
        if name == 'cifar_vgg16':       # neurons: cut to the kept ones; their gamma and beta contain λ
            own = layer.replace('conv', 'norm')
            if own in kept:
                gradient = gradient[kept[own]]
            if key.endswith('weight') and layer != 'conv1_1':
                source = VGG[VGG.index(own) - 1] if own in kept else VGG[-1]
                inputs = kept[source] if own in kept else np.flatnonzero(np.repeat(values[source], 4))  # 2x2 flattened
                gradient = gradient[:, inputs]
            if key.endswith(('gamma', 'beta')):
                gradient = gradient / values[own][kept[own]]
        elif layer in values:           # blocks: the last convolution contains λ
            gradient = gradient / values[layer]
        assert found[key].shape == gradient.shape
        np.testing.assert_allclose(found[key], gradient, rtol=0, atol=2e-4 * np.abs(gradient).max(), err_msg=key)


class Own(nn.HybridBlock):
    """A user's network: a convolution without BatchNorm, with a factor per neuron and a bias."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = ScaledConv2D(6, 3, in_channels=3, kind='neuron', activation='relu')
            self.second = ScaledConv2D(8, 3, in_channels=6, kind='group', groups=2, padding=1)
            self.last = nn.Conv2D(4, 1, in_channels=8)

    def hybrid_forward(self, F, x):
        x = self.first(x)
        y = self.second(x)
        return self.last(F.LeakyReLU(y, slope=0.1)), F.mean(y, axis=(2, 3))


def test_network_of_ones_own(fill, set_factors, difference, batch):
    net = set_factors(fill(Own()), {'first': [0, 1, 2, 0.5, 0, -1], 'second': [1, 0.3]})
    net.last.weight.set_data(net.last.weight.data() * mx.nd.array([1, 1, 0, 1, 1, 1, 1, 1]).reshape((1, 8, 1, 1)))
    small = check(net, (2, 3, 9, 9), difference, batch)
    # groups stay whole (each has a neuron that is alive), and the second output contains all of them
    assert {key: row['after'] for key, row in small.structure.layers.items()} \
        == {'first': [6, 3], 'second': [8, 3], 'last': [4, 8]}
    assert small.structure.model is None
    set_factors(net, {'first': [0, 0, 0, 0.5, 0, -1], 'second': [1, 0.3]})
    small = check(net, (2, 3, 9, 9), difference, batch)
    assert small.structure.layers['second']['after'] == [8, 3]      # its bias still reaches the output


class Wrong(Channelwise):
    """Claims that channel 0 is always zero."""

    def constants(self, node, view):
        return [np.where(np.arange(view.channels(node.inputs[0])) == 0, 0.0, np.nan)]


def test_refuses_what_is_not_equal(fill, monkeypatch):
    """Running both networks detects a wrong rule."""
    net = fill(get_model('cifar_resnet20'))
    assert compact(net, (1, 3, 16, 16)).max_difference < 1e-6
    monkeypatch.setitem(RULES, 'Activation', Wrong())
    with pytest.raises(SSSError, match='the compact network differs by .* of the largest output, more than rounding'):
        compact(net, (1, 3, 16, 16))


def test_refuses_what_is_not_finite(fill):
    net = fill(get_model('cifar_resnet20'))
    net.output.bias.set_data(mx.nd.full(10, np.inf))
    with pytest.raises(SSSError, match='outputs that are not finite'):
        compact(net, (1, 3, 16, 16))


@pytest.mark.parametrize('align, widths', [(1, (5, 3)), (4, (8, 4)), (8, (8, 8)), (16, (16, 10))])
def test_aligned_widths(align, widths, difference, batch):
    """Zeros stay where they fill a width up to a multiple; a layer of 10 channels cannot have 16."""
    net = nn.HybridSequential()
    net.add(ScaledConv2D(16, 3, kind='neuron', in_channels=3), nn.Activation('relu'),
            nn.Conv2D(10, 3, in_channels=16, use_bias=False), ScaledBatchNorm(10, kind='neuron'),
            nn.Activation('relu'), nn.Conv2D(6, 1, in_channels=10))
    net.initialize(mx.init.Normal(0.5))
    for factor, alive in zip(scaling_factors(net), (5, 3)):
        values = np.arange(factor.parameter.shape[0]) < alive
        factor.parameter.set_data(mx.nd.array(np.roll(values, 2)))
    small = compact(net, (1, 3, 8, 8), align=align)
    layers = list(small.structure.layers.values())
    assert [layer['after'] for layer in layers] == [[widths[0], 3], [widths[1], widths[0]], [6, widths[1]]]
    assert [len(factor['kept']) for factor in small.structure.factors.values()] == [5, 3]
    x = batch(2, 3, 8, 8)
    assert difference(net(x), small.net(x)) < 1e-4


@pytest.mark.parametrize('name', ['cifar_vgg16', 'cifar_resnext20', 'peleenet'])
def test_aligned_networks(name, narrow, fill, zero, difference, batch):
    options, size = narrow[name]
    net = zero(fill(get_model(name, classes=4, **options)))
    shape = (2, 3, size, size)
    tight, aligned = compact(net, shape), compact(net, shape, align=4)
    assert tight.after.macs < aligned.after.macs <= aligned.before.macs
    for layer in aligned.structure.layers.values():
        if layer['after'] and layer['after'][0] % 4:
            assert layer['after'][0] == layer['before'][0]
    x = batch(*shape)
    assert difference(net(x), aligned.net(x)) < 1e-4
