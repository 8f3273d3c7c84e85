"""Sizes of whatever a network is named by."""
import shutil
from dataclasses import replace

import pytest

from sss_gluon import Structure, compact, get_model, load_structure
from sss_gluon.deploy import prune
from sss_gluon.deploy.sizes import sizes
from sss_gluon.errors import SSSError
from sss_gluon.train import RunFolder


def test_a_model_is_counted_at_the_size_it_is_made_for():
    before, after = sizes('cifar_resnet20')
    assert after is None and (before.params, before.macs) == (272_538, 41_075_328)
    before, after = sizes('resnet50')
    assert after is None and (before.params_without_bn, before.macs) == (25_503_912, 4_089_184_256)


def test_size_channels_and_classes_are_given():
    before, _ = sizes('cifar_resnet20', size=16, channels=1, classes=7)
    # 3x3 of the stem on 16 x 16 with one channel instead of 32 x 32 with three, everything else a quarter
    assert before.macs == (41_075_328 - 640 - 9 * 3 * 16 * 1024) // 4 + 64 * 7 + 9 * 16 * 256
    assert before.params == 272_538 - 9 * 2 * 16 - 3 * 65


@pytest.mark.slow
@pytest.mark.parametrize('name, params, macs', [
    ('resnet41', 25_307_304, 3_472_621_568), ('resnet32', 18_622_632, 2_817_523_712),
    ('resnet26', 15_591_592, 2_329_411_584)])
def test_shipped_structures_cut_a_model(name, params, macs):
    before, after = sizes('resnet50', structure=name)
    assert before.macs == 4_089_184_256 and (after.params_without_bn, after.macs) == (params, macs)


def test_a_run_is_cut_by_its_zeros_and_a_structure_gives_the_same(finished, tmp_path):
    shutil.copytree(finished, tmp_path / 'run')
    before, after = sizes(str(tmp_path / 'run'))
    row = RunFolder(finished).metrics.rows()[-1]
    assert (after.params, after.macs) == (int(row['params_left']), int(row['macs_left'])) and after.macs < before.macs
    prune(tmp_path / 'run', log=lambda line: None)
    symbol = str(tmp_path / 'run/compact/model-symbol.json')
    for arguments in (dict(size=8, channels=1), {}):        # the structure.json beside it says how large its images are
        counted, nothing = sizes(symbol, **arguments)
        assert nothing is None and (counted.params, counted.macs) == (after.params, after.macs)
    for target in (symbol, str(tmp_path / 'run')):
        with pytest.raises(SSSError, match='name the model'):
            sizes(target, structure='resnet26')


def test_a_structure_file(tmp_path):
    net = get_model('cifar_resnet20')
    net.initialize()
    structure = Structure(net.spec, (1, 3, 32, 32), {'stage1.0.conv2': dict(kind='block', size=1, kept=[])}, {})
    structure.save(tmp_path / 'structure.json')
    before, after = sizes('cifar_resnet20', structure=str(tmp_path / 'structure.json'))
    assert before.macs - after.macs == 2 * 9 * 16 * 16 * 1024
    assert load_structure(tmp_path / 'structure.json').removed() == dict(block=1)


def test_a_network_of_ones_own(own_nets):
    before, _ = sizes('own_nets:plain', size=8, channels=1, classes=3)
    # 3x3 1->8 at 4 x 4, twice 3x3 8->8 at 4 x 4, dense 128->3
    assert before.macs == 16 * 9 * 8 + 2 * 16 * 9 * 64 + 128 * 3
    assert before.params == 9 * 8 + 8 + 2 * (9 * 64 + 8) + 128 * 3 + 3
    with pytest.raises(SSSError, match='own_nets:plain.*--size'):
        sizes('own_nets:plain', classes=3)


@pytest.mark.parametrize('name, wanted, options', [
    ('gluoncv:cifar_resnet20_v1', ['block'], {}), ('cifar_resnet20', ['neuron'], dict(depths=[1, 1], widths=[4, 8])),
    ('own_nets:plain', None, {})])
def test_a_structure_says_how_its_model_is_built(name, wanted, options, own_nets, tmp_path, zero):
    """Classes, channels, factors, options and the size of the images; what is given wins."""
    if name.startswith('gluoncv'):
        pytest.importorskip('gluoncv')
    shape = (1, 2, 8, 8)
    net = get_model(name, 4, wanted, 2, shape, **options)
    net.initialize()
    small = compact(zero(net), shape)
    small.structure.save(tmp_path / 'structure.json')
    before, after = sizes(name, str(tmp_path / 'structure.json'))
    for found, expected in ((before, small.before), (after, small.after)):
        layers = [layer._replace(name=layer.name.replace('.', '_')) for layer in found.layers]
        assert replace(found, layers=layers) == expected
    assert after.macs < before.macs
    larger, _ = sizes(name, str(tmp_path / 'structure.json'), size=8, classes=5)
    assert larger.params > before.params


def test_sizes_of_gluoncv():
    """Published for 224 x 224 and for 32 x 32: 1.81 GMACs (He et al.), 40.8 M (6n+2 layers, n = 3)."""
    pytest.importorskip('gluoncv')
    for name, macs, digits in (('gluoncv:resnet18_v1b', 1.81e9, -7), ('gluoncv:cifar_resnet20_v1', 40.8e6, -5)):
        before, after = sizes(name)
        assert after is None and round(before.macs, digits) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize('arguments, words', [
    (('resnet51',), "did you mean 'resnet50'"), (('nothing-symbol.json',), 'there is no nothing-symbol.json'),
    (('cifar_resnet20', 'resnet26'), 'another model'), (('resnet50', 'resnet27'), 'the shipped ones are'),
])
def test_what_is_not_there(arguments, words):
    with pytest.raises(SSSError, match=words):
        sizes(*arguments, size=32)
