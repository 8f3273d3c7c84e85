"""A network that shrinks trains as the whole network would whose structures are held at zero."""
import re
import zlib
from typing import Dict, NamedTuple, Tuple

import numpy as np
import pytest
from mxnet.gluon import nn
from twins import Twins

import sss_gluon as sss

EXACT = 1e-9        # gradients in float64, over the largest one
STEP = 1e-5         # the same in float32: losses, and parameters after one step from the same values


class Case(NamedTuple):
    network: str
    kinds: Tuple[str, ...]
    lost: Dict[str, object]     # {expression for names of factors: chance to go, 'all', or 'all but one'}
    again: Dict[str, object] = {}       # what goes later
    noise: float = 2e-4     # of momenta in float32: a ReLU may switch where its input is 0 but for rounding
    dead: str = '^$'        # layers in front of one that is all zero: nothing depends on their statistics
    block: int = 1          # channels of a neuron


CASES = {
    'VGG-16': Case('cifar_vgg16', ('neuron',), {'.': 0.4}, {'.': 0.3}),
    'VGG-16, one neuron a layer': Case('cifar_vgg16', ('neuron',), {'.': 'all but one'}, noise=0.1),
    'VGG-16, a layer without neurons': Case('cifar_vgg16', ('neuron',), {'norm3_2': 'all', 'norm[12]': 0.4},
                                            dead='norm([12]|3_[12])_?.*running'),
    'VGG-16, neurons of 2 channels': Case('cifar_vgg16', ('neuron',), {'.': 0.4}, {'.': 0.3}, block=2),
    'VGG-16, neurons of 4 channels, a layer without': Case('cifar_vgg16', ('neuron',), {'norm3_2': 'all', 'norm4': 0.5},
                                                           block=4, dead='norm([12]|3_[12])_?.*running'),
    'ResNet-20, blocks': Case('cifar_resnet20', ('block',), {'stage1': 'all'}, {'stage3': 'all'}),
    'ResNet-20': Case('cifar_resnet20', ('neuron', 'block'), {'norm': 0.4, 'stage1.1.conv2': 'all'}, {'norm': 0.4}),
    'ResNet-20, a block without neurons': Case('cifar_resnet20', ('neuron', 'block'),
                                               {'stage1.1.norm2': 'all', 'stage2.0.norm2': 'all'}),
    'ResNet-20, no block': Case('cifar_resnet20', ('neuron', 'block'), {'conv2': 'all'}),
    'ResNet-164': Case('cifar_resnet164', ('neuron', 'block'), {'norm': 0.4, 'stage1.1.conv3': 'all'},
                       {'stage2.0': 'all'}),
    'ResNet-164, blocks without inner neurons': Case('cifar_resnet164', ('neuron', 'block'),
                                                     {'stage1.0.norm2': 'all', 'stage2.0.norm3': 'all'}),
    'ResNeXt-20': Case('cifar_resnext20', ('group', 'block'), {'norm2': 0.4, 'stage1.1.norm3': 'all'}, {'norm2': 0.4}),
    'ResNeXt-20, no group in a block': Case('cifar_resnext20', ('group', 'block'),
                                            {'stage1.1.norm2': 'all', 'stage2.0.norm2': 'all'}),
    'ResNeXt-20, one group': Case('cifar_resnext20', ('group',), {'.': 'all but one'}),
    'ResNeXt-164': Case('cifar_resnext164', ('group', 'block'), {'stage[12].*norm2': 0.5, 'stage3.1.norm3': 'all'},
                        {'stage3.0.norm2': 'all'}),
    'VGG-16 for ImageNet': Case('vgg16', ('neuron',), {'.': 0.3}, noise=0.1),
    'ResNet-50': Case('resnet50', ('neuron', 'block'), {'norm': 0.4, 'stage2.1.conv3': 'all'}, {'stage3': 'all'}),
    'ResNeXt-50': Case('resnext50_32x4d', ('group', 'block'), {'norm2': 0.4, 'stage2.1.norm3': 'all'},
                       {'stage2.0.norm2': 'all', 'stage3.0.norm2': 'all but one'}),
    'PeleeNet': Case('peleenet', ('neuron',), {'.': 0.3, 'stage2.0.branch2b': 'all', 'stem.branch1': 'all'},
                     noise=0.1, dead='(stage2.0.branch2b|stem.branch1).*running'),
}

SLOW = ['VGG-16 for ImageNet']


def masks(net, lost):
    """{factor name: booleans}."""
    found = {}
    for name, _, parameter in sss.scaling_factors(net):
        size = parameter.shape[0]
        for pattern, part in lost.items():
            if re.search(pattern, name):
                found[name] = {'all': np.ones(size, bool), 'all but one': np.arange(size) != size // 2}.get(part)
                if found[name] is None:
                    found[name] = np.random.RandomState(zlib.crc32(name.encode())).rand(size) < part
    return found


def without_dropout(block):
    """What it drops would depend on the width."""
    if isinstance(block, nn.Dropout):
        block._rate = 0


@pytest.fixture
def twins(narrow, fill):
    def make(case, batch=4, **settings):
        options, size = narrow[case.network]

        def build():
            net = fill(sss.get_model(case.network, 5, case.kinds, 3, neuron_block=case.block, **options))
            net.apply(without_dropout)
            return net
        return Twins(build, (batch, 3, size, size), **settings)
    return make


@pytest.mark.parametrize('name', [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES])
def test_every_step_is_that_of_the_network_that_holds_zeros(name, twins):
    case = CASES[name]
    pair = twins(case)
    for _ in range(2):
        assert pair.step() == 0
    for lost in filter(None, (case.lost, case.again)):
        pair.shrink({**masks(pair.held.whole, case.lost), **masks(pair.held.whole, lost)})
        pair.synchronise()
        for key, value in pair.differences_in_float64().items():
            assert value < EXACT or re.search(case.dead, key), key
        for _ in range(2):
            pair.synchronise()
            assert pair.step() < STEP
            for key, value in pair.differences().items():
                limit = case.noise if key.endswith('momentum') else max(STEP, case.noise / 30)
                assert value < limit or re.search(case.dead, key), key
        held, cut, restored = pair.predictions()
        assert max(np.abs(held - cut).max(), np.abs(held - restored).max()) < STEP * np.abs(held).max()
