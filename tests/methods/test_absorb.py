"""Constants of removed channels, absorbed by the layers that read them."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, SSSError
from sss_gluon.methods.absorb import absorb_constants


def outputs(case, masks):
    return case.pruned(masks).run(case.images(8).x)[0]


def without_gamma(case, masks, x):
    """Outputs of the network itself with gamma = 0 in removed channels, so that it computes their constants."""
    saved = {}
    for name, parameter in case.net._collect_params_with_prefix().items():
        owner = name.rpartition('.')[0]
        if name.endswith('gamma') and owner in masks:
            saved[name] = parameter, parameter.data().copy()
            keep = np.repeat(masks[owner], parameter.shape[0] // masks[owner].size)
            parameter.set_data(parameter.data() * mx.nd.array(keep))
    outputs = case.net(mx.nd.array(x)).asnumpy()
    for parameter, value in saved.values():
        parameter.set_data(value)
    return outputs


def sequence(fill, *layers, inner=6):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(inner, 3, padding=1, in_channels=1), ScaledBatchNorm(inner), nn.Activation('relu'), *layers)
    return fill(net, 0)


LAYERS = {
    'bias of a convolution': lambda: [nn.Conv2D(5, 3, in_channels=6), nn.Flatten(), nn.Dense(10, in_units=5 * 36)],
    'strides and dilation': lambda: [nn.Conv2D(5, 3, strides=2, dilation=2, in_channels=6), nn.Flatten(),
                                     nn.Dense(10, in_units=5 * 4)],
    'batch norm': lambda: [nn.Conv2D(5, 1, use_bias=False, in_channels=6), nn.BatchNorm(in_channels=5),
                           nn.Activation('relu'), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(10, in_units=5)],
    'max pool': lambda: [nn.MaxPool2D(), nn.Conv2D(5, 1, in_channels=6), nn.GlobalAvgPool2D(), nn.Flatten(),
                         nn.Dense(10, in_units=5)],
    'dense over positions': lambda: [nn.Flatten(), nn.Dense(10, in_units=6 * 64)],
    'a second one after it': lambda: [nn.Conv2D(5, 1, use_bias=False, in_channels=6), ScaledBatchNorm(5),
                                    nn.Activation('relu'), nn.GlobalAvgPool2D(), nn.Flatten(),
                                    nn.Dense(10, in_units=5)],
}


@pytest.mark.parametrize('name', LAYERS)
def test_exact_without_padding(name, make_case, fill):
    case = make_case(net=sequence(fill, *LAYERS[name]()), constants='exact')
    masks = {unit.name: np.arange(unit.size) % 2 == 0 for unit in case.units}
    expected, dropped = without_gamma(case, masks, case.images(8).x), outputs(case, masks)
    result = absorb_constants(case, masks)
    assert len(result['exact']) == len(case.units) and not result['approximate'] + result['dropped']
    size = np.abs(expected).max()
    assert np.abs(dropped - expected).max() > 1e-2 * size       # there was something to absorb
    assert np.abs(outputs(case, masks) - expected).max() < 2e-6 * size and result['error'] < 1e-6


def test_a_layer_of_constants_only_is_not_counted_twice(make_case, fill):
    """All γ of the first layer are zero and one of its channels stays, so the second layer is constant too."""
    case = make_case(net=sequence(fill, *LAYERS['a second one after it']()), constants='exact')
    case.net[1].gamma.set_data(mx.nd.zeros(6))
    case = make_case(net=case.net, constants='exact')
    masks = {case.units[0].name: np.arange(6) == 3, case.units[1].name: np.arange(5) != 2}
    expected = without_gamma(case, masks, case.images(8).x)
    result = absorb_constants(case, masks)
    assert np.abs(outputs(case, masks) - expected).max() < 2e-6 * np.abs(expected).max() and result['error'] < 1e-6


def test_groups_of_resnext_are_exact(make_case):
    case = make_case(('group',), 'cifar_resnext20', constants='exact')
    masks = {unit.name: np.array([True, False, False, True]) for unit in case.units}
    expected = without_gamma(case, masks, case.images(8).x)
    result = absorb_constants(case, masks)
    assert result['exact'] == ['stage1_0_conv3', 'stage2_0_conv3', 'stage3_0_conv3']
    assert np.abs(outputs(case, masks) - expected).max() < 2e-6 * np.abs(expected).max()


def test_padding_is_an_approximation_whose_error_is_stated(make_case, fill):
    said = []
    layers = [nn.Conv2D(5, 3, padding=1, in_channels=6), nn.Flatten(), nn.Dense(10, in_units=5 * 64)]
    case = make_case(net=sequence(fill, *layers), log=said.append)
    masks = {'1': np.arange(6) % 2 == 0}
    x = case.images(64).x
    expected, dropped = without_gamma(case, masks, x), case.pruned(masks).run(x)[0]
    result = absorb_constants(case, masks)
    found = case.pruned(masks).run(x)[0]
    consumer = case.layer_graph.consumer(case.units[0]).name
    assert result['approximate'] == [consumer] and not result['exact'] + result['dropped']
    error = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
    assert result['error'] == pytest.approx(error, rel=1e-3) and error > 1e-3
    assert error < np.sqrt(np.square(dropped - expected).mean() / np.square(expected).mean())
    assert len(said) == 1 and 'zero padding' in said[0] and f'{result["error"]:.1e}' in said[0]


def test_through_additions_to_every_batch_norm_that_reads_them(make_case):
    """In pre-activation blocks conv2 has no BatchNorm of its own; later running means absorb its offset."""
    case = make_case()
    masks = {unit.name: np.arange(unit.size) % 2 == 0 for unit in case.units}
    means = {name: p.data().asnumpy() for name, p in case.net._collect_params_with_prefix().items() if 'mean' in name}
    expected, dropped = without_gamma(case, masks, case.images(8).x), outputs(case, masks)
    result = absorb_constants(case, masks)
    assert result['approximate'] == ['stage1_0_conv2', 'stage2_0_conv2', 'stage3_0_conv2'] and not result['dropped']
    moved = {name for name, p in case.net._collect_params_with_prefix().items()
             if name in means and (p.data().asnumpy() != means[name]).any()}
    assert moved == {'stage2.0.norm1.running_mean', 'stage3.0.norm1.running_mean', 'norm.running_mean'}
    assert np.square(outputs(case, masks) - expected).mean() < 0.7 * np.square(dropped - expected).mean()


def test_exact_refuses_padding(make_case):
    case = make_case(constants='exact')
    masks = {unit.name: np.arange(unit.size) > 0 for unit in case.units}
    case.net.stage1[0].norm2.beta.set_data(mx.nd.ones(8))
    case = make_case(net=case.net, constants='exact')
    with pytest.raises(SSSError, match='stage1_0_conv2 cannot absorb .* pads with zeros'):
        absorb_constants(case, masks)


def test_zero_constants_need_no_absorbing(make_case):
    """With β below zero the ReLU outputs 0."""
    case = make_case(constants='exact')
    for stage in (case.net.stage1, case.net.stage2, case.net.stage3):
        stage[0].norm2.beta.set_data(-mx.nd.ones(stage[0].norm2.beta.shape))
    case = make_case(net=case.net, constants='exact')
    result = absorb_constants(case, {unit.name: np.arange(unit.size) > 0 for unit in case.units})
    assert not result['exact'] + result['approximate'] + result['dropped'] and result['error'] < 1e-6
