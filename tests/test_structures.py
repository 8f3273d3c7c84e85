import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from sss_gluon.errors import SSSError
from sss_gluon.factors import ScaledConv2D, scaling_factors
from sss_gluon.graph import count
from sss_gluon.models import ARCHITECTURES, get_model
from sss_gluon.structures import Structure, compact, load_structure, rebuild, remaining, set_structure, shipped

# Blocks kept per stage, parameters without BatchNorm, MACs at 224 or 32.
PAPER = {
    # The printed counts of the paper, 25.3/18.6/15.6 M and 3.47/2.82/2.33 G, allow no other choice.
    'resnet41': (((), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5), (0, 1, 2)), 25_307_304, 3_472_621_568),
    'resnet32': (((), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1)), 18_622_632, 2_817_523_712),
    'resnet26': (((), (1,), (0, 1, 2, 3, 4, 5), (0,)), 15_591_592, 2_329_411_584),
    'cifar10_resnet86': (((1, 2, 3), tuple(range(7)), tuple(range(18))), 1_423_034, 132_565_504),
    'cifar100_resnet89': (((1, 2), tuple(range(9)), tuple(range(18))), 1_476_628, 137_044_992),
}


def test_shipped_structures():
    assert shipped() == sorted(PAPER)


@pytest.mark.parametrize('name', PAPER)
def test_blocks_of_the_papers_structures(name):
    kept = {}
    for factor, row in load_structure(name).factors.items():
        stage, block, _ = factor.split('.')
        kept.setdefault(stage, []).extend([int(block)] * len(row['kept']))
    assert tuple(map(tuple, kept.values())) == PAPER[name][0]


@pytest.mark.parametrize('name', PAPER)
def test_sizes_of_the_papers_structures(name):
    _, params_without_bn, macs = PAPER[name]
    structure = load_structure(name)
    net = get_model(structure.model['name'], structure.model['classes'])
    net.initialize()
    set_structure(net, name)
    before, after = remaining(net, structure.input_shape)
    assert before == count(net, structure.input_shape)
    assert (after.params_without_bn, after.macs) == (params_without_bn, macs)


@pytest.mark.parametrize('name, classes, printed', [('cifar10_resnet86', 10, (53.53, 84.75)),
                                                    ('cifar100_resnet89', 100, (55.33, 86.75))])
def test_one_choice_of_blocks_of_resnet164_fits_the_printed_shares(name, classes, printed):
    """By hand: a block is 1x1, 3x3, 1x1 of out/4 channels; a projection stays when its block goes."""
    inputs, choices = 16, [(9 * 3 * 16 * 1024 + 256 * classes, 9 * 3 * 16 + 257 * classes)]      # stem, dense layer
    for out, side, side_in in ((64, 32, 32), (128, 16, 32), (256, 8, 16)):
        mid, area = out // 4, side ** 2
        first, other = ((i * mid, 9 * mid * mid + mid * out) for i in (inputs, out))
        choices = [(m + (first[0] * side_in ** 2 + first[1] * area) * one + n * sum(other) * area + inputs * out * area,
                    p + one * sum(first) + n * sum(other) + inputs * out)
                   for m, p in choices for one in (0, 1) for n in range(18)]
        inputs = out
    sizes = np.array(choices)
    assert sizes[-1].tolist() == [247_646_720 + 256 * (classes - 10), 1_679_034 + 257 * (classes - 10)]
    fits = (np.round(100 * sizes / sizes[-1], 2) == printed).all(axis=1)
    assert len(sizes) == 46_656 and fits.sum() == 1
    assert tuple(sizes[fits][0]) == PAPER[name][:0:-1]


@pytest.mark.slow
@pytest.mark.parametrize('name', PAPER)
def test_the_papers_structures_compacted_and_rebuilt(name, fill, difference, batch):
    _, params_without_bn, macs = PAPER[name]
    spec, shape = load_structure(name).model, load_structure(name).input_shape
    net = fill(get_model(spec['name'], spec['classes']))
    set_structure(net, name)
    small = compact(net, shape)
    x = batch(*shape)
    assert difference(net(x), small.net(x)) < 1e-4
    assert (small.after.params_without_bn, small.after.macs) == (params_without_bn, macs)
    assert count(rebuild(name), shape) == small.after
    assert small.structure == load_structure(name)


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name == 'vgg16' else ())
                                  for name in ARCHITECTURES])
def test_rebuild(name, narrow, fill, zero, batch, tmp_path):
    """The same layers with new weights, or with those of the compact network."""
    options, size = narrow[name]
    net = zero(fill(get_model(name, classes=6, factors=ARCHITECTURES[name].offered, **options)), chance=0.3)
    shape = (2, 3, size, size)
    small = compact(net, shape)
    small.export(tmp_path / 'x')
    mx.random.seed(0)       # two of a thousand numbers may be equal by chance
    fresh = rebuild(tmp_path / 'x-structure.json')
    assert {key: (p.shape, p.wd_mult, p.lr_mult, p.grad_req) for key, p in fresh.collect_params().items()} \
        == {key: (p.shape, p.wd_mult, p.lr_mult, p.grad_req) for key, p in small.net.collect_params().items()}
    assert count(fresh, shape) == small.after
    for key, parameter in fresh.collect_params().items():
        value = parameter.data().asnumpy()
        if key.endswith('weight'):
            assert np.unique(value).size == value.size or value.size > 1000
        else:
            assert (value == (1 if key.endswith(('gamma', 'running_var')) else 0)).all()
    x = batch(*shape)
    same = rebuild(small.structure, params=tmp_path / 'x-0000.params')
    np.testing.assert_array_equal(same(x).asnumpy(), small.net(x).asnumpy())


# Cases in which pruning depends on more than the factors: a constant branch, a constant cut off by a ReLU.
CONSTANTS = {
    'a block without groups': ('cifar_resnext20', ['stage1.1.norm2']),
    'first block without groups': ('cifar_resnext20', ['stage2.0.norm2']),
    'a plain layer': ('cifar_vgg16', ['norm3_2']),
    'a layer in a branch': ('peleenet', ['stage1.0.branch1a.norm']),
    'two layers in a branch': ('peleenet', ['stage1.0.branch2a.norm', 'stage1.0.branch2b.norm']),
    'neurons of a bottleneck': ('cifar_resnet164', ['stage1.1.norm2']),
}


@pytest.mark.parametrize('case', CONSTANTS)
def test_rebuild_where_a_branch_is_constant(case, narrow, fill, set_factors, batch, tmp_path):
    name, zeros = CONSTANTS[case]
    options, size = narrow[name]
    net = fill(get_model(name, factors=ARCHITECTURES[name].offered, **options))
    set_factors(net, dict.fromkeys(zeros, 0))
    x = batch(2, 3, size, size)
    small = compact(net, x.shape)
    small.export(tmp_path / 'x')
    same = rebuild(tmp_path / 'x-structure.json', params=tmp_path / 'x-0000.params')
    np.testing.assert_array_equal(same(x).asnumpy(), small.net(x).asnumpy())
    assert count(same, x.shape) == small.after
    fresh = rebuild(small.structure)
    assert {key: p.shape for key, p in fresh.collect_params().items()} \
        == {key: p.shape for key, p in small.net.collect_params().items()}
    constants = [p.data().asnumpy() for key, p in fresh.collect_params().items() if key.endswith('constant')]
    assert all((value == 0).all() for value in constants)
    assert len(constants) == (name in ('cifar_resnext20', 'cifar_resnet164'))

    # applying the structure to its network changes nothing
    expected = net(x).asnumpy()
    set_structure(net, small.structure)
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_fresh_weights_follow_the_narrower_fan_in():
    mx.random.seed(0)
    net = get_model('cifar_vgg16')
    net.initialize()
    random = np.random.RandomState(0)
    for factor in scaling_factors(net):
        factor.parameter.set_data(mx.nd.array(random.rand(factor.parameter.shape[0]) < 0.25))
    structure = compact(net, (1, 3, 32, 32)).structure
    checked = 0
    for key, parameter in rebuild(structure).collect_params().items():
        if key.endswith('weight'):
            value = parameter.data().asnumpy()
            fan_in = np.prod(value.shape[1:])
            assert fan_in < {'conv1_1_weight': 28, 'output_weight': 512}.get(key, 200 * 9)     # of up to 512·9
            assert value.std() == pytest.approx(np.sqrt(2 / fan_in), rel=5 / np.sqrt(2 * value.size))
            assert abs(value.mean()) < 5 * value.std() / np.sqrt(value.size)
            checked += 1
    assert checked == 14


def test_rebuild_with_an_initializer_of_ones_own():
    """The initializer is for weights only: biases and normalisation start as always."""
    structure = load_structure('resnet26')
    net = rebuild(structure, init=mx.init.Constant(0.125))
    for key, parameter in net.collect_params().items():
        expected = 0.125 if key.endswith('weight') else 1 if key.endswith(('gamma', 'running_var')) else 0
        assert (parameter.data().asnumpy() == expected).all()


def test_rebuilt_network_trains(narrow, fill, zero, batch):
    net = zero(fill(get_model('cifar_resnet20', **narrow['cifar_resnet20'][0])))
    net = rebuild(compact(net, (1, 3, 16, 16)).structure)
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), 'nag', dict(learning_rate=0.05, momentum=0.9, wd=1e-4), kvstore=None)
    x, labels, losses = batch(16, 3, 16, 16), mx.nd.arange(16) % 4, []
    for _ in range(10):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), labels).mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.asscalar())
    assert losses[-1] < 0.7 * losses[0]


class Own(nn.HybridBlock):
    def __init__(self, width=8):
        super().__init__()
        with self.name_scope():
            self.first = ScaledConv2D(width, 3, in_channels=1, kind='neuron', activation='relu')
            self.last = nn.Conv2D(2, 1, in_channels=width)

    def hybrid_forward(self, F, x):
        return self.last(self.first(x))


def test_network_of_ones_own(fill, set_factors, batch, tmp_path):
    net = set_factors(fill(Own()), {'first': [1, 0, 1, 0, 0, 1, 0, 2]})
    small = compact(net, (1, 1, 5, 5))
    small.export(tmp_path / 'own')
    x = batch(1, 1, 5, 5)
    same = rebuild(tmp_path / 'own-structure.json', params=tmp_path / 'own-0000.params', model=Own)
    np.testing.assert_array_equal(same(x).asnumpy(), small.net(x).asnumpy())
    with pytest.raises(SSSError, match='outside this package; pass model='):
        rebuild(tmp_path / 'own-structure.json')
    with pytest.raises(SSSError, match='factor first has 6 entries in the network, 8 in the structure'):
        rebuild(tmp_path / 'own-structure.json', model=lambda: Own(6))


def test_set_structure_zeroes_what_is_dropped_and_leaves_the_rest(fill, set_factors):
    net = set_factors(fill(Own()), {'first': [1, 0, 3, 4, 5, 6, -7, 8]})
    set_structure(net, Structure(None, (1, 1, 5, 5), {'first': {'kind': 'neuron', 'size': 8, 'kept': [1, 2, 6]}}, {}))
    assert scaling_factors(net)[0].values().tolist() == [0, 0, 3, 0, 0, 0, -7, 0]


@pytest.mark.parametrize('source', ['name', 'path', 'text path', 'dict', 'structure'])
def test_sources_of_a_structure(source, tmp_path):
    structure = load_structure('resnet32')
    path = tmp_path / 'any.json'
    structure.save(path)
    assert load_structure({'name': 'resnet32', 'path': path, 'text path': str(path), 'structure': structure,
                           'dict': json.loads(path.read_text())}[source]) == structure


def test_saved_structure_is_readable(tmp_path):
    structure = Structure(None, (1, 3, 8, 8), {'a': {'kind': 'neuron', 'size': 3, 'kept': [0, 2]},
                                               'b': {'kind': 'block', 'size': 1, 'kept': []}},
                          {'conv': {'before': [3, 1], 'after': None}})
    structure.save(tmp_path / 'x.json')
    assert (tmp_path / 'x.json').read_text() == (
        '{\n  "format": "sss_gluon structure 1",\n  "model": null,\n  "input_shape": [1, 3, 8, 8],\n  "factors": {\n'
        '    "a": {"kind": "neuron", "size": 3, "kept": [0, 2]},\n    "b": {"kind": "block", "size": 1, "kept": []}\n'
        '  },\n  "layers": {\n    "conv": {"before": [3, 1], "after": null}\n  }\n}\n')
    assert Structure.load(tmp_path / 'x.json') == structure
    assert structure.removed() == {'neuron': 1, 'block': 1}


def test_weights_of_another_network(narrow, fill, zero, set_factors, tmp_path):
    options, size = narrow['cifar_resnet20']
    net = fill(get_model('cifar_resnet20', **options))
    shape = (1, 3, size, size)
    structure = compact(set_factors(net, {'stage1.1.conv2': 0}), shape).structure
    compact(set_factors(net, {'stage1.1.conv2': 1}), shape).export(tmp_path / 'more')
    compact(set_factors(net, {'stage1.1.conv2': 0, 'stage2.0.conv2': 0}), shape).export(tmp_path / 'fewer')
    compact(fill(get_model('cifar_resnet20', classes=3, factors=(), **dict(options, depths=(1, 1, 1)))),
            shape).export(tmp_path / 'other')
    for name, message in (('more', 'more-0000.params holds stage1_1_conv1_weight'),
                          ('fewer', 'fewer-0000.params holds nothing for stage2_0_conv1_weight'),
                          ('other', r'params holds \(3, 8\) for output_weight, .*\(10, 8\)')):
        with pytest.raises(SSSError, match=message):
            rebuild(structure, params=tmp_path / f'{name}-0000.params')
    with pytest.raises(SSSError, match='none.params does not exist'):
        rebuild(structure, params=tmp_path / 'none.params')


def test_an_error_changes_nothing(fill, set_factors):
    net = set_factors(fill(Own()), {'first': 2})
    structure = Structure(None, (1, 1, 5, 5), {'first': {'kind': 'neuron', 'size': 8, 'kept': []},
                                               'second': {'kind': 'neuron', 'size': 8, 'kept': []}}, {})
    with pytest.raises(SSSError, match="factor 'second'"):
        set_structure(net, structure)
    assert scaling_factors(net)[0].values().tolist() == [2] * 8
