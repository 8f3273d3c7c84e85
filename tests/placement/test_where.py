"""Which layers of a network get which factors: each family against what was worked out by hand."""
import mxnet as mx
import numpy as np
import pytest
from families import FAMILIES, SHAPE, chain, conv, grouped, head, residual_v1, residual_v2
from mxnet.gluon import nn

import sss_gluon as sss


def placed(table):
    """{layer: (kind, number)}; a second factor of a layer is ``layer#2``. And {layer without: reason}."""
    found = {}
    for row in table.rows:
        if row.kind:
            found[row.layer + ('#2' if row.layer in found else '')] = row.kind, row.number
    return found, {row.layer: row.note for row in table.rows if not row.kind}


def add(net, **arguments):
    return placed(sss.add_factors(net, input_shape=SHAPE, log=None, **arguments))


@pytest.mark.parametrize('initialised', [True, False])
@pytest.mark.parametrize('name', FAMILIES)
def test_family(name, initialised):
    build, factors, reasons = FAMILIES[name]
    net = build()
    if initialised:
        net.initialize()
        net(mx.nd.zeros(SHAPE))
    found, without = add(net)
    assert found == factors
    assert without.keys() == reasons.keys()
    assert all(reasons[layer] in without[layer] for layer in reasons)
    listed = sss.scaling_factors(net)
    assert sorted((factor.kind, factor.parameter.shape[0]) for factor in listed) == sorted(factors.values())
    assert {factor.name.replace('.neuron', '') for factor in listed} == {layer.partition('#')[0] for layer in factors}
    assert len({factor.name for factor in listed}) == len(listed)


@pytest.mark.filterwarnings('ignore:this compact network is of little use')
@pytest.mark.parametrize('blocks', [0.5, 0], ids=['with blocks', 'without blocks'])
@pytest.mark.parametrize('name', FAMILIES)
def test_every_structure_that_is_zero_goes(name, blocks, fill):
    net = FAMILIES[name][0]()
    sss.add_factors(net, input_shape=SHAPE, log=None)
    fill_after_a_batch(net, fill)
    for factor in sss.scaling_factors(net):
        size = factor.parameter.shape[0]
        factor.parameter.set_data(mx.nd.array(np.arange(size) % 2 if factor.kind != 'block' else [blocks]))
    small = sss.compact(net, SHAPE)
    assert small.max_difference < 1e-5
    for factor in sss.scaling_factors(net):
        row = small.structure.factors[factor.name]
        assert not row.get('stay'), factor.name
        if blocks:
            assert row['kept'] == np.flatnonzero(factor.values()).tolist()
        elif factor.kind == 'block':
            assert row['kept'] == []
    assert small.after.macs < 0.7 * small.before.macs or name in ('transposed', 'a layer used twice', 'two scales')


@pytest.mark.parametrize('kinds, expected', [
    ('neuron', {'3.body.1': ('neuron', 4), '4.body.1': ('neuron', 5), '4.body.4': ('neuron', 6)}),
    (['block'], {'3.body.4': ('block', 1), '4.body.7': ('block', 1)}),
    (['group'], {})])
def test_kinds(kinds, expected):
    assert add(residual_v1(), kinds=kinds)[0] == expected


def test_groups_need_their_kind():
    found, without = add(grouped(), kinds=['neuron'])
    assert not found and 'kinds lacks group' in without['3.body.3']


def test_ignored_layers():
    found, without = add(residual_v1(), ignore=['3.*', '4.body.4'])
    assert found == {'4.body.1': ('neuron', 5), '4.body.7': ('block', 1)}
    assert without['3.body.0'] == without['4.body.3'] == 'ignored'


def test_shared_streams():
    net = residual_v1()
    found, _ = add(net, share=True)
    assert found == {'1': ('neuron', 4), '3.body.1': ('neuron', 4), '3.body.4': ('block', 1),
                     '3.body.4#2': ('neuron', 0), '4.body.1': ('neuron', 5), '4.body.4': ('neuron', 6),
                     '4.body.7': ('block', 1), '4.body.7#2': ('neuron', 0), '4.shortcut.1': ('neuron', 8)}
    names = {factor.name: factor.parameter for factor in sss.scaling_factors(net)}
    assert names['1'] is net[3].body[4].neuron_factor
    assert names['4.body.7.neuron'] is net[4].shortcut[1].factor


@pytest.mark.parametrize('build, widths', [(residual_v1, {'0': 2, '3_body_3': 2, '4_body_6': 4, '4_shortcut_0': 4}),
                                           (residual_v2, {'0': 2, '1_body_5': 2, '2_body_3': 4, '2_shortcut': 4})])
def test_shared_streams_shrink(build, widths, fill):
    net = build()
    sss.add_factors(net, input_shape=SHAPE, share=True, log=None)
    net = fill_after_a_batch(net, fill)
    for factor in sss.scaling_factors(net):
        if factor.kind == 'neuron':
            factor.parameter.set_data(mx.nd.array(np.arange(factor.parameter.shape[0]) % 2))
    small = sss.compact(net, SHAPE)
    assert small.max_difference < 1e-5
    assert {name: small.structure.layers[name]['after'][0] for name in widths} == widths


def fill_after_a_batch(net, fill):
    net.initialize()
    net(mx.nd.zeros(SHAPE))
    return fill(net)


def test_a_second_call_adds_what_is_missing():
    net = residual_v1()
    add(net, kinds=['block'])
    blocks = [factor.parameter for factor in sss.scaling_factors(net)]
    found, _ = add(net)
    assert found == FAMILIES['residual'][1]
    again = sss.add_factors(net, input_shape=SHAPE, log=None)
    assert placed(again)[0] == found and {row.note for row in again.rows if row.kind} == {'had it before'}
    assert [f.parameter for f in sss.scaling_factors(net) if f.kind == 'block'] == blocks
    assert len(sss.scaling_factors(net)) == 5


def test_factors_built_by_hand_count():
    net = head(conv(4), sss.ScaledBatchNorm(4), 'relu', conv(5), nn.BatchNorm(), 'relu')
    table = sss.add_factors(net, input_shape=SHAPE, log=None)
    assert [row[:3] for row in table.rows if row.kind] == [('1', 'neuron', 4), ('4', 'neuron', 5)]


def test_outputs_keep_their_channels():
    net = chain(conv(5), nn.BatchNorm(), 'relu')
    found, without = add(net)
    assert not found and 'output' in without['0']


def test_the_table(capsys):
    table = sss.add_factors(residual_v1(), input_shape=SHAPE)
    text = str(table)
    assert capsys.readouterr().out == text + '\n'
    assert max(map(len, text.splitlines())) <= 80
    assert table.counts() == {'neuron': 15, 'block': 2}
    assert all(row.layer in text for row in table.rows)


@pytest.mark.parametrize('arguments, words', [
    (dict(), 'input_shape'), (dict(input_shape=SHAPE, kinds=['neurons']), "neurons.*neuron, group, block"),
    (dict(input_shape=SHAPE, kinds=[]), 'neuron, group, block'),
    (dict(input_shape=SHAPE, ignore='stage*'), r"stage\*.*no layer"),
    (dict(input_shape=(1, 3)), 'does not accept')])
def test_errors(arguments, words):
    net = residual_v1()
    with pytest.raises(sss.SSSError, match=words):
        sss.add_factors(net, **arguments)
    assert not sss.scaling_factors(net)


def test_errors_of_other_objects():
    with pytest.raises(sss.SSSError, match='HybridBlock.*ParameterDict'):
        sss.add_factors(residual_v1().collect_params(), input_shape=SHAPE)
