"""What is compiled of a network that trains: filled on CPUs only, and seen by nothing else."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, compact, load, make_trainer, scaling_factors, shrink
from sss_gluon.graph import count
from sss_gluon.train import compiling

SHAPE = (2, 16, 6, 6)
WHOLE, FILLED = [1, 8], [1, 2]      # groups of the convolutions


class Net(nn.HybridBlock):
    """A convolution of 8 groups of 4 channels, whose input channels may be left to the first batch."""

    def __init__(self, deferred=False):
        super().__init__(prefix='net_')
        with self.name_scope():
            self.first = nn.Conv2D(32, 1, use_bias=False, in_channels=0 if deferred else 16)
            self.grouped = nn.Conv2D(32, 3, padding=1, groups=8, use_bias=False, in_channels=0 if deferred else 32)
            self.norm = ScaledBatchNorm(32, kind='group', groups=8)
            self.output = nn.Dense(5, in_units=32)

    def hybrid_forward(self, F, x):
        x = F.Activation(self.norm(self.grouped(self.first(x))), act_type='relu')
        return self.output(F.mean(x, axis=(2, 3)))


class Unhybrid(gluon.Block):
    """Only a part of it is compiled."""

    def __init__(self):
        super().__init__()
        self.part = Net()

    def forward(self, x):
        return self.part(x) * 2


def make_net(make=Net):
    mx.random.seed(0)
    np.random.seed(0)
    net = make()
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def step(net, trainer, number):
    random = np.random.RandomState(number)
    with autograd.record():
        output = net(mx.nd.array(random.standard_normal(SHAPE)))
        error = gluon.loss.SoftmaxCrossEntropyLoss()(output, mx.nd.array([1, 3]))
    error.backward()
    trainer.step(2)
    mx.nd.waitall()
    return error.asnumpy()


def train(net, trainer, steps=4):
    return np.array([step(net, trainer, number) for number in range(steps)])


@pytest.fixture
def compiled(monkeypatch):
    """The groups of the convolutions in every graph that is compiled, as with AVX-512."""
    monkeypatch.setattr(compiling, 'channel_block', lambda: 16)
    seen, original = [], gluon.block.ndarray.CachedOp

    def spy(symbol, *arguments):
        nodes = json.loads(symbol.tojson())['nodes']
        seen.append([int(node['attrs'].get('num_group', 1)) for node in nodes if node['op'] == 'Convolution'])
        return original(symbol, *arguments)

    monkeypatch.setattr(gluon.block.ndarray, 'CachedOp', spy)
    return seen


def exported(tmp_path):
    """A SymbolBlock."""
    prefix = str(tmp_path / 'small')
    compact(make_net(), SHAPE).export(prefix)
    net = load(prefix)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


@pytest.mark.parametrize('make', [lambda _: make_net(), lambda _: make_net(lambda: Net(deferred=True)),
                                  lambda _: make_net(Unhybrid), exported],
                         ids=['block', 'deferred', 'part', 'symbol'])
def test_losses_and_parameters_are_the_same(make, compiled, monkeypatch, tmp_path):
    results = []
    for fill in (True, False):
        if not fill:
            monkeypatch.setattr(compiling, 'for_onednn', lambda symbol, *arguments: symbol)
        net = make(tmp_path)
        del compiled[:]
        losses = train(net, make_trainer(net, gamma=0.0, learning_rate=0.1, wd=1e-4))
        assert compiled == [FILLED if fill else WHOLE]
        results.append([losses] + [p.data().asnumpy() for p in net.collect_params().values()])
    assert np.ptp(results[0][0]) > 0.1
    for found, expected in zip(*results):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_gpu_computes_the_network_as_it_is(compiled, monkeypatch):
    net = make_net()
    make_trainer(net, gamma=0.0)
    monkeypatch.setattr(gluon.Parameter, 'list_ctx', lambda self: [mx.gpu(0)])
    net(mx.nd.ones(SHAPE))
    assert compiled == [WHOLE]


def test_nothing_else_sees_it(compiled, tmp_path):
    plain, net = make_net(), make_net()
    for one in (plain, net):
        one(mx.nd.ones(SHAPE))
    trainer = make_trainer(net, gamma=0.0, learning_rate=0.0)
    step(net, trainer, 0)
    assert compiled == [WHOLE, WHOLE, FILLED]       # what was compiled before there was a trainer is compiled again
    assert count(net, SHAPE) == count(plain, SHAPE)
    assert list(net.collect_params()) == list(plain.collect_params())
    assert compact(net, SHAPE).structure == compact(plain, SHAPE).structure
    for one, name in ((net, 'net'), (plain, 'plain')):
        one.export(str(tmp_path / name))
    symbols = [mx.sym.load(str(tmp_path / f'{name}-symbol.json')) for name in ('net', 'plain')]
    assert symbols[0].attr_dict() == symbols[1].attr_dict()
    assert symbols[0].get_internals().list_outputs() == symbols[1].get_internals().list_outputs()


def test_what_is_left_after_a_cut_is_filled(compiled):
    net = make_net()
    trainer = make_trainer(net, gamma=0.0)
    step(net, trainer, 0)
    factor, = scaling_factors(net)
    removed = np.arange(8) % 2 == 0
    factor.parameter.set_data(mx.nd.array(~removed))
    shrunk = shrink(net, trainer, SHAPE, {factor.name: removed})
    del compiled[:]
    step(shrunk.net, trainer, 1)
    assert compiled == [[1, 1]]
