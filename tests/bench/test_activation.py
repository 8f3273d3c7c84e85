"""The formulation that is compared with computes the same function, with the same gradients."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from sss_gluon import SSSError, get_model, scaling_factors
from sss_gluon.bench import training
from sss_gluon.bench.activation import activation_scaled, copy_parameters
from sss_gluon.bench.settings import Settings


@pytest.fixture
def pair(fill, narrow):
    """A function that makes a network in both formulations, same parameters, factors anywhere from 0.5 to 1.5."""
    def make(name):
        options, size = narrow[name]
        folded, scaled = fill(get_model(name, **options)), activation_scaled(name, **options)
        scaled.initialize()
        random = np.random.RandomState(2)
        for factor in scaling_factors(folded):
            factor.parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, factor.parameter.shape)))
        copy_parameters(folded, scaled)
        return folded, scaled, size
    return make


@pytest.mark.parametrize('name', ['cifar_resnet20', 'cifar_resnext164', 'cifar_vgg16'])
@pytest.mark.parametrize('training_mode', [True, False])
def test_outputs_and_gradients_are_those_of_the_folded_network(name, training_mode, pair, batch, difference):
    folded, scaled, size = pair(name)
    x, outputs, gradients = batch(4, 3, size, size), [], []
    for net in (folded, scaled):
        with autograd.record(train_mode=training_mode):
            output = net(x)
        output.backward(mx.nd.arange(output.size).reshape(output.shape))
        outputs.append(output)
        gradients.append([factor.parameter.grad() for factor in scaling_factors(net)])
    assert difference(*outputs) < 1e-4
    assert len(gradients[0]) == len(gradients[1]) > 0
    for expected, found in zip(*gradients) if training_mode else ():    # MXNet's max-pool has none in inference mode
        assert difference(expected, found) < 1e-3


def test_every_factor_is_an_operation_on_activations(pair):
    folded, scaled, _ = pair('cifar_resnext164')
    kinds = [[factor.kind for factor in scaling_factors(net)] for net in (folded, scaled)]
    assert kinds[0] == kinds[1] and {'group', 'block'} == set(kinds[0])
    assert 'ScaledOutput' in str(scaled) and 'ScaledConv2D' not in str(scaled) and 'ScaledBatchNorm' not in str(scaled)


def test_the_benchmark_refuses_to_compare_different_functions(monkeypatch):
    settings = Settings(quick=True)
    folded = settings.net('cifar_resnet20')
    before = {factor.name: factor.values() for factor in scaling_factors(folded)}
    net = training.same_with_activations(settings, 'cifar_resnet20', folded, (2, 3, 32, 32))
    assert all((factor.values() == before[factor.name]).all() for factor in scaling_factors(folded))
    assert [f.values().tolist() for f in scaling_factors(net)] == [v.tolist() for v in before.values()]

    def copy_and_spoil(source, target):
        copy_parameters(source, target)
        factor = scaling_factors(target)[0].parameter
        factor.set_data(factor.data() * 1.01)

    monkeypatch.setattr(training, 'copy_parameters', copy_and_spoil)
    with pytest.raises(SSSError, match='so their times cannot be compared'):
        training.same_with_activations(settings, 'cifar_resnet20', folded, (2, 3, 32, 32))
