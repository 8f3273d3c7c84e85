"""SSL, slimming and ISTA during training: one step checked by hand, and exact zeros at the end."""
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from sss_gluon import SSSError, get_model, make_trainer
from sss_gluon.deploy import load_run, prune
from sss_gluon.methods import ista, slimming, ssl, train

SHAPE = (1, 1, 8, 8)
NARROW = dict(depths=[1, 1, 1], widths=[8, 8, 16])
LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def quiet(line):
    pass


def network(fill, *kinds, model='cifar_resnet20', contexts=None, **options):
    net = fill(get_model(model, 10, kinds, 1, **(options or NARROW)), 0)
    if contexts:
        net.collect_params().reset_ctx(contexts)
    return net


def value(net, name):
    return net._collect_params_with_prefix()[name].list_data()[0].asnumpy().astype('float64')


def backward(net, contexts=None):
    random = np.random.RandomState(0)
    for context in contexts or [mx.cpu()]:
        x = mx.nd.array(random.standard_normal((6, 1, 8, 8)), context)
        y = mx.nd.array(random.randint(0, 10, 6), context)
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()


def test_group_lasso_step_by_hand(fill):
    net = network(fill, 'neuron')
    names = ['stage2.0.conv1.weight', 'stage2.0.norm2.gamma', 'stage2.0.norm2.beta']
    before = [value(net, name) for name in names]
    rate, strength = 0.25, 6.0
    ssl.GroupLasso(net, SHAPE, dict(strength=strength)).after_update(rate)
    zero = 0
    for j in range(8):
        norm = np.sqrt(sum(np.square(array[j]).sum() for array in before))      # with the root
        scale = max(0.0, 1 - rate * strength / norm)
        zero += scale == 0
        for name, array in zip(names, before):
            np.testing.assert_allclose(value(net, name)[j], scale * array[j], rtol=1e-5, atol=1e-7)
    assert 0 < zero < 8


def test_group_lasso_on_groups_and_blocks(fill):
    net = network(fill, 'group', 'block', model='cifar_resnext20', depths=[1, 1, 1], widths=[8, 16, 24], groups=4)
    parts = {'stage2.0.norm2': ['conv2.weight', 'norm2.gamma', 'norm2.beta'],
             'stage2.0.norm3': ['conv3.weight', 'norm3.gamma', 'norm3.beta']}
    penalty = ssl.GroupLasso(net, SHAPE, dict(strength=1.0))
    found = penalty.values()
    for (name, own), size in zip(parts.items(), (4, 1)):
        rows = np.concatenate([value(net, f'stage2.0.{part}').reshape(size, -1) for part in own], axis=1)
        np.testing.assert_allclose(found[name], np.linalg.norm(rows, axis=1), rtol=1e-6)
    penalty.after_update(100.0)
    assert all((array == 0).all() for array in penalty.values().values())


def test_whole_groups_become_zero_and_are_removed_without_a_threshold(configure):
    run = train(configure(method='ssl', method_options=dict(strength=0.6, kinds=['neuron']), epochs=3,
                          learning_rate=0.1), quiet)
    net = load_run(run.path).net
    last, zero, alive = run.factors.rows()[-1], 0, 0
    for i, stage in enumerate((net.stage1, net.stage2, net.stage3), 1):
        block = stage[0]
        for j in range(block.norm2.gamma.shape[0]):
            arrays = [block.conv1.weight.data()[j], block.norm2.gamma.data()[j], block.norm2.beta.data()[j]]
            sizes = [float(np.abs(array.asnumpy()).max()) for array in arrays]
            removed = sizes[0] == 0
            zero, alive = zero + removed, alive + (not removed)
            assert (sizes[1] == 0) == (sizes[2] == 0) == removed       # together, and exactly
            assert (float(last[f'stage{i}.0.norm2[{j}]']) == 0) == removed
    assert zero > 0 and alive > 0
    row = run.metrics.rows()[-1]
    assert (int(row['neurons_alive']), int(row['neurons'])) == (alive, 32)
    small = prune(run.path, quiet)
    assert small.structure.removed() == {'neuron': zero} and small.max_difference < 1e-5
    assert small.after.macs == int(row['macs_left'])
    said = []       # SSL with fine-tuning removes only the zeros
    tuned = train(configure('tuned', method='ssl', method_options=dict(kinds=['neuron']), source=str(run.path)),
                  said.append)
    assert f'{zero} of 32 structures' in said[0]
    assert prune(tuned.path, quiet).after.macs == small.after.macs


def test_slimming_adds_the_subgradient(fill):
    """In one Nesterov step γ moves by −η(1 + μ)·s·sign(γ) more than without the penalty, and is not decayed."""
    moved = {}
    for strength in (0.0, 0.03):
        net = network(fill, 'neuron')
        net.stage1[0].norm2.gamma.set_data(mx.nd.array([1, -1, 0, 2, -2, 0.5, 0, 1]))
        penalty = slimming.Subgradient(net, SHAPE, dict(strength=strength))
        trainer = make_trainer(net, learning_rate=0.1, momentum=0.9, wd=0.01)
        backward(net)
        penalty.before_update(6)
        trainer.step(6)
        penalty.after_update(0.1)
        moved[strength] = {name: value(net, f'stage1.0.{name}')
                           for name in ('norm2.gamma', 'norm2.beta', 'norm1.gamma')}
        assert net.stage1[0].norm2.gamma.wd_mult == 0 and net.stage1[0].norm1.gamma.wd_mult == 1
    change = moved[0.03]['norm2.gamma'] - moved[0.0]['norm2.gamma']
    np.testing.assert_allclose(change, -0.1 * 1.9 * 0.03 * np.array([1, -1, 0, 1, -1, 1, 0, 1]), atol=1e-6)
    for name in ('norm2.beta', 'norm1.gamma'):
        np.testing.assert_array_equal(moved[0.03][name], moved[0.0][name])


def test_slimming_on_two_devices_is_slimming_on_one(fill):
    contexts = [mx.cpu(0), mx.cpu(1)]
    moved = {}
    for strength in (0.0, 0.03):
        net = network(fill, 'neuron', contexts=contexts)
        penalty = slimming.Subgradient(net, SHAPE, dict(strength=strength))
        trainer = make_trainer(net, learning_rate=0.1, momentum=0.9)
        backward(net, contexts)
        penalty.before_update(12)
        trainer.step(12)
        moved[strength] = [array.asnumpy() for array in net.stage1[0].norm2.gamma.list_data()]
    np.testing.assert_array_equal(*moved[0.03])
    np.testing.assert_allclose(moved[0.03][0] - moved[0.0][0], -0.1 * 1.9 * 0.03, atol=1e-6)


@pytest.mark.parametrize('module', [ssl.GroupLasso, ista.SoftThreshold])
def test_proximal_steps_reach_every_device(module, fill):
    net = network(fill, 'neuron', contexts=[mx.cpu(0), mx.cpu(1)])
    before = value(net, 'stage2.0.norm2.gamma')
    module(net, SHAPE, dict(strength=1.0, rescale=1.0)).after_update(0.7)
    one, other = (array.asnumpy() for array in net.stage2[0].norm2.gamma.list_data())
    np.testing.assert_array_equal(one, other)
    assert (np.abs(one) < before).all()


def test_ista_soft_threshold_by_hand(fill):
    net = network(fill, 'neuron')
    net.stage1[0].norm2.gamma.set_data(mx.nd.array([1, -1, 0.05, -0.05, 0.1, 0, 0.3, -0.2]))
    others = value(net, 'stage1.0.norm1.gamma')
    ista.SoftThreshold(net, SHAPE, dict(strength=0.5, rescale=1.0)).after_update(0.2)       # ηρ = 0.1
    np.testing.assert_allclose(value(net, 'stage1.0.norm2.gamma'), [0.9, -0.9, 0, 0, 0, 0, 0.2, -0.1], atol=1e-7)
    assert (value(net, 'stage1.0.norm2.gamma')[2:6] == 0).all()
    np.testing.assert_array_equal(value(net, 'stage1.0.norm1.gamma'), others)


def test_rescaling_does_not_change_the_function(fill, batch, difference):
    net = network(fill, 'neuron')
    x = batch(4, 1, 8, 8)
    gamma, weight, expected = value(net, 'stage2.0.norm2.gamma'), value(net, 'stage2.0.conv2.weight'), net(x)
    ista.SoftThreshold(net, SHAPE, dict(strength=1.0, rescale=0.25))
    assert difference(expected, net(x)) < 1e-5
    np.testing.assert_allclose(value(net, 'stage2.0.norm2.gamma'), 0.25 * gamma)
    np.testing.assert_allclose(value(net, 'stage2.0.conv2.weight'), 4 * weight)
    with pytest.raises(SSSError, match='rescale=0 must be more than 0'):
        ista.SoftThreshold(net, SHAPE, dict(strength=1.0, rescale=0))


def test_ista_trains_gammas_to_zero_and_removes_them(configure):
    run = train(configure(method='ista', method_options=dict(strength=0.3), epochs=3, learning_rate=0.1), quiet)
    row = run.metrics.rows()[-1]
    zero = int(row['neurons']) - int(row['neurons_alive'])
    assert 0 < zero < 32
    said = []
    tuned = train(configure('tuned', method='ista', source=str(run.path)), said.append)
    left = [line for line in said if line.startswith('ista: ')]
    removed = int(re.search(r'(\d+) of 32 structures', left[0]).group(1))
    assert zero - 3 <= removed <= zero      # the last one of each of three layers may have to stay
    assert any('constants of removed channels' in line for line in said)
    assert prune(tuned.path, quiet).structure.removed() == {'neuron': removed}


def test_factors_stay_at_one_and_do_not_train(configure):
    run = train(configure(method='slimming', method_options=dict(strength=0.01)), quiet)
    net = load_run(run.path).net
    assert run.config().factors == ['neuron'] and (net.stage1[0].norm2.factor.data().asnumpy() == 1).all()
    first = float(run.factors.rows()[-1]['stage1.0.norm2[0]'])
    assert first == pytest.approx(abs(float(net.stage1[0].norm2.gamma.data()[0].asscalar())), rel=1e-6)
