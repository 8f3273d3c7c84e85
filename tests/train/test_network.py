"""The network of a run: new, and with padded images."""
import numpy as np
import pytest

from sss_gluon import scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.train.network import build_network, load_data
from sss_gluon.train.parameters import named_parameters


def values(net):
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in named_parameters(net)}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize('model, size', [('cifar_resnet20', 16), ('cifar_vgg16', 32), ('resnet50', 32), ('a:b', 16)])
def test_images_are_padded_where_the_network_needs_it(configure, model, size):
    data = load_data(configure(model=model, image_size=16))
    assert data.shape == (1, size, size) and len(data.validation) == len(data.test) == 300


def test_seed_decides_the_weights(configure):
    nets = [build_network(configure(seed=seed), load_data(configure())) for seed in (0, 0, 1)]
    first, same, other = map(values, nets)
    assert_equal(same, first)
    assert all((other[name] != first[name]).any() for name in first if name.endswith('weight'))
    weight = first['stage3.0.conv2.weight']             # N(0, 2/fan_in)
    assert weight.std() == pytest.approx(np.sqrt(2 / (16 * 9)), rel=0.05)
    assert all((factor.values() == 1).all() for factor in scaling_factors(nets[0]))


def test_settings_of_the_model(configure):
    config = configure(factors=['neuron'], model_options=dict(depths=[1, 2], widths=[4, 6]))
    net = build_network(config, load_data(config))
    assert [factor.name for factor in scaling_factors(net)] == ['stage1.0.norm2', 'stage2.0.norm2', 'stage2.1.norm2']
    with pytest.raises(SSSError, match='widht'):
        build_network(configure(model_options=dict(widht=[1])), load_data(config))
