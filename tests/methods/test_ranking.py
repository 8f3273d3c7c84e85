"""From scores to masks."""
from types import SimpleNamespace

import numpy as np
import pytest

from sss_gluon import SSSError
from sss_gluon.methods import ranking
from sss_gluon.methods.ranking import (
    MaskedCounter,
    meet_budget,
    normalised,
    ranked_layers,
    removal_order,
    zero_scores,
)

A, B = np.array([3.0, 1.0, 2.0, 4.0]), np.array([0.5, 0.6])
NEURONS = dict(a='neuron', b='neuron')


@pytest.mark.parametrize('scope, expected', [
    # the largest of each layer stays; by layer, a loses one at 1/4, 2/4, 3/4 and b at 1/2
    ('global', [('b', 0), ('a', 1), ('a', 2), ('a', 0)]),
    ('layer', [('a', 1), ('a', 2), ('b', 0), ('a', 0)]),
])
def test_removal_order(scope, expected):
    assert removal_order(dict(a=A, b=B), NEURONS, scope) == expected


def test_blocks_are_one_layer_and_all_may_be_removed():
    scores = dict(x=np.array([2.0]), n=np.array([9.0, 8.0]), y=np.array([1.0]))
    kinds = dict(x='block', n='neuron', y='block')
    assert ranked_layers(kinds) == {'': ['x', 'y'], 'n': ['n']}
    assert removal_order(scores, kinds, 'global') == [('y', 0), ('x', 0), ('n', 1)]
    assert removal_order(scores, kinds, 'layer') == [('y', 0), ('n', 1), ('x', 0)]


def test_equal_scores_are_removed_in_forward_order():
    same = dict(a=np.zeros(3), b=np.zeros(3))
    assert removal_order(same, NEURONS, 'global') == [('a', 0), ('a', 1), ('b', 0), ('b', 1)]


def test_normalised_layers(make_case):
    case = make_case(('neuron', 'block'))
    scores = {unit.name: np.full(unit.size, 3.0) for unit in case.units}
    found = normalised(scores, case.units)
    for unit in case.units:
        expected = 1 / np.sqrt(3 if unit.kind == 'block' else unit.size)
        np.testing.assert_allclose(found[unit.name], expected)


def conv_macs(kept, size=8):
    """MACs of the narrow cifar_resnet20, by hand, given the neurons left in each block."""
    shapes = [(16, 8, size), (8, 8, size // 2), (8, 16, size // 4)]      # inputs, outputs, side
    inner = sum(9 * side * side * k * (i + o) for k, (i, o, side) in zip(kept, shapes))
    stem, shortcuts = 9 * 16 * size ** 2, sum(i * o * side ** 2 for i, o, side in shapes)
    return inner + stem + shortcuts + 16 * 10


@pytest.mark.parametrize('target', [0.95, 0.8, 0.5, 0.3])
def test_fewest_that_meet_the_budget(target, make_case):
    case = make_case()
    scores = {unit.name: np.arange(unit.size, dtype='float64') for unit in case.units}
    masks = meet_budget(case.net, case.input_shape, scores, target, 'global')
    rows = removal_order(scores, {unit.name: 'neuron' for unit in case.units}, 'global')
    sizes, share = {unit.name: unit.size for unit in case.units}, []
    whole = conv_macs(list(sizes.values()))
    for name, _ in [(None, None)] + rows:
        if name:
            sizes[name] -= 1
        share.append(conv_macs(list(sizes.values())) / whole)
    fewest = next(i for i, left in enumerate(share) if left <= target)
    assert sum(int((~mask).sum()) for mask in masks.values()) == fewest
    assert MaskedCounter(case.net, case.input_shape).share(masks).macs == pytest.approx(share[fewest], abs=1e-12)
    assert {name: np.flatnonzero(~mask).tolist() for name, mask in masks.items()} == \
        {name: sorted(i for n, i in rows[:fewest] if n == name) for name in sizes}


@pytest.mark.parametrize('scores, target, removed', [
    ([1, 2, 3, 4], 0.6, [0, 2]),    # a, b and c have to go, which leaves 0.45; b fits again, c and a do not
    ([4, 3, 2, 1], 0.61, [2, 3]),
    ([1, 2, 3, 4], 0.46, [0, 1, 2]),
    ([2, 1, 3, 4], 0.8, [0]),
    ([1, 2, 3, 4], 1.0, []),
])
def test_blocks_that_still_fit_come_back(scores, target, removed, monkeypatch):
    """Blocks that cost 0.25, 0.1, 0.2 and 0.2 of the MACs."""
    cost = np.array([0.25, 0.1, 0.2, 0.2])
    names = list('abcd')

    class Counter:
        def __init__(self, net, input_shape):
            pass

        def share(self, masks):
            return SimpleNamespace(macs=1 - sum(cost[names.index(name)] for name in names if not masks[name][0]))

    monkeypatch.setattr(ranking, 'MaskedCounter', Counter)
    monkeypatch.setattr(ranking, 'scaling_factors', lambda net: [SimpleNamespace(name=n, kind='block') for n in names])
    masks = meet_budget(None, None, {name: np.array([float(s)]) for name, s in zip(names, scores)}, target, 'global')
    assert [i for i, name in enumerate(names) if not masks[name][0]] == removed


def test_a_budget_that_cannot_be_met(make_case):
    case = make_case()
    scores = {unit.name: np.ones(unit.size) for unit in case.units}
    with pytest.raises(SSSError, match=r'target_macs=0.1 cannot be met.* 29 structures.* 0\.\d+ of the MACs'):
        meet_budget(case.net, case.input_shape, scores, 0.1, 'layer')


def test_zeros_are_exact_and_leave_one(make_case):
    case = make_case()
    scores = {unit.name: np.array([0.0, 1e-30, *np.zeros(unit.size - 2)]) for unit in case.units[:1]}
    scores.update({unit.name: np.zeros(unit.size) for unit in case.units[1:]})
    masks = zero_scores(case.net, scores)
    assert [int(mask.sum()) for mask in masks.values()] == [1, 1, 1]
    assert masks[case.units[0].name].tolist() == [False, True] + [False] * 6
