"""GluonCV's networks: what gets factors, and that all of it can go."""
import mxnet as mx
import numpy as np
import pytest

import sss_gluon as sss

# name: (size, {kind: number of structures}), worked out from the published widths and depths. MobileNetV2: the stem,
# six times the width in front of each block but the first; of what is added to nothing, blocks 1 and 17 and the last
# layer.
INVERTED = [4, 6, 6, 8, 8, 8] + 4 * [16] + 3 * [24] + 3 * [40]
CASES = {
    'cifar_resnet20_v1': (32, {'neuron': 3 * (16 + 32 + 64), 'block': 9}),
    'cifar_resnet20_v2': (32, {'neuron': 3 * (16 + 32 + 64), 'block': 9}),
    'resnet18_v1b': (32, {'neuron': 2 * (64 + 128 + 256 + 512), 'block': 8}),
    'mobilenetv2_0.25': (32, {'neuron': 8 + 6 * sum(INVERTED) + 4 + 80 + 1280, 'block': 10}),
}


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('name', CASES)
def test_half_of_the_structures_go(name, fill):
    model_zoo = pytest.importorskip('gluoncv.model_zoo')
    size, counts = CASES[name]
    net, shape = model_zoo.get_model(name), (1, 3, size, size)
    net.initialize()
    table = sss.add_factors(net, input_shape=shape, log=None)
    assert table.counts() == counts
    net(mx.nd.zeros(shape))
    fill(net)
    for number, factor in enumerate(sss.scaling_factors(net)):
        size = factor.parameter.shape[0]
        factor.parameter.set_data(mx.nd.array(np.arange(size) % 2 if size > 1 else [number % 3 > 0]))
    small = sss.compact(net, shape)
    assert small.max_difference < 1e-4
    assert small.after.macs < 0.6 * small.before.macs


@pytest.mark.filterwarnings('ignore:Parameter .* is already initialized')
@pytest.mark.parametrize('hybrid', [False, True])
def test_scaled_norms_in_a_constructor(hybrid, fill):
    model_zoo = pytest.importorskip('gluoncv.model_zoo')
    net = model_zoo.get_model('resnet18_v1b', norm_layer=sss.ScaledBatchNorm)
    net.initialize()
    if hybrid:
        net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    factors = sss.scaling_factors(net)
    assert len(factors) == 20 and all((factor.values() == 1).all() for factor in factors)
    fill(net).layer1[0].bn1.factor.set_data(mx.nd.array(np.arange(64) % 4 == 0))
    small = sss.compact(net, (1, 3, 32, 32))
    assert small.structure.layers['layer1_0_conv1']['after'][0] == 16 and small.max_difference < 1e-4
