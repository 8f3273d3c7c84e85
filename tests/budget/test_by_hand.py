"""The steps of a network after a cut, computed by hand in NumPy float64: weights, factors and momenta.

y = B·relu(λ·BN(A·x)) with 1×1 convolutions A and B, then a block μ·C·y added to y, and the mean over positions.
"""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.structures.shrink import Shrunk

RATE, FRICTION, DECAY, GAMMA, EPS = 0.05, 0.8, 0.01, 0.03, 1e-5
NEURONS, LOST = 4, np.array([False, True, False, True])


class Tiny(nn.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.a = nn.Conv2D(NEURONS, 1, in_channels=3, use_bias=False)
            self.norm = sss.ScaledBatchNorm(NEURONS, epsilon=EPS)
            self.b = nn.Conv2D(2, 1, in_channels=NEURONS, use_bias=False)
            self.c = sss.ScaledConv2D(2, 1, in_channels=2, use_bias=False, kind='block')

    def hybrid_forward(self, F, x):
        y = self.b(F.relu(self.norm(self.a(x))))
        return F.mean(y + self.c(y), axis=(2, 3))


def matrices(net):
    """{structural name: float64 array}, weights as matrices."""
    return {name: np.squeeze(p.data().asnumpy().astype('float64'), (2, 3)) if p.data().ndim == 4
            else p.data().asnumpy().astype('float64') for name, p in net._collect_params_with_prefix().items()}


def gradients(p, x, target):
    """Of the sum over images of ½·|output − target|², by the chain rule; ``x`` is (images, channels, positions)."""
    size = x.shape[0] * x.shape[2]
    a = np.einsum('oc,ncp->nop', p['a.weight'], x)
    centred = a - a.mean(axis=(0, 2), keepdims=True)
    deviation = np.sqrt(centred.var(axis=(0, 2), keepdims=True) + EPS)
    unit = centred / deviation

    def per_channel(v):
        return v.reshape(1, -1, 1)

    normal = per_channel(p['norm.gamma']) * unit + per_channel(p['norm.beta'])
    scaled = per_channel(p['norm.factor']) * normal
    hidden = np.maximum(scaled, 0)
    y = np.einsum('oc,ncp->nop', p['b.weight'], hidden)
    branch = np.einsum('oc,ncp->nop', p['c.weight'], y)
    output = (y + p['c.factor'] * branch).mean(axis=2)
    up = np.repeat(((output - target) / x.shape[2])[:, :, None], x.shape[2], axis=2)
    g = {'c.factor': np.array([(up * branch).sum()]), 'c.weight': p['c.factor'] * np.einsum('nop,ncp->oc', up, y)}
    up = up + p['c.factor'] * np.einsum('oc,nop->ncp', p['c.weight'], up)
    g['b.weight'] = np.einsum('nop,ncp->oc', up, hidden)
    up = np.einsum('oc,nop->ncp', p['b.weight'], up) * (scaled > 0)
    g['norm.factor'] = (up * normal).sum(axis=(0, 2))
    up = up * per_channel(p['norm.factor'])
    g['norm.gamma'], g['norm.beta'] = (up * unit).sum(axis=(0, 2)), up.sum(axis=(0, 2))
    up = up * per_channel(p['norm.gamma'])
    up = (up - (up.sum(axis=(0, 2), keepdims=True) + unit * (up * unit).sum(axis=(0, 2), keepdims=True)) / size)
    g['a.weight'] = np.einsum('nop,ncp->oc', up / deviation, x)
    return 0.5 * ((output - target) ** 2).sum(), g


def update(p, v, g, images, held):
    """Nesterov for weights; equations 10 to 12 and the projection for factors, those that are held stay at 0."""
    for name, gradient in g.items():
        gradient = gradient / images
        if name.endswith('factor'):
            z = p[name] - RATE * gradient
            shrunk = np.sign(z) * np.maximum(np.abs(z) - RATE * GAMMA, 0)
            v[name] = shrunk - p[name] + FRICTION * v[name]
            p[name] = np.maximum(shrunk + FRICTION * v[name], 0)
            for values in (p, v):
                values[name] = np.where(held.get(name, False), 0, values[name])
        else:
            gradient = gradient + DECAY * p[name] * (not name.endswith('beta'))
            v[name] = FRICTION * v[name] + gradient
            p[name] = p[name] - RATE * (gradient + FRICTION * v[name])


@pytest.mark.parametrize('block', [False, True], ids=['neurons', 'neurons and the block'])
def test_steps_after_a_cut(block, fill):
    net = fill(Tiny())
    trainer = sss.make_trainer(net, gamma=GAMMA, learning_rate=RATE, momentum=FRICTION, wd=DECAY)
    random = np.random.RandomState(0)
    p = matrices(net)
    v = {name: np.zeros_like(value) for name, value in p.items() if 'running' not in name}
    masks = {'norm': LOST, 'c': np.array([block])}
    held, used, shrunk = {}, net, None
    for step in range(6):
        if step == 2:
            trainer.hold(masks)
            held = {f'{name}.factor': mask for name, mask in masks.items()}
            for name, mask in held.items():
                p[name][mask] = v[name][mask] = 0
            shrunk = Shrunk(net, (1, 3, 2, 2), masks)
            trainer.rebind(shrunk.parameters, shrunk.kept, shrunk.removed)
            used = shrunk.net
        x, target = random.standard_normal((5, 3, 2, 2)), random.standard_normal((5, 2))
        expected, g = gradients(p, x.reshape(5, 3, 4), target)
        with autograd.record():
            loss = 0.5 * ((used(mx.nd.array(x)) - mx.nd.array(target)) ** 2).sum()
        loss.backward()
        trainer.step(5)
        assert loss.asscalar() == pytest.approx(expected, rel=1e-5)
        update(p, v, g, 5, held)
    states = trainer.states()
    sizes = {name: parameter.shape for name, parameter in shrunk.parameters.items()}
    assert sizes['a.weight'][:2] == (2, 3) and sizes['b.weight'][:2] == (2, 2) and sizes['norm.factor'] == (2,)
    assert ('c.weight' in sizes) != block
    shrunk.restore()
    found = matrices(net)
    for name, kept in shrunk.kept.items():
        if name in v:
            kept = tuple(np.ravel(index) for index in kept)[:p[name].ndim]
            part = np.ix_(*kept)
            np.testing.assert_allclose(found[name][part], p[name][part], rtol=2e-5, atol=1e-6, err_msg=name)
            state = states[name].reshape(p[name].shape)
            np.testing.assert_allclose(state[part], v[name][part], rtol=1e-4, atol=1e-5, err_msg=name)
