"""The cost of factors in training: time of a step, and of its update alone."""
from __future__ import annotations

from typing import Dict, List, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..errors import SSSError
from ..factors import scaling_factors
from ..timing import Measurement, interleaved, ratio, timed
from ..train import make_trainer
from ..train.accuracy import heads
from ..train.compiling import compile_for_cpu
from ..train.loop import AUXILIARY
from ..train.parameters import exempt_from_decay
from ..train.precision import active, mixed
from .activation import activation_scaled, copy_parameters
from .settings import Settings

RATE, MOMENTUM, DECAY, GAMMA = 0.01, 0.9, 1e-4, 1e-4    # γ is so small that no factor reaches zero
SAME = 1e-4


class Step:
    """Training steps of one network on one batch that stays in memory.

    Parameters
    ----------
    net : HybridBlock
        Initialised on the devices.
    shape : (batch, C, H, W)
    trainer : gluon.Trainer, optional
        Default: ``make_trainer``.
    devices : list of mxnet.Context, optional
        Each gets an equal part of the batch; default the CPU.
    """

    def __init__(self, net: gluon.HybridBlock, shape, trainer=None, devices: Optional[List[mx.Context]] = None):
        self.devices = devices or [mx.cpu()]
        self.trainer = trainer or make_trainer(net, GAMMA, RATE, MOMENTUM, DECAY)
        self.net = compile_for_cpu(mixed(net, active()))
        self._scaled = getattr(self.trainer, 'scaled', lambda loss: loss)       # in float16
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.feed(shape)

    def feed(self, shape) -> None:
        """Go on with a batch of another shape."""
        random = np.random.RandomState(0)
        self.images = random.standard_normal(shape).astype('float32')
        self.labels = random.randint(0, 10, shape[0]).astype('float32')
        for block in (self.net, self._loss):
            block.hybridize(static_alloc=True, static_shape=True)
        self._parts = list(zip(*(gluon.utils.split_and_load(array, self.devices)
                                 for array in (self.images, self.labels))))

    def backward(self) -> mx.nd.NDArray:
        losses = []
        for images, labels in self._parts:
            with autograd.record():
                output, *others = heads(self.net(images))
                loss = self._loss(output, labels)
                for other in others:
                    loss = loss + AUXILIARY * self._loss(other, labels)
                scaled = self._scaled(loss)
            scaled.backward()
            losses.append(loss)
        return losses[0] if len(losses) == 1 else mx.nd.concat(*(loss.as_in_context(mx.cpu()) for loss in losses),
                                                               dim=0)

    def __call__(self) -> mx.nd.NDArray:
        """One step; the loss of every image."""
        loss = self.backward()
        self.trainer.step(len(self.labels))
        return loss

    def update_seconds(self) -> float:
        """Seconds of the update alone."""
        self.backward()
        mx.nd.waitall()
        return timed(lambda: self.trainer.step(len(self.labels)))()


def factor_step(settings: Settings, name: str, activation: bool = False) -> Dict[str, Measurement]:
    """Training step with factors over one without; and with scaled activations over one with factors."""
    shape = (settings.batch,) + settings.image_shape(name)
    folded = settings.net(name)
    steps = {'without': Step(settings.net(name, factors=()), shape), 'folded': Step(folded, shape)}
    if activation:
        steps['activation'] = Step(same_with_activations(settings, name, folded, shape), shape)
    seconds = interleaved({key: timed(step) for key, step in steps.items()}, settings.rounds)
    found = {'folded': ratio(seconds, 'folded', 'without')}
    if activation:
        found['activation'] = ratio(seconds, 'activation', 'folded')
    return found


def same_with_activations(settings: Settings, name: str, folded: gluon.HybridBlock, shape) -> gluon.HybridBlock:
    """The activation-scaled form of a network, after a check that both give the same outputs.

    Raises
    ------
    SSSError
        The outputs differ.
    """
    net = activation_scaled(name, **settings.options(name))
    net.initialize()
    random = np.random.RandomState(1)
    saved = [(factor.parameter, factor.values()) for factor in scaling_factors(folded)]
    for parameter, values in saved:
        parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, values.shape)))
    copy_parameters(folded, net)
    batch = mx.nd.array(random.standard_normal(shape))
    with autograd.train_mode():
        expected, found = folded(batch).asnumpy(), net(batch).asnumpy()
    difference = np.abs(expected - found).max() / np.abs(expected).max()
    if not difference <= SAME:
        raise SSSError(f'{name}: the activation-scaled form differs by {difference:.1e} of the largest output from the '
                       f'folded one, so their times cannot be compared')
    for parameter, values in saved:
        parameter.set_data(mx.nd.array(values))
    copy_parameters(folded, net)
    return net


def update(settings: Settings, name: str) -> Dict[str, Measurement]:
    """``trainer.step`` with apgnag over MXNet's nag on the network without factors.

    ``default`` updates one of our networks as ``make_trainer`` does, ``own`` any other network, and ``each`` makes one
    update for each parameter.
    """
    shape = (settings.batch,) + settings.image_shape(name)
    plain, own, single = settings.net(name, factors=()), settings.net(name), settings.net(name)
    exempt_from_decay(plain)
    del own.spec
    nag = gluon.Trainer(plain.collect_params(), 'nag', {'learning_rate': RATE, 'momentum': MOMENTUM, 'wd': DECAY})
    each = make_trainer(single, GAMMA, RATE, MOMENTUM, DECAY, aggregate=False)
    steps = {'nag': Step(plain, shape, nag), 'default': Step(settings.net(name), shape), 'own': Step(own, shape),
             'each': Step(single, shape, each)}
    seconds = interleaved({key: step.update_seconds for key, step in steps.items()}, settings.rounds)
    return {key: ratio(seconds, key, 'nag') for key in ('default', 'own', 'each')}
