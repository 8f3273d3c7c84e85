"""A small network with all kinds of parameters, and steps of its training on one device or several."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from sss_gluon import ScaledBatchNorm, ScaledConv2D
from sss_gluon.train.parameters import named_parameters

BATCH = 16
ONE = (mx.cpu(0),)


class Net(nn.HybridBlock):
    """All kinds of parameters. Batch normalisation uses its running statistics, as those of a batch are per device."""

    def __init__(self, channels=8, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = ScaledConv2D(channels, 3, padding=1, in_channels=2, kind='neuron')
            self.norm = ScaledBatchNorm(channels, kind='group', groups=4, use_global_stats=True)
            self.last = ScaledConv2D(channels, 3, padding=1, in_channels=channels, kind='block', use_bias=False)
            self.output = nn.Dense(5, in_units=channels)

    def hybrid_forward(self, F, x):
        x = F.Activation(self.norm(self.first(x)), act_type='relu')
        return self.output(F.flatten(F.Pooling(x + self.last(x), global_pool=True, pool_type='avg', kernel=(1, 1))))


def make_net(seed=0, ctx=None, **kwargs):
    net, random = Net(**kwargs), np.random.RandomState(seed)
    net.initialize(ctx=ctx)
    for name, parameter in named_parameters(net):
        if not name.endswith(('factor', 'running_var', 'gamma')):
            parameter.set_data(nd.array(0.3 * random.standard_normal(parameter.shape)))
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def train(net, trainer, steps, start=0, devices=ONE):
    """Steps on batches that depend on the number of the step, cut over the devices."""
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(start, start + steps):
        random = np.random.RandomState(step)
        x = random.standard_normal((BATCH, 2, 6, 6)).astype('float32')
        y = random.randint(0, 5, BATCH).astype('float32')
        x += y[:, None, None, None] / 4
        for device, images, labels in zip(devices, np.split(x, len(devices)), np.split(y, len(devices))):
            with autograd.record():
                error = loss(net(nd.array(images, ctx=device)), nd.array(labels, ctx=device))
            error.backward()
        trainer.step(BATCH)
    mx.nd.waitall()


def values(net):
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in named_parameters(net)}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
