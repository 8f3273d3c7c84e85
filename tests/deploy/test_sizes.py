"""Sizes of whatever a network is named by."""
import shutil

import pytest

from sss_gluon import Structure, get_model, load_structure
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


@pytest.mark.parametrize('arguments, words', [
    (('resnet51',), "did you mean 'resnet50'"), (('nothing-symbol.json',), 'there is no nothing-symbol.json'),
    (('cifar_resnet20', 'resnet26'), 'another model'), (('resnet50', 'resnet27'), 'the shipped ones are'),
])
def test_what_is_not_there(arguments, words):
    with pytest.raises(SSSError, match=words):
        sizes(*arguments, size=32)
