"""Every network of the paper through the whole chain, at its real input size and on real images.

Two steps of training, some structures at zero, removal, export, reload by plain MXNet, one step of fine-tuning.
"""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

import sss_gluon as sss
from sss_gluon.data import load

SMALL = ['cifar_vgg16', 'cifar_resnet20', 'cifar_resnext20']
LARGE = ['cifar_resnet164', 'cifar_resnext164', 'vgg16', 'resnet50', 'resnext50_32x4d', 'peleenet']
CASES = SMALL + [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


def real_images(count, size):
    """Digits enlarged to three channels of size x size, normalised; and their labels."""
    digits = load('digits').train
    images = np.repeat(digits.images[:count].astype('float32') / 255 - 0.5, 3, axis=1)
    images = images.repeat(size // 16, axis=2).repeat(size // 16, axis=3)
    return mx.nd.array(images), mx.nd.array(digits.labels[:count])


def step(net, trainer, x, y):
    with autograd.record():
        loss = LOSS(net(x), y)
    loss.backward()
    trainer.step(len(x))
    mx.nd.waitall()
    return loss.mean().asscalar()


def drop_some(net):
    """Zero every third structure of each kind, beside those that training zeroed. Returns what must go, by kind."""
    seen, factors = {}, sss.scaling_factors(net)
    for name, kind, parameter in factors:
        values = parameter.data().asnumpy()
        assert (values != 1).any(), f'{name} was not trained'
        values[(np.arange(values.size) + seen.get(kind, 0)) % 3 == 0] = 0
        seen[kind] = seen.get(kind, 0) + values.size
        parameter.set_data(mx.nd.array(values))
    blocks = {f.name.rpartition('.')[0] for f in factors if f.kind == 'block' and not f.values().any()}
    gone = dict.fromkeys(seen, 0)
    for factor in factors:      # what is inside a block goes with it
        values = factor.values() * (factor.name.rpartition('.')[0] not in blocks)
        gone[factor.kind] += int((values == 0).sum())
    return gone


@pytest.mark.parametrize('name', CASES)
def test_chain(name, tmp_path):
    size = sss.ARCHITECTURES[name].size
    x, y = real_images(4 if size == 32 else 2, size)
    mx.random.seed(1)
    net = sss.get_model(name, classes=10)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = sss.make_trainer(net, gamma=0.01, learning_rate=0.01, momentum=0.9, wd=1e-4)
    assert all(np.isfinite(step(net, trainer, x, y)) for _ in range(2))
    gone = drop_some(net)

    small = sss.compact(net, x.shape)
    assert small.structure.removed() == gone
    assert small.after.params < small.before.params and small.after.macs < small.before.macs
    assert not small.unhandled
    expected = net(x).asnumpy()
    small.export(tmp_path / 'small')

    prefix = str(tmp_path / 'small')
    plain = gluon.SymbolBlock.imports(f'{prefix}-symbol.json', ['data'], f'{prefix}-0000.params')
    found = plain(x).asnumpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    again = sss.load(tmp_path / 'small')
    trainer = sss.make_trainer(again, learning_rate=0.001, wd=1e-4)
    before = {p.name: p.data().asnumpy().copy() for p in again.collect_params().values() if p.grad_req != 'null'}
    assert np.isfinite(step(again, trainer, x, y))
    moved = [n for n, value in before.items() if (again.collect_params()[n].data().asnumpy() != value).any()]
    assert len(moved) >= 0.9 * len(before)      # a bias in front of BatchNorm has no gradient
