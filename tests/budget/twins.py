"""Two runs of one network on the same batches: one holds structures at zero, the other also loses them.

Rounding grows tenfold a step in a deep network of random weights. ``synchronise`` gives both runs the same values
again, so that every step can be compared on its own.
"""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import sss_gluon as sss
from sss_gluon.structures.shrink import Shrunk

SETTINGS = dict(gamma=0.002, learning_rate=0.01, momentum=0.9, wd=1e-3)
CPU = (mx.cpu(0),)


def loss(outputs, labels):
    """Of each image; outputs may have any shape."""
    return gluon.loss.SoftmaxCrossEntropyLoss()(outputs.reshape((0, -1)), labels)


def relative(pairs):
    """Largest difference of each pair over its largest value; gradients that are 0 but for rounding count as 1e-3."""
    floor = 1e-3 * max(np.abs(expected).max() for expected, _ in pairs.values())
    return {name: float(np.abs(expected - found).max() / max(np.abs(expected).max(), floor))
            for name, (expected, found) in pairs.items()}


class Run:
    """A network that trains, whole or cut."""

    def __init__(self, net, devices, settings):
        self.whole = self.net = net
        self.devices, self.shrunk = devices, None
        self._compile(net)
        self.trainer = sss.make_trainer(net, **{**SETTINGS, **settings})

    def _compile(self, net):
        net.hybridize(static_alloc=True, static_shape=True)

    def cut(self, masks, shape):
        if self.shrunk:
            self.shrunk.restore()
        self.shrunk = Shrunk(self.whole, shape, masks)
        self.trainer.rebind(self.shrunk.parameters, self.shrunk.kept, self.shrunk.removed)
        self.net = self.shrunk.net
        self._compile(self.net)

    def step(self, images, labels):
        parts = [gluon.utils.split_and_load(array, self.devices) for array in (images, labels)]
        with autograd.record():
            losses = [loss(self.net(x), y) for x, y in zip(*parts)]
        autograd.backward(losses)
        self.trainer.step(len(images))
        mx.nd.waitall()
        return np.concatenate([part.asnumpy() for part in losses])

    def in_float64(self, images, labels):
        """Losses of one batch, and {structural name: gradient, or running statistic after it}; nothing is changed."""
        symbol = self.net(mx.sym.var('data'))
        names = {p.name: name for name, (p, _) in self.parameters().items()}
        arrays = {name: mx.nd.array(p.list_data()[0].asnumpy(), dtype='float64')
                  for name, p in self.net.collect_params().items()}
        statistics = symbol.list_auxiliary_states()
        for name, array in arrays.items():
            if name not in statistics:
                array.attach_grad()
        inputs = {**arrays, 'data': mx.nd.array(images, dtype='float64')}
        with autograd.record():
            losses = loss(mx.nd.CachedOp(symbol)(*(inputs[name] for name in symbol.list_inputs())),
                          mx.nd.array(labels, dtype='float64'))
        losses.backward()
        return losses.asnumpy(), {names[name]: (array if name in statistics else array.grad).asnumpy()
                                  for name, array in arrays.items()}

    def parameters(self):
        """{structural name: (parameter, index of its entries in the whole one)} of what is trained or normalises."""
        if self.shrunk:
            return {name: (p, self.shrunk.kept[name]) for name, p in self.shrunk.parameters.items()}
        return {name: (p, ...) for name, p in zip(self.trainer.names, [p for p, _ in self.trainer._whole])}


class Twins:
    """The runs ``held`` and ``cut``.

    Parameters
    ----------
    build : callable
        Returns the network, initialised, the same each time.
    shape : tuple of int
        Of a batch.
    **settings
        Of ``make_trainer``.
    """

    def __init__(self, build, shape, devices=CPU, classes=5, **settings):
        self.shape, self.classes, self.random = shape, classes, np.random.RandomState(3)
        self.held, self.cut = (Run(build(), devices, settings) for _ in range(2))

    def shrink(self, masks):
        """Hold structures at zero in both runs, and cut them out of one."""
        for run in (self.held, self.cut):
            run.trainer.hold(masks)
        self.cut.cut(masks, (1, *self.shape[1:]))

    def step(self):
        """Largest relative difference of the losses of a step."""
        images, labels = map(mx.nd.array, self._batch())
        a, b = (run.step(images, labels) for run in (self.held, self.cut))
        return np.abs(a - b).max() / np.abs(a).max()

    def differences_in_float64(self):
        """{name: largest difference over the largest value} of the gradients and running statistics of one batch."""
        images, labels = self._batch()
        (expected, whole), (losses, cut) = (run.in_float64(images, labels) for run in (self.held, self.cut))
        pairs = {name: (whole[name][kept], cut[name]) for name, (_, kept) in self.cut.parameters().items()}
        return relative({'losses': (expected, losses), **pairs})

    def _batch(self):
        return self.random.standard_normal(self.shape), self.random.randint(0, self.classes, self.shape[0])

    def differences(self):
        """{name: largest difference over the largest value} of what the cut network still has.

        Parameters, running statistics, and momenta as ``<name> momentum``.
        """
        values, momenta, whole = {}, {}, self.held.parameters()
        held, cut = (run.trainer.states() for run in (self.held, self.cut))
        for name, (parameter, kept) in self.cut.parameters().items():
            values[name] = whole[name][0].list_data()[0].asnumpy()[kept], parameter.list_data()[0].asnumpy()
            if name in held:
                momenta[f'{name} momentum'] = held[name][kept], cut[name][kept]
        return {**relative(values), **relative(momenta)}

    def synchronise(self):
        """Give the cut run the values of the other one."""
        whole, states = self.held.parameters(), self.held.trainer.states()
        trainer = self.cut.trainer
        for name, (parameter, kept) in self.cut.parameters().items():
            parameter.set_data(mx.nd.array(whole[name][0].list_data()[0].asnumpy()[kept]))
            momentum = trainer._updaters[0].states.get(trainer.names.index(name))
            if momentum is not None:
                momentum[:] = states[name][kept]
        mx.nd.waitall()

    def predictions(self):
        """Outputs of the held network, the cut one, and the whole one with what the cut one has learnt."""
        images = mx.nd.array(self._batch()[0], ctx=self.cut.devices[0])
        nets = [self.held.net, self.cut.net]
        return [net(images).asnumpy() for net in (*nets, self.cut.shrunk.restore())]
