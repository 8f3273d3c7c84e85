import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from sss_gluon.errors import SSSError
from sss_gluon.factors import KINDS, scaling_factors
from sss_gluon.graph import count
from sss_gluon.models import ARCHITECTURES, get_model

# Trained parameters, channels that are normalised, MACs at the published size and number of classes. Parameters and
# MACs are published or derived from published numbers; the channels are added up from the layer widths:
# cifar_resnet20 16·3+16+32·2+32+64·2 before the blocks, (16+32+64)·3 inside and 64 at the end, for example.
SIZES = {
    'cifar_vgg16': (14_724_042, 4_224, 313_201_664),
    'cifar_resnet20': (272_538, 688, 41_075_328),
    'cifar_resnet164': (1_703_258, 12_112, 247_646_720),
    'cifar_resnext20': (217_610, 2_304, 41_290_240),
    'cifar_resnext164': (1_719_306, 16_640, 256_772_608),
    'vgg16': (138_357_544 + 2 * 4_224, 4_224, 15_470_264_320),
    'resnet50': (25_549_480, 22_784, 4_089_184_256),
    'resnext50_32x4d': (25_028_904, 34_112, 4_230_479_872),
    'peleenet': (2_802_248, 4_864, 507_757_568),
}

# The numbers that the paper prints, in millions of parameters and of MACs, and their digits; False: without BatchNorm.
PRINTED = {
    'cifar_vgg16': (14.72, 2, True, 313.2, 1),
    'vgg16': (138.36, 2, False, 15470, -1),
    'resnet50': (25.50, 2, False, 4090, -1),
    'resnext50_32x4d': (25.03, 2, True, 4230, -1),
    'peleenet': (2.80, 2, True, 507.8, 1),
}

# The factors that a network carries by default: (kind, number of arrays, number of factors, first and last name)
FACTORS = {
    'cifar_vgg16': ({'neuron': (13, 4_224)}, 'norm1_1', 'norm5_3'),
    'cifar_resnet20': ({'block': (9, 9)}, 'stage1.0.conv2', 'stage3.2.conv2'),
    'cifar_resnet164': ({'block': (54, 54)}, 'stage1.0.conv3', 'stage3.17.conv3'),
    'cifar_resnext20': ({'group': (6, 192)}, 'stage1.0.norm2', 'stage3.1.norm2'),
    'cifar_resnext164': ({'group': (54, 54 * 32), 'block': (54, 54)}, 'stage1.0.norm2', 'stage3.17.norm3'),
    'vgg16': ({'neuron': (13, 4_224)}, 'norm1_1', 'norm5_3'),
    'resnet50': ({'block': (16, 16)}, 'stage1.0.conv3', 'stage4.2.conv3'),
    'resnext50_32x4d': ({'group': (16, 512), 'block': (16, 16)}, 'stage1.0.norm2', 'stage4.2.norm3'),
    # 5 norms in the stem and in each of the 21 dense layers, and one in each of the 4 transitions
    'peleenet': ({'neuron': (5 + 5 * 21 + 4 - 1, 4_864)}, 'stem.first.norm', 'stage4.6.norm'),
}


@pytest.mark.parametrize('factors', ['none', 'default', 'all'])
@pytest.mark.parametrize('name', SIZES)
def test_sizes(name, factors):
    row = ARCHITECTURES[name]
    net = get_model(name, factors={'none': (), 'default': None, 'all': row.offered}[factors])
    found = count(net, (1, 3, row.size, row.size))
    params, normalised, macs = SIZES[name]
    assert (found.params, found.params_without_bn, found.macs) == (params, params - 2 * normalised, macs)


@pytest.mark.parametrize('name', PRINTED)
def test_sizes_as_printed(name):
    params, digits, with_bn, macs, macs_digits = PRINTED[name]
    found, normalised, found_macs = SIZES[name]
    assert round((found - (0 if with_bn else 2 * normalised)) / 1e6, digits) == params
    assert round(found_macs / 1e6, macs_digits) == macs


def test_every_network_is_tested(narrow):
    assert set(SIZES) == set(FACTORS) == set(narrow) == set(ARCHITECTURES)


@pytest.mark.parametrize('name', FACTORS)
def test_default_factors(name):
    kinds, first, last = FACTORS[name]
    factors = scaling_factors(get_model(name))
    assert (factors[0].name, factors[-1].name) == (first, last)
    assert len({factor.name for factor in factors}) == len(factors)
    found = {kind: [factor.parameter.shape[0] for factor in factors if factor.kind == kind] for kind in KINDS}
    assert {kind: (len(sizes), sum(sizes)) for kind, sizes in found.items() if sizes} == kinds


@pytest.mark.parametrize('name', SIZES)
def test_without_factors_nothing_is_left_of_them(name):
    with_factors, without = get_model(name, factors=ARCHITECTURES[name].offered), get_model(name, factors=())
    names = set(without._collect_params_with_prefix())
    assert not [parameter for parameter in names if 'factor' in parameter]
    assert names == {parameter for parameter in with_factors._collect_params_with_prefix()
                     if not parameter.endswith('.factor')}
    modules = set()
    without.apply(lambda block: modules.add(type(block).__name__))
    assert not [module for module in modules if module.startswith('Scaled')]


@pytest.mark.parametrize('name', SIZES)
def test_runs_hybridized_with_all_factors(name, narrow, fill, zero, difference, batch):
    options, size = narrow[name]
    net = get_model(name, classes=7, factors=ARCHITECTURES[name].offered, in_channels=2, **options)
    zero(fill(net), chance=0.2)
    x = batch(3, 2, size, size)
    expected = net(x)
    assert expected.shape == (3, 7)
    net.hybridize(static_alloc=True, static_shape=True)
    for _ in range(2):
        assert difference(expected, net(x)) < 1e-5


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name == 'vgg16' else ())
                                  for name in SIZES])
def test_trains_hybridized(name, narrow, fill, batch):
    """One step of training: every parameter gets a gradient, statistics move, eager and static agree."""
    options, size = narrow[name]
    x, found = batch(4, 3, size, size), []
    for hybrid in (False, True):
        net = fill(get_model(name, classes=5, factors=ARCHITECTURES[name].offered, **options))
        dropouts = []
        net.apply(lambda block, found=dropouts: found.append(block) if type(block).__name__ == 'Dropout' else None)
        for dropout in dropouts:
            dropout._rate = 0       # the random numbers of both would differ
        if hybrid:
            net.hybridize(static_alloc=True, static_shape=True)
        with autograd.record():
            loss = mx.nd.square(net(x)).sum()
        loss.backward()
        mx.nd.waitall()
        found.append({key: (p.data() if p.grad_req == 'null' else p.grad()).asnumpy()
                      for key, p in net._collect_params_with_prefix().items()})
    for key, value in found[0].items():
        assert np.isfinite(value).all()
        assert np.abs(value).max() > 0
        scale = max(1e-2 * max(np.abs(v).max() for v in found[0].values()), np.abs(value).max())
        np.testing.assert_allclose(found[1][key], value, rtol=0, atol=1e-4 * scale, err_msg=key)


@pytest.mark.parametrize('name', SIZES)
def test_factors_of_one_change_nothing(name, narrow, fill, batch, tmp_path):
    """Weights are transferred by name between the networks with and without factors."""
    options, size = narrow[name]
    plain = fill(get_model(name, factors=(), classes=5, **options))
    scaled = get_model(name, factors=ARCHITECTURES[name].offered, classes=5, **options)
    scaled.initialize()
    plain.save_parameters(str(tmp_path / 'weights.params'))
    scaled.load_parameters(str(tmp_path / 'weights.params'), allow_missing=True)
    x = batch(2, 3, size, size)
    np.testing.assert_array_equal(scaled(x).asnumpy(), plain(x).asnumpy())


@pytest.mark.parametrize('name', SIZES)
def test_classes_and_channels(name):
    row = ARCHITECTURES[name]
    usual, other = (count(get_model(name, classes=classes, in_channels=channels), (1, channels, row.size, row.size))
                    for classes, channels in ((None, 3), (77, 1)))
    first, last = usual.layers[0], usual.layers[-1]
    assert last.output_shape == (1, row.classes) and other.layers[-1].output_shape == (1, 77)
    width = last.macs // row.classes
    assert other.layers[-1].params == 77 * (width + 1) and other.layers[-1].macs == 77 * width
    assert first.op == 'Convolution' and other.layers[0].macs * 3 == first.macs
    assert usual.layers[1:-1] == other.layers[1:-1]


def test_counts_of_a_tiny_network_by_hand():
    net = get_model('cifar_resnet20', classes=3, depths=(1, 1), widths=(4, 8), in_channels=1)
    found = {layer.name: layer[1:] for layer in count(net, (5, 1, 6, 6)).layers}
    assert found == {
        'stem': ('Convolution', (5, 16, 6, 6), 16 * 9, 16 * 9 * 36),
        'stage1_0_norm1': ('BatchNorm', (5, 16, 6, 6), 32, 0),
        'stage1_0_conv1': ('Convolution', (5, 4, 6, 6), 4 * 16 * 9, 4 * 16 * 9 * 36),
        'stage1_0_norm2': ('BatchNorm', (5, 4, 6, 6), 8, 0),
        'stage1_0_conv2': ('Convolution', (5, 4, 6, 6), 4 * 4 * 9, 4 * 4 * 9 * 36),
        'stage1_0_shortcut': ('Convolution', (5, 4, 6, 6), 4 * 16, 4 * 16 * 36),
        'stage2_0_norm1': ('BatchNorm', (5, 4, 6, 6), 8, 0),
        'stage2_0_conv1': ('Convolution', (5, 8, 3, 3), 8 * 4 * 9, 8 * 4 * 9 * 9),
        'stage2_0_norm2': ('BatchNorm', (5, 8, 3, 3), 16, 0),
        'stage2_0_conv2': ('Convolution', (5, 8, 3, 3), 8 * 8 * 9, 8 * 8 * 9 * 9),
        'stage2_0_shortcut': ('Convolution', (5, 8, 3, 3), 8 * 4, 8 * 4 * 9),
        'norm': ('BatchNorm', (5, 8, 3, 3), 16, 0),
        'output': ('FullyConnected', (5, 3), 3 * 8 + 3, 3 * 8),
    }


def test_widths_inside_peleenet():
    """Width of the 1x1 convolutions: int(16·bw/4)·4 with bw 1, 2, 4, 4, unless it exceeds half of the input."""
    layers = {layer.name: layer.output_shape[1] for layer in count(get_model('peleenet'), (1, 3, 224, 224)).layers}
    assert [layers[f'stage{stage}_0_branch1a_conv'] for stage in (1, 2, 3, 4)] == [16, 32, 64, 64]
    assert [layers[name] for name in ('stage1_3_conv', 'stage2_4_conv', 'stage3_8_conv', 'stage4_6_conv')] \
        == [128, 256, 512, 704]


def test_starts_with_the_papers_weights():
    """N(0, 2/fan_in) for weights; 0 and 1 for the rest."""
    mx.random.seed(0)
    net = get_model('cifar_resnext20', factors=('group', 'block'))
    net.initialize()
    for name, parameter in net._collect_params_with_prefix().items():
        value = parameter.data().asnumpy()
        if name.endswith('weight'):
            tolerance = 5 / np.sqrt(2 * value.size)             # five standard errors
            assert value.std() * np.sqrt(np.prod(value.shape[1:]) / 2) == pytest.approx(1, abs=tolerance)
        else:
            assert (value == (1 if name.endswith(('gamma', 'running_var', 'factor')) else 0)).all()


def test_batch_normalisation_is_the_papers():
    norms = []
    for name in SIZES:
        get_model(name).apply(lambda block: norms.append(block._kwargs) if 'BatchNorm' in type(block).__name__
                              else None)
    assert {(norm['eps'], norm['momentum'], norm['fix_gamma'], norm['axis']) for norm in norms} \
        == {(1e-5, 0.9, False, 1)}


def test_spec_rebuilds_the_network():
    net = get_model('cifar_resnext20', classes=4, factors='block', in_channels=1, depths=[1, 1], widths=[8, 16],
                    groups=2)
    spec = dict(net.spec)
    assert spec == dict(name='cifar_resnext20', classes=4, factors=['block'], in_channels=1,
                        options=dict(depths=[1, 1], widths=[8, 16], groups=2))
    again = get_model(**{k: v for k, v in spec.items() if k != 'options'}, **spec['options'])
    assert {name: p.shape for name, p in again._collect_params_with_prefix().items()} \
        == {name: p.shape for name, p in net._collect_params_with_prefix().items()}


@pytest.mark.parametrize('arguments, message', [
    (dict(name='resnet5O'), "model 'resnet5O' is unknown; did you mean 'resnet50'.*cifar_vgg16"),
    (dict(name='cifar-resnet164'), "did you mean 'cifar_resnet164'"),
    (dict(name=''), "model '' is unknown"),
    (dict(name='vgg16', factors=('neuron', 'block')), "vgg16 has no 'block' structures, only neuron;"),
    (dict(name='resnet50', factors='groups'), "resnet50 has no 'groups' structures.*neuron, block"),
    (dict(name='vgg16', depth=3), "vgg16 cannot be built with .*'depth'"),
    (dict(name='cifar_resnet20', groups=3), "cifar_resnet20 cannot be built with .*'groups'"),
    (dict(name='vgg16', classes='ten'), "vgg16: classes='ten' is not a positive whole number"),
    (dict(name='vgg16', classes=0), 'vgg16: classes=0 is not'),
    (dict(name='vgg16', in_channels=1.0), 'vgg16: in_channels=1.0 is not'),
    (dict(name='cifar_resnet20', depths=(1, 1)), '2 depths and 3 widths'),
    (dict(name='peleenet', depths=(1, 1)), '2 depths and 4 bottleneck_widths'),
    (dict(name='cifar_resnext20', groups=5), 'groups=5 does not divide the 32 channels inside a block of 64'),
])
def test_errors(arguments, message):
    with pytest.raises(SSSError, match=message):
        get_model(**arguments)
