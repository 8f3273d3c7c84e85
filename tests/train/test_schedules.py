"""The learning rate at every iteration against the closed form, and as the trainer uses it."""
import math

import mxnet as mx
import pytest
from mxnet import autograd

from sss_gluon import make_trainer
from sss_gluon.train import Config
from sss_gluon.train.config import decay_epochs
from sss_gluon.train.schedules import learning_rates, make_schedule

STEPS = 7       # an epoch


def step(t, config, warmup):
    if t < warmup:
        return config.learning_rate * t / warmup
    at = [e if e >= 1 else e * config.epochs for e in config.lr_decay_epochs]
    return config.learning_rate * config.lr_decay ** sum(t - 1 >= round(e * STEPS) for e in at)


def cosine(t, config, warmup):
    if t < warmup:
        return config.learning_rate * t / warmup
    return config.learning_rate * (1 + math.cos(math.pi * (t - warmup) / (config.epochs * STEPS - warmup))) / 2


def constant(t, config, warmup):
    return config.learning_rate * min(1, t / warmup) if warmup else config.learning_rate


CASES = {
    'step': (step, dict(lr_decay_epochs=[3, 6, 8]), 0),
    'step, factor': (step, dict(lr_decay_epochs=[2], lr_decay=0.3), 0),
    'step, warm-up': (step, dict(lr_decay_epochs=[3, 6], warmup_epochs=1.5), 10),       # 10.5 rounds to even
    'no step': (step, dict(lr_decay_epochs=[]), 0),
    'step, the default': (step, {}, 0),                             # after 35, 46.67 and 58.33 of 70 updates
    'step, shares and epochs': (step, dict(lr_decay_epochs=[0.25, 5, 0.9]), 0),
    'cosine': (cosine, {}, 0),
    'cosine, warm-up': (cosine, dict(warmup_epochs=2), 14),
    'constant': (constant, {}, 0),
    'constant, warm-up': (constant, dict(warmup_epochs=3), 21),
}


@pytest.mark.parametrize('case', CASES)
def test_rate_of_every_iteration(case):
    closed_form, settings, warmup = CASES[case]
    name = case.split(',')[0].replace('no ', '')
    config = Config(epochs=10, learning_rate=0.4, lr_mode=name, **settings)
    schedule = make_schedule(config, STEPS)
    updates = range(1, 10 * STEPS + 1)
    expected = [closed_form(t, config, warmup) for t in updates]
    found = [schedule(t) if schedule else config.learning_rate for t in updates]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    for first in (5, 22, 50, 70):       # a run that is continued there begins with a new schedule
        schedule = make_schedule(config, STEPS)
        found = [schedule(t) if schedule else config.learning_rate for t in range(first, 71)]
        assert found == pytest.approx(expected[first - 1:], rel=1e-12, abs=1e-15)


def test_the_default_fits_any_length():
    """The paper's 120, 160 and 200 of 240 epochs, and the same shares of one epoch of one step."""
    assert decay_epochs(Config()) == [120, 160, 200]
    assert decay_epochs(Config(epochs=30)) == [15, 20, 25]
    for epochs, steps, rates in ((240, 2, {240: 0.1, 241: 0.01, 320: 0.01, 321: 1e-3, 400: 1e-3, 401: 1e-4}),
                                 (1, 6, {3: 0.1, 4: 0.01, 5: 1e-3, 6: 1e-4}), (1, 1, {1: 0.1})):
        found = learning_rates(Config(epochs=epochs), steps)
        assert len(found) == epochs * steps
        assert {update: found[update - 1] for update in rates} == pytest.approx(rates, rel=1e-9)


def test_nothing_is_scheduled_without_need():
    assert make_schedule(Config(lr_mode='constant'), STEPS) is None
    assert make_schedule(Config(lr_mode='step', lr_decay_epochs=[]), STEPS) is None


@pytest.mark.parametrize('schedule', ['step', 'cosine'])
def test_trainer_uses_the_rate_of_each_iteration(schedule):
    """μ = 0 and a gradient of 1: the parameter falls by the rate."""
    config = Config(epochs=3, learning_rate=0.5, lr_mode=schedule, lr_decay_epochs=[1, 2], warmup_epochs=0.5)
    net = mx.gluon.nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.Zero())
    scheduler = make_schedule(config, STEPS)
    trainer = make_trainer(net, learning_rate=0.5, momentum=0.0, lr_scheduler=scheduler, kvstore=None)
    closed_form = {'step': step, 'cosine': cosine}[schedule]
    before = 0.0
    for t in range(1, 3 * STEPS + 1):
        with autograd.record():
            y = net(mx.nd.ones((4, 1)))
        y.backward()
        trainer.step(4)
        after = net.weight.data().asscalar()
        assert before - after == pytest.approx(closed_form(t, config, 4), abs=2e-6)
        assert trainer.learning_rate == pytest.approx(closed_form(t, config, 4), rel=1e-12, abs=1e-15)
        before = after
