"""GluonCV's networks for image classification, most of them written without pruning in mind.

Every name of ``gluoncv.model_zoo`` (0.10.5) that is a classifier is in one of the two tables. One network of each
family is tested; all of them, with values from another seed, where the environment has ZOO_SEED (see
scripts/property_tests.sh).
"""
import os
from typing import NamedTuple, Sequence

import mxnet as mx
import numpy as np
import pytest

from sss_gluon.structures import compact

SEED = os.environ.get('ZOO_SEED')


class Family(NamedTuple):
    """Names, the one for daily tests first; height and width of the input; operators that the pass does not know."""
    names: str
    size: int = 64
    unhandled: Sequence[str] = ()

    def tested(self):
        return self.names.split() if SEED else self.names.split()[:1]


FAMILIES = {
    'alexnet': Family('alexnet'),
    'attention': Family('residualattentionnet56 residualattentionnet92 residualattentionnet128 residualattentionnet164 '
                        'residualattentionnet200 residualattentionnet236 residualattentionnet452', 224, ['ones_like']),
    'cifar_attention': Family('cifar_residualattentionnet56 cifar_residualattentionnet92 cifar_residualattentionnet452',
                              32, ['ones_like']),
    'cifar_resnet': Family('cifar_resnet20_v2 cifar_resnet20_v1 cifar_resnet56_v1 cifar_resnet56_v2 cifar_resnet110_v1 '
                           'cifar_resnet110_v2', 32),
    'cifar_resnext': Family('cifar_resnext29_32x4d cifar_resnext29_16x64d', 32),
    'cifar_wide': Family('cifar_wideresnet16_10 cifar_wideresnet28_10 cifar_wideresnet40_8', 32),
    'darknet': Family('darknet53'),
    'densenet': Family('densenet121 densenet161 densenet169 densenet201', 224),
    'dla': Family('dla34'),
    'googlenet': Family('googlenet', 224),
    'hrnet': Family('hrnet_w18_small_v1_c hrnet_w18_small_v2_c hrnet_w18_c hrnet_w30_c hrnet_w32_c hrnet_w40_c '
                    'hrnet_w44_c hrnet_w48_c hrnet_w64_c'),
    'inception': Family('inceptionv3', 299),
    'mobilenet': Family('mobilenet0.25 mobilenet0.5 mobilenet0.75 mobilenet1.0'),
    'mobilenetv2': Family('mobilenetv2_0.25 mobilenetv2_0.5 mobilenetv2_0.75 mobilenetv2_1.0'),
    'mobilenetv3': Family('mobilenetv3_small mobilenetv3_large'),
    'nasnet': Family('nasnet_4_1056 nasnet_5_1538 nasnet_6_4032 nasnet_7_1920', 64, ['slice']),
    'pruned': Family('resnet50_v1d_0.11 resnet50_v1d_0.37 resnet50_v1d_0.48 resnet50_v1d_0.86 resnet18_v1b_0.89 '
                     'resnet101_v1d_0.73 resnet101_v1d_0.76'),
    'resnest': Family('resnest14 resnest26 resnest50 resnest101 resnest200 resnest269', 64,
                      ['Reshape', 'SwapAxis', 'expand_dims', 'softmax', 'sum']),
    'resnet': Family('resnet18_v1 resnet34_v1 resnet50_v1 resnet101_v1 resnet152_v1'),
    'resnet_v2': Family('resnet18_v2 resnet34_v2 resnet50_v2 resnet101_v2 resnet152_v2'),
    'resnet_v1b': Family('resnet18_v1b resnet34_v1b resnet50_v1b resnet101_v1b resnet152_v1b'),
    'resnet_v1c': Family('resnet50_v1c resnet101_v1c resnet152_v1c'),
    'resnet_v1d': Family('resnet50_v1d resnet101_v1d resnet152_v1d'),
    'resnet_v1e': Family('resnet50_v1e resnet101_v1e resnet152_v1e'),
    'resnet_v1s': Family('resnet50_v1s resnet101_v1s resnet152_v1s'),
    'resnext': Family('resnext50_32x4d resnext101_32x4d resnext101_64x4d resnext101e_64x4d'),
    'se_resnet': Family('se_resnet18_v1 se_resnet34_v1 se_resnet50_v1 se_resnet101_v1 se_resnet152_v1'),
    'se_resnet_v2': Family('se_resnet18_v2 se_resnet34_v2 se_resnet50_v2 se_resnet101_v2 se_resnet152_v2'),
    'se_resnext': Family('se_resnext50_32x4d se_resnext101_32x4d se_resnext101_64x4d se_resnext101e_64x4d'),
    'senet': Family('senet_154 senet_154e'),
    'shufflenet_v1': Family('shufflenet_v1', 64, ['Reshape', 'SwapAxis']),
    'shufflenet_v2': Family('shufflenet_v2', 64, ['Reshape', 'SwapAxis']),
    'squeezenet': Family('squeezenet1.0 squeezenet1.1', 224),
    'vgg': Family('vgg11 vgg13 vgg16 vgg19'),
    'vgg_bn': Family('vgg11_bn vgg13_bn vgg16_bn vgg19_bn'),
    'xception': Family('xception xception71'),
}
EVERY_DAY = ('cifar_attention', 'cifar_resnet', 'cifar_resnext', 'dla', 'googlenet', 'hrnet', 'mobilenet',
             'mobilenetv2', 'mobilenetv3', 'pruned', 'resnest', 'resnet', 'resnet_v2', 'resnet_v1b', 'se_resnet',
             'shufflenet_v1', 'shufflenet_v2', 'squeezenet')       # others take more than 10 s, or have the same blocks
NOT_TESTED = {      # {name: why}
    'resnet50_v1b_gn': "MXNet 1.9.1 cannot trace GroupNorm with a Symbol (keep_highest='-1')",
    'resnet101_v1b_gn': "MXNet 1.9.1 cannot trace GroupNorm with a Symbol (keep_highest='-1')",
    'mobilenet1.0_int8': 'quantized; has no values without a download',
    'resnet50_v1_int8': 'quantized; has no values without a download',
}
CASES = [pytest.param(family, name, id=f'{family}-{name}', marks=pytest.mark.slow)
         for family, row in FAMILIES.items() if SEED or family in EVERY_DAY for name in row.tested()]
model_zoo = pytest.importorskip('gluoncv.model_zoo')


def draw_values(net, seed):
    """Running statistics, and norms of which some channels are zero, some constant, and now and then all are zero.

    Gammas below 1: the outputs of a network of 400 random norms otherwise depend on how float32 is rounded.
    """
    random, parameters = np.random.RandomState(seed), net.collect_params()
    for key, parameter in parameters.items():
        if key.endswith('running_var'):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
        elif key.endswith('running_mean'):
            parameter.set_data(mx.nd.array(random.standard_normal(parameter.shape) * 0.2))
        elif key.endswith('gamma') and parameter.grad_req != 'null':
            kind = random.choice(['lives', 'zero', 'constant'], parameter.shape, p=[0.55, 0.35, 0.1])
            if random.rand() < 0.1:
                kind[:] = 'zero'
            gamma, beta = random.uniform(0.2, 0.6, kind.shape), random.standard_normal(kind.shape) * 0.2
            parameter.set_data(mx.nd.array(gamma * (kind == 'lives')))
            parameters[key.replace('gamma', 'beta')].set_data(mx.nd.array(beta * (kind != 'zero')))


@pytest.mark.parametrize('family, name', CASES)
def test_network(family, name, check_compact):
    row = FAMILIES[family]
    shape = (2, 3, row.size, row.size)
    net = model_zoo.get_model(name)
    mx.random.seed(int(SEED or 0))
    net.initialize(mx.init.Xavier('gaussian', 'in', 2))
    net(mx.nd.zeros(shape))
    draw_values(net, int(SEED or 0))
    small = compact(net, shape)
    check_compact(net, small, shape)
    norms = any(key.endswith('gamma') for key in net.collect_params())
    assert (small.after.params < small.before.params) == norms
    assert {operator.split('(')[0] for operator in small.unhandled} == set(row.unhandled)


def test_every_classifier_is_in_a_table():
    """By the modules of GluonCV that build classifiers."""
    modules = {'alexnet', 'cifarresnet', 'cifarresnext', 'cifarwideresnet', 'densenet', 'dla', 'googlenet', 'hrnet',
               'inception', 'mobilenet', 'mobilenetv3', 'nasnet', 'resnetv1b_pruned', 'residual_attentionnet',
               'resnest', 'resnet', 'resnetv1b', 'resnext', 'senet', 'shufflenet', 'squeezenet', 'vgg', 'xception',
               'darknet'}
    names = {name for name, build in model_zoo.model_zoo._models.items()
             if build.__module__.rpartition('.')[2] in modules and not name.endswith('_s')}     # hrnet's segment
    listed = [name for row in FAMILIES.values() for name in row.names.split()]
    assert sorted(listed) == sorted(names - set(NOT_TESTED)) and len(listed) == 127
