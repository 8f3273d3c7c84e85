"""The two networks that are measured, for each thing that may be named."""
import json

import numpy as np
import pytest

from sss_gluon import SSSError, compact, count, get_model, scaling_factors
from sss_gluon.bench.network import Subject
from sss_gluon.deploy.trained_run import load_run

TINY = ('cifar_resnet20', dict(depths=(1, 1, 1), widths=(4, 4, 8)))


def alive(net):
    return {kind: np.concatenate([f.values() for f in scaling_factors(net) if f.kind == kind])
            for kind in {f.kind for f in scaling_factors(net)}}


@pytest.mark.parametrize('subject', [
    Subject('cifar_vgg16', quick=True), Subject('resnext50_32x4d', factors=('group',), quick=True),
    Subject('resnext50_32x4d', quick=True), Subject('gluoncv:cifar_resnet20_v1', size=8)], ids=str)
def test_half_of_each_kind_is_cut(subject):
    if ':' in subject.model:
        pytest.importorskip('gluoncv')
    first, second = subject.open(), subject.open()
    assert not scaling_factors(first.dense)
    for kind, values in alive(first.whole).items():
        assert int(values.sum()) == len(values) // 2 > 0 and kind in first.cut
        assert subject.factors is None or kind in subject.factors
        assert (values == alive(second.whole)[kind]).all()
    small = compact(first.whole, first.shape)
    assert small.after.macs < small.before.macs == count(first.dense, first.shape).macs


def test_a_structure_is_cut_at_its_own_size():
    found = Subject('resnet50', 'resnet26', size=32).open()
    assert found.shape == (1, 3, 32, 32) and found.cut == 'to resnet26'
    assert len(alive(found.whole)['block']) - alive(found.whole)['block'].sum() == 8
    assert Subject('resnet50', 'resnet26', quick=True).open().cut == 'half of the blocks'


def test_blocks_of_channels():
    found = Subject('cifar_vgg16', neuron_block=4, quick=True).open()
    assert {f.parameter.shape for f in scaling_factors(found.whole)} == {(2,)} and not scaling_factors(found.dense)


def test_a_file_gets_factors_where_structures_can_go(tmp_path):
    name, options = TINY
    net = get_model(name, factors=(), **options)
    net.initialize()
    compact(net, (1, 3, 8, 8)).export(tmp_path / 'net')
    found = Subject(str(tmp_path / 'net-symbol.json')).open()
    assert found.shape == (1, 3, 8, 8) and scaling_factors(found.whole) and not scaling_factors(found.dense)


@pytest.mark.slow
def test_what_is_zero_in_a_run_is_cut(finished):
    kept = alive(load_run(finished).net)
    assert any((values == 0).any() for values in kept.values())
    found = Subject(str(finished)).open()
    assert found.cut == 'what is zero in the run' and not scaling_factors(found.dense)
    assert all((values == kept[kind]).all() for kind, values in alive(found.whole).items())
    with pytest.raises(SSSError, match='leave out neuron_block'):
        Subject(str(finished), neuron_block=2).open()


def test_errors(tmp_path):
    damaged = tmp_path / 'structure.json'
    damaged.write_text(json.dumps(dict(format='other')))
    for subject, words in ((Subject('resnet5'), "model 'resnet5' is unknown"),
                           (Subject('cifar_vgg16', 'resnet26', size=32), 'resnet26: the structure has a factor'),
                           (Subject('resnet50', str(damaged)), 'not a structure'),
                           (Subject('nothing-symbol.json'), 'size'),
                           (Subject('nothing-symbol.json', size=8), 'there is no nothing-symbol.json'),
                           (Subject('cifar_resnet20', classes=0), 'classes 0 must be'),
                           (Subject('cifar_resnet20', factors=()), 'no scaling factors')):
        with pytest.raises(SSSError, match=words):
            subject.open()
