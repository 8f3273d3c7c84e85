"""ThiNet and LASSO pruning: patches that a layer reads, ranking, least squares."""
from itertools import combinations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, SSSError, get_model
from sss_gluon.graph.ir import Entry, evaluate
from sss_gluon.methods import lasso, thinet
from sss_gluon.methods.reconstruction import least_squares, patches

RANDOM = np.random.RandomState(0)


def layer_output(case, layer, images):
    program = case.layer_graph.program
    return evaluate([Entry(layer)], dict(program.values, data=images))[0]


@pytest.mark.parametrize('model, kinds, factor', [
    ('cifar_resnet20', ('neuron',), 'stage2.0.norm2'),      # read by a 3x3 with padding
    ('cifar_resnext20', ('group',), 'stage2.0.norm2'),      # read by a 1x1
])
def test_patches_times_weight_are_the_outputs_of_the_layer(model, kinds, factor, make_case):
    case = make_case(kinds, model)
    unit = next(unit for unit in case.units if unit.name == factor)
    consumer, images = case.layer_graph.consumer(unit), case.images().x
    x = patches(case.layer_graph.program, consumer, images, 300, seed=0)
    weight = case.layer_graph.program.value(consumer.inputs[1])
    found = np.einsum('nct,oct->no', x, weight.reshape(len(weight), x.shape[1], -1)).reshape(len(images), 300, -1)
    output = layer_output(case, consumer, images)
    for n in range(len(images)):        # every sample is the output at some place, and all places are drawn
        columns = output[n].reshape(output.shape[1], -1).T
        nearest = np.abs(found[n][:, None] - columns[None]).max(axis=2)
        assert nearest.min(axis=1).max() < 1e-4
        assert len(set(nearest.argmin(axis=1))) == len(columns)


def test_patches_of_a_stride_and_of_a_dense_layer(make_case, fill):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=1), ScaledBatchNorm(4), nn.Activation('relu'),
            nn.Conv2D(6, (3, 2), strides=(2, 1), padding=(1, 0), dilation=(1, 2), in_channels=4), ScaledBatchNorm(6),
            nn.Activation('relu'), nn.MaxPool2D(), nn.Flatten(), nn.Dense(10, in_units=12))
    case = make_case(net=fill(net, 0))
    for unit in case.units:
        consumer, images = case.layer_graph.consumer(unit), case.images().x
        x = patches(case.layer_graph.program, consumer, images, 100, seed=0)
        weight, bias = (case.layer_graph.program.value(entry) for entry in consumer.inputs[1:3])
        found = np.einsum('nct,oct->no', x, weight.reshape(len(weight), x.shape[1], -1)) + bias
        output = layer_output(case, consumer, images).reshape(len(images), len(weight), -1)
        found = found.reshape(len(images), -1, len(weight))
        for n in range(len(images)):
            assert np.abs(found[n][:, None] - output[n].T[None]).max(axis=2).min(axis=1).max() < 1e-4


def test_greedy_is_the_brute_force_of_each_step():
    x = RANDOM.standard_normal((40, 7)) * np.linspace(0.5, 2, 7) + 0.3
    removed = []
    for j in thinet.greedy_order(x):
        left = [k for k in range(7) if k not in removed]
        errors = {k: np.square(x[:, removed + [k]].sum(axis=1)).sum() for k in left}
        assert j == min(errors, key=errors.get)
        removed.append(j)
    assert sorted(removed) == list(range(7))


def test_greedy_finds_the_best_set_where_contributions_do_not_cancel():
    """With orthogonal contributions greedy finds, for each size, the set with the least error."""
    x = np.linalg.qr(RANDOM.standard_normal((30, 6)))[0] * np.array([3, 1, 2.5, 0.5, 2, 1.5])
    order = thinet.greedy_order(x)
    for size in range(1, 6):
        best = min(combinations(range(6), size), key=lambda t: np.square(x[:, list(t)].sum(axis=1)).sum())
        assert set(order[:size]) == set(best)


def test_channels_that_cancel_go_together():
    a = RANDOM.standard_normal(50)
    x = np.stack([a, RANDOM.standard_normal(50) * 5, -a, RANDOM.standard_normal(50) * 4], axis=1)
    assert set(thinet.greedy_order(x)[:2]) == {0, 2}


def test_each_contribution_is_to_one_output():
    x, weight = RANDOM.standard_normal((20, 4, 9)), RANDOM.standard_normal((3, 4, 3, 3))
    found = thinet.contributions(x, weight, 2, seed=5)
    outputs = np.random.default_rng(5).integers(0, 3, 20)
    for s in range(20):
        each = [(x[s, c] * weight[outputs[s], c].ravel()).sum() for c in range(4)]
        np.testing.assert_allclose(found[s], [each[0] + each[1], each[2] + each[3]])


def half(case):
    return {unit.name: np.arange(unit.size) % 2 == 0 for unit in case.units}


def error_of(case, masks, factor):
    """Mean squared error of the consumer of a factor's structures after pruning."""
    unit = next(unit for unit in case.units if unit.name == factor)
    consumer, images = case.layer_graph.consumer(unit), case.images().x
    now = case.pruned(masks)
    node = next(n for n in now.nodes() if n.name == consumer.name)
    found = evaluate([Entry(node)], dict(now.values, data=images))[0]
    return np.square(found - layer_output(case, consumer, images)).mean()


@pytest.mark.parametrize('method', [thinet, lasso])
@pytest.mark.parametrize('model, kinds', [('cifar_resnet20', ('neuron',)), ('cifar_resnext20', ('group',))])
def test_adjusting_brings_the_next_layer_nearer(method, model, kinds, make_case):
    case = make_case(kinds, model, images=64, positions=10)
    masks = half(case)
    first = case.units[0].name     # inputs of later units change with the units before them
    before = error_of(case, masks, first)
    method.adjust(case, masks)
    assert error_of(case, masks, first) < before * (0.9 if method is lasso else 0.995)


def test_thinet_rescales_by_least_squares(make_case):
    """Checks the first layer, whose input no pruning changes."""
    case = make_case(images=32, positions=8)
    unit, masks = case.units[0], half(case)
    consumer = case.layer_graph.consumer(unit)
    x = patches(case.layer_graph.program, consumer, case.images().x, 8, 0)
    z = thinet.contributions(x, case.layer_graph.program.value(consumer.inputs[1]), 8, 0)
    expected = np.linalg.lstsq(z[:, ::2], z.sum(axis=1), rcond=None)[0]
    old = case.layer_graph.program.value(consumer.inputs[1])
    thinet.adjust(case, masks)
    new = case.net.stage1[0].conv2.weight.data().asnumpy()
    for i, alpha in enumerate(expected):
        np.testing.assert_allclose(new[:, 2 * i], alpha * old[:, 2 * i], rtol=0.05, atol=1e-3)
    np.testing.assert_array_equal(new[:, 1::2], old[:, 1::2])


def test_lasso_reconstruction_is_the_least_squares_solution(make_case):
    case = make_case(images=64, positions=20)
    unit, masks = case.units[0], half(case)
    consumer = case.layer_graph.consumer(unit)
    x = patches(case.layer_graph.program, consumer, case.images().x, 20, 0).astype('float64')
    weight = case.layer_graph.program.value(consumer.inputs[1]).reshape(8, -1).astype('float64')
    target, half_x = x.reshape(len(x), -1) @ weight.T, x[:, ::2].reshape(len(x), -1)
    best = np.square(half_x @ np.linalg.lstsq(half_x, target, rcond=None)[0] - target).mean()
    lasso.adjust(case, masks)
    new = case.net.stage1[0].conv2.weight.data().asnumpy()[:, ::2].reshape(8, -1)
    found = np.square(half_x @ new.T - target).mean()
    assert best <= found + 1e-9 and found < 1.15 * best + 1e-6
    assert found < 0.5 * np.square(half_x @ weight.reshape(8, 8, 9)[:, ::2].reshape(8, -1).T - target).mean()


@pytest.mark.parametrize('penalty', [1e-3, 0.02, 0.1, 0.4])
def test_lasso_against_scikit_learn(penalty):
    linear_model = pytest.importorskip('sklearn.linear_model')
    z = RANDOM.standard_normal((80, 6)) @ RANDOM.standard_normal((6, 6)) + RANDOM.standard_normal((80, 6)) * 0.3
    y = z.sum(axis=1)
    expected = linear_model.Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100000).fit(z, y).coef_
    found = lasso.coordinate_descent(z.T @ z / 80, z.T @ y / 80, penalty, np.zeros(6))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ((found == 0) == (expected == 0)).all()


def test_lasso_path_enters_as_in_scikit_learn():
    linear_model = pytest.importorskip('sklearn.linear_model')
    z = RANDOM.standard_normal((200, 5)) * np.array([1, 3, 2, 0.5, 4])
    first = lasso.entry_lambdas(z.T @ z / 200)
    _, paths, _ = linear_model.lasso_path(z, z.sum(axis=1), alphas=np.unique(first)[::-1], tol=1e-10)
    at = {alpha: column for alpha, column in zip(np.unique(first)[::-1], paths.T)}
    for i, alpha in enumerate(first):
        assert at[alpha][i] != 0
        assert all(column[i] == 0 for other, column in at.items() if other > alpha)
    assert np.argsort(first).tolist() == [3, 0, 2, 1, 4]


def test_gram_matrix_sums_over_all_outputs():
    x, weight = RANDOM.standard_normal((15, 6, 4)), RANDOM.standard_normal((3, 6, 4))
    z = np.einsum('nct,oct->nco', x, weight)
    z = z.reshape(15, 3, 2, 3).sum(axis=2)      # 3 structures of 2 channels
    expected = np.einsum('nio,njo->ij', z, z) / 15
    np.testing.assert_allclose(lasso.gram_matrix(x, weight, 3), expected)


def test_a_channel_without_contribution_goes_first(make_case):
    case = make_case()
    weight = case.net.stage2[0].conv2.weight
    value = weight.data().asnumpy()
    value[:, 5] = 0
    weight.set_data(mx.nd.array(value))
    case = make_case(net=case.net)
    for method in (thinet, lasso):
        assert method.score(case)['stage2.0.norm2'].argmin() == 5


def test_least_squares_without_ridge():
    x, y = RANDOM.standard_normal((30, 4)), RANDOM.standard_normal((30, 2))
    np.testing.assert_allclose(least_squares(x, y, 0.0), np.linalg.lstsq(x, y, rcond=None)[0])


def test_structures_that_several_layers_read_are_refused(make_case, fill):
    net = fill(get_model('peleenet', 10, ('neuron',), 1, depths=(1, 1, 1, 1)), 0)
    case = make_case(net=net, size=32)
    with pytest.raises(SSSError, match='the structures of stem.first.norm are read by .* not by'):
        thinet.score(case)
