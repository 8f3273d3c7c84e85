"""Sizes of pruned networks that are never built: equal to those of ``compact``."""
import numpy as np
import pytest

from sss_gluon import SSSError, compact, count, get_model, scaling_factors
from sss_gluon.structures import MaskedCounter, masked_count


def masks_of(net, seed=0, keep=0.6):
    random = np.random.RandomState(seed)
    return {f.name: random.rand(*f.parameter.shape) < keep for f in scaling_factors(net)}


@pytest.mark.parametrize('name', ['cifar_resnet20', 'cifar_resnext20', 'cifar_vgg16', 'peleenet'])
def test_counts_are_those_of_the_compact_network(name, narrow, fill, set_factors):
    options, size = narrow[name]
    net = fill(get_model(name, classes=4, **options))
    shape = (1, 3, size, size)
    counter = MaskedCounter(net, shape)
    assert counter.dense == count(net, shape)
    for seed in (0, 1):
        masks = masks_of(net, seed)
        set_factors(net, {factor: mask.astype('float32') for factor, mask in masks.items()})
        left, small = counter.count(masks), compact(net, shape)
        assert (left.params, left.macs) == (small.after.params, small.after.macs)
        assert counter.share(masks) == (left.params / counter.dense.params, left.macs / counter.dense.macs)


def test_values_of_factors_are_masks_too(narrow, fill):
    options, size = narrow['cifar_resnet20']
    net = fill(get_model('cifar_resnet20', factors=('neuron', 'block'), **options))
    counter, masks = MaskedCounter(net, (1, 3, size, size)), masks_of(net)
    assert counter.count({name: mask * 0.25 for name, mask in masks.items()}) == counter.count(masks)
    whole = counter.count({})
    assert whole == counter.count({name: np.ones(mask.shape) for name, mask in masks.items()})
    assert (whole.params, whole.macs) == (counter.dense.params, counter.dense.macs)
    assert counter.share({}) == (1, 1)


def test_absent_factors_keep_the_values_of_the_network(narrow, fill, set_factors):
    options, size = narrow['cifar_resnet20']
    net = fill(get_model('cifar_resnet20', **options))
    shape = (1, 3, size, size)
    first, second = (factor.name for factor in scaling_factors(net)[:2])
    both = MaskedCounter(net, shape).count({first: np.zeros(1), second: np.zeros(1)})
    set_factors(net, {first: 0})
    counter = MaskedCounter(net, shape)
    assert counter.count({second: np.zeros(1)}) == both != counter.count({})


def test_a_choice_is_counted_once(narrow, fill, monkeypatch):
    options, size = narrow['cifar_resnet20']
    net = fill(get_model('cifar_resnet20', **options))
    counter, calls = MaskedCounter(net, (1, 3, size, size)), []
    pruned = masked_count.prune_graph
    monkeypatch.setattr(masked_count, 'prune_graph', lambda program: calls.append(1) or pruned(program))
    masks = masks_of(net)
    found = [counter.share(masks) for _ in range(3)]
    assert len(set(found)) == len(calls) == 1
    counter.share({})
    assert len(calls) == 2


def test_weights_that_are_new():
    """Without its first neurons, the rest of a block is a constant once it is trained, but 0 while its biases are 0."""
    net = get_model('cifar_resnet20', factors=('neuron',), depths=(1, 1, 1), widths=(4, 6, 8))
    net.initialize()
    name = scaling_factors(net)[0].name
    masks = {name: np.zeros(4)}
    new, trained = (MaskedCounter(net, (1, 3, 16, 16), weights).count(masks) for weights in ('current', 'nonzero'))
    assert new.macs <= trained.macs
    with pytest.raises(SSSError, match="weights='random'"):
        MaskedCounter(net, (1, 3, 16, 16), 'random')


@pytest.mark.parametrize('masks, key', [({'stage9.0.conv2': np.ones(1)}, 'stage9.0.conv2'),
                                        ({'stage1.0.conv2': np.ones(3)}, r'\(3,\)')])
def test_masks_of_another_network(masks, key):
    net = get_model('cifar_resnet20', depths=(1, 1, 1), widths=(4, 6, 8))
    net.initialize()
    with pytest.raises(SSSError, match=key):
        MaskedCounter(net, (1, 3, 16, 16)).count(masks)
