"""Criteria that rank a trained network, against values computed by hand."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from sss_gluon import SSSError
from sss_gluon.methods import apoz, bn_gamma, l1, random_pruning, taylor, uniform


def weights(case, name):
    return case.net._collect_params_with_prefix()[name].data().asnumpy().astype('float64')


def test_l1_sums_each_filter(make_case):
    case = make_case()
    weight = weights(case, 'stage2.0.conv1.weight')
    expected = [sum(abs(w) for w in weight[j].ravel()) for j in range(8)]
    np.testing.assert_allclose(l1.score(case)['stage2.0.norm2'], expected, rtol=1e-6)


def test_l1_of_groups_and_blocks(make_case):
    groups = make_case(('group',), 'cifar_resnext20')
    weight = weights(groups, 'stage1.0.conv2.weight')       # 4 channels in 4 groups
    np.testing.assert_allclose(l1.score(groups)['stage1.0.norm2'], np.abs(weight).sum(axis=(1, 2, 3)), rtol=1e-6)
    wide = weights(groups, 'stage2.0.conv2.weight')         # 8 channels in 4 groups
    np.testing.assert_allclose(l1.score(groups)['stage2.0.norm2'],
                               [np.abs(wide[2 * g:2 * g + 2]).sum() for g in range(4)], rtol=1e-6)
    blocks = make_case(('block',))
    np.testing.assert_allclose(l1.score(blocks)['stage3.0.conv2'],
                               np.abs(weights(blocks, 'stage3.0.conv2.weight')).mean(), rtol=1e-6)


@pytest.mark.parametrize('kinds, model', [(('neuron', 'block'), 'cifar_resnet20'),
                                          (('group', 'block'), 'cifar_resnext20')])
def test_taylor_is_the_derivative_of_the_loss_of_each_image(kinds, model, make_case):
    """Compared with central differences of the loss in λ, one image at a time."""
    case = make_case(kinds, model, images=3)
    loss, images = gluon.loss.SoftmaxCrossEntropyLoss(), case.images()

    def losses():
        return loss(case.net(mx.nd.array(images.x)), mx.nd.array(images.y)).asnumpy().astype('float64')

    found, checked = taylor.first_order(case), 0
    for unit in case.units:
        for i in range(0, unit.size, 3):
            ends = []
            for step in (1e-2, -1e-2):
                values = np.ones(unit.size)
                values[i] += step
                unit.factor.parameter.set_data(mx.nd.array(values))
                ends.append(losses())
            unit.factor.parameter.set_data(mx.nd.ones(unit.size))
            expected = (ends[0] - ends[1]) / 2e-2
            slack = 0.02 * np.abs(expected).max() + 1e-3
            np.testing.assert_allclose(found[unit.name][:, i], expected, rtol=0.1, atol=slack)
            checked += int((np.abs(expected) > 1e-2).sum())
    assert checked > 10


def test_taylor_scores_are_means_of_sizes_normalised_by_layer(make_case):
    case = make_case(images=5)
    changes = taylor.first_order(case)
    for name, score in taylor.score(case).items():
        mean = [sum(abs(changes[name][t][j]) for t in range(5)) / 5 for j in range(score.size)]
        np.testing.assert_allclose(score, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-7)
        assert np.linalg.norm(score) == pytest.approx(1)
    assert all((p.data().asnumpy() == 1).all() for _, _, p in [unit.factor for unit in case.units])


def test_apoz_counts_zeros_after_the_relu(make_case):
    case = make_case(images=70)         # two batches
    block, x = case.net.stage2[0], mx.nd.array(case.images().x)
    x = case.net.stage1(case.net.stem(x))
    y = block.relu2(block.norm2(block.conv1(block.relu1(block.norm1(x))))).asnumpy()
    assert y.shape == (70, 8, 4, 4)
    expected = [(y[:, j] == 0).sum() / (70 * 16) for j in range(8)]
    assert 0.05 < min(expected) < max(expected) < 0.99
    np.testing.assert_allclose(apoz.percentages(case)['stage2.0.norm2'], expected, atol=1e-3)
    np.testing.assert_allclose(apoz.score(case)['stage2.0.norm2'], 1 - np.array(expected), atol=1e-3)


def test_apoz_of_groups_is_the_mean_of_their_channels(make_case):
    case = make_case(('group',), 'cifar_resnext20', images=8)
    block, x = case.net.stage2[0], mx.nd.array(case.images().x)
    x = case.net.stage1(case.net.stem(x))
    y = block.relu2(block.norm2(block.conv2(block.relu1(block.norm1(block.conv1(x)))))).asnumpy()
    expected = [(y[:, 2 * g:2 * g + 2] == 0).mean() for g in range(4)]
    np.testing.assert_allclose(apoz.percentages(case)['stage2.0.norm2'], expected, atol=4e-3)


def test_slimming_and_ista_rank_by_gamma(make_case):
    case = make_case(('group',), 'cifar_resnext20')
    gamma = case.net.stage2[0].norm2.gamma
    gamma.set_data(mx.nd.array([1, -3, 0, 0, -0.5, 0.25, 2, 2]))
    np.testing.assert_array_equal(bn_gamma.score(case)['stage2.0.norm2'], [2, 0, 0.375, 2])


def test_slimming_needs_batch_norm(make_case):
    with pytest.raises(SSSError, match='stage1.0.conv2 is on a convolution.* BatchNorm'):
        bn_gamma.score(make_case(('block',)))


def test_random_depends_on_the_seed(make_case):
    first, again, other = (random_pruning.score(make_case(seed=seed)) for seed in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all()
    values = np.concatenate(list(first.values()))
    assert values.min() >= 0 and values.max() < 1 and len(set(values)) == values.size


def test_uniform_spreads_evenly():
    assert uniform.evenly(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert uniform.evenly(1).tolist() == [0]
    for size in (16, 33, 64):
        removed = np.sort(np.argsort(uniform.evenly(size))[:size // 2])
        assert len(set(removed)) == size // 2 and (np.diff(removed) <= 4).all()


def test_uniform_removes_blocks_over_the_depth(make_case):
    scores = uniform.score(make_case(('block',)))
    assert [float(score) for score in scores.values()] == [0, 2, 1]
    assert uniform.score(make_case(order='l1')).keys() == l1.score(make_case()).keys()
