"""The optimizers against the equations in float64 NumPy, and the behaviour of a single factor."""
import pickle

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd

from sss_gluon.apg import APG, APGNAG
from sss_gluon.errors import SSSError

SHAPES = {0: (6, 4, 3, 3), 1: (12,), 2: (5, 7), 3: (1,)}
FACTORS = (1, 3)
STEPS, FEW = 2000, 500

NOISE = (0.05, 0.0)         # factors reach zero, stay there, and return
OUTWARDS = (0.005, 0.012)   # every other factor crosses zero once: without projection each crossing magnifies rounding

# (arguments of the optimizer, learning-rate multipliers, weight-decay multipliers: by index, kind of gradients)
CASES = {
    'defaults': (dict(), {}, {}, NOISE),
    'no momentum': (dict(momentum=0.0), {}, {}, NOISE),
    'weight decay': (dict(wd=1e-2), {}, {}, NOISE),
    'wd_mult, no momentum': (dict(wd=1e-2, momentum=0.0), {}, {0: 0.0, 2: 3.0, 1: 0.5}, NOISE),
    'lr_mult': (dict(wd=1e-3), {0: 0.1, 2: 2.0, 1: 0.5, 3: 0.0}, {}, NOISE),
    'rescale, then clip': (dict(rescale_grad=0.25, clip_gradient=0.01), {}, {}, NOISE),
    'negative factors': (dict(non_negative=False), {}, {}, OUTWARDS),
    'negative factors, no momentum': (dict(non_negative=False, momentum=0.0, wd=1e-2), {}, {}, OUTWARDS),
    'gamma 0': (dict(gamma=0.0), {}, {}, NOISE),
    'gamma_mult': (dict(gamma=0.004, gamma_mult={1: 5.0, 3: 0.0}), {}, {}, NOISE),
}
HALF = ('weight decay', 'rescale, then clip')   # with float16 weights too
ALL = [(case, 'float32') for case in CASES] + [(case, 'float16') for case in HALF]
QUICK = [('defaults', 'float32', STEPS), ('rescale, then clip', 'float32', FEW), ('negative factors', 'float32', FEW),
         ('gamma_mult', 'float32', FEW), ('weight decay', 'float16', FEW)]
LONG = [pytest.param(*each, STEPS, marks=pytest.mark.slow) for each in ALL if (*each, STEPS) not in QUICK]


def soft(z, alpha):
    return np.sign(z) * np.maximum(0, np.abs(z) - alpha)


class Reference:
    """Equations 10-12 with the projection, and NAG, in float64. Weight decay is on weights only, unless multiplied."""

    def __init__(self, values, gamma=0.01, momentum=0.9, non_negative=True, gamma_mult=None, wd=0.0,
                 clip_gradient=None, rescale_grad=1.0, lr_mult=None, wd_mult=None):
        self.values = [value.astype('float64') for value in values]
        self.states = [np.zeros_like(value) for value in self.values]
        self.gamma, self.momentum, self.non_negative = gamma, momentum, non_negative
        self.gamma_mult, self.lr_mult, self.wd_mult = gamma_mult or {}, lr_mult or {}, wd_mult or {}
        self.wd, self.clip, self.rescale = wd, clip_gradient, rescale_grad
        self.largest = {}       # value and state of each parameter over all steps

    def step(self, gradients, rate):
        for i, gradient in enumerate(gradients):
            g = gradient.astype('float64') * self.rescale
            if self.clip is not None:
                g = np.minimum(np.maximum(g, -self.clip), self.clip)
            g = g + self.wd * self.wd_mult.get(i, 0.0 if i in FACTORS else 1.0) * self.values[i]
            lr = rate * self.lr_mult.get(i, 1.0)
            if i in FACTORS:
                before, threshold = self.values[i], lr * self.gamma * self.gamma_mult.get(i, 1.0)
                s = soft(before - lr * g, threshold)                            # eq. 10
                self.states[i] = s - before + self.momentum * self.states[i]    # eq. 11
                self.values[i] = s + self.momentum * self.states[i]             # eq. 12
                if self.non_negative:
                    self.values[i] = np.maximum(0, self.values[i])
            else:
                self.states[i] = self.momentum * self.states[i] + g
                self.values[i] = self.values[i] - lr * (g + self.momentum * self.states[i])
            for kind, array in (('value', self.values[i]), ('state', self.states[i])):
                self.largest[kind, i] = max(self.largest.get((kind, i), 0.0), np.abs(array).max())


def start(dtype='float32'):
    random = np.random.RandomState(0)
    return [np.ones(shape, 'float32') if i in FACTORS else random.standard_normal(shape).astype(dtype)
            for i, shape in SHAPES.items()]


def gradients(dtype='float32', noise=0.05, drift=0.0, steps=STEPS):
    """A gradient for each parameter, step by step, as NumPy arrays and as NDArrays."""
    random, arrays = np.random.RandomState(1), []
    for i, shape in SHAPES.items():
        values = noise * random.standard_normal((steps,) + shape)
        if i in FACTORS:
            values += drift * (-1.0) ** np.arange(shape[0])
        arrays.append(values.astype('float32' if i in FACTORS else dtype))
    copies = [nd.array(array, dtype=array.dtype) for array in arrays]
    for step in range(steps):
        yield [array[step] for array in arrays], [copy[step] for copy in copies]


def make(cls=APGNAG, lr_mult=None, wd_mult=None, **arguments):
    """The optimizer with multipliers on the parameters, as a Trainer passes them."""
    parameters = {i: gluon.Parameter(f'p{i}', shape=shape) for i, shape in SHAPES.items()}
    for i, parameter in parameters.items():
        parameter.lr_mult = (lr_mult or {}).get(i, 1.0)
        parameter.wd_mult = (wd_mult or {}).get(i, 0.0 if i in FACTORS else 1.0)
    if cls is APGNAG:
        arguments['factors'] = FACTORS
    return cls(param_dict=parameters, **arguments)


def compare(updater, arrays, reference, dtype='float32'):
    """Parameters and states within 1e-5 of their largest value over all steps."""
    for i in SHAPES:
        value, state = arrays[i], updater.states[i]
        if dtype == 'float16' and i not in FACTORS:
            value, state = state                # the trained float32 copy
            assert arrays[i].dtype == np.float16
            np.testing.assert_array_equal(arrays[i].asnumpy(), value.asnumpy().astype('float16'))
        found = {'value': (value, reference.values[i]), 'state': (state, reference.states[i])}
        for kind, (array, expected) in found.items():
            error = np.abs(array.asnumpy() - expected).max()
            assert array.dtype == np.float32 and error <= 1e-5 * reference.largest[kind, i], (kind, i)
        if i in FACTORS:
            np.testing.assert_array_equal(value.asnumpy() == 0, reference.values[i] == 0)


@pytest.mark.parametrize('case, dtype, steps', QUICK + LONG)
def test_equals_reference(case, dtype, steps):
    arguments, lr_mult, wd_mult, (noise, drift) = CASES[case]
    arguments = dict(dict(gamma=0.01), **arguments)
    optimizer = make(lr_mult=lr_mult, wd_mult=wd_mult, learning_rate=0.1, multi_precision=dtype == 'float16',
                     **arguments)
    updater = mx.optimizer.get_updater(optimizer)
    reference = Reference(start(dtype), lr_mult=lr_mult, wd_mult=wd_mult, **arguments)
    arrays = [nd.array(value, dtype=value.dtype) for value in start(dtype)]
    zero, drop = np.zeros((steps, 12), bool), steps // 2
    for step, (gradient, copies) in enumerate(gradients(dtype, noise, drift, steps)):
        if step == drop:
            compare(updater, arrays, reference, dtype)
            optimizer.set_learning_rate(0.01)
        for i, g in enumerate(copies):
            updater(i, g, arrays[i])
        reference.step(gradient, 0.1 if step < drop else 0.01)
        zero[step] = reference.values[1] == 0
    compare(updater, arrays, reference, dtype)
    # The compared factors do reach zero, and return or cross it.
    back = (zero[:-1] & ~zero[1:]).sum()
    if case == 'defaults':
        assert zero.any(axis=0).all() and back > 12
    if not arguments.get('non_negative', True):
        assert (reference.values[1][::2] < 0).all() and (reference.values[1][1::2] > 0).all()


@pytest.mark.parametrize('steps', [FEW, pytest.param(STEPS, marks=pytest.mark.slow)])
@pytest.mark.parametrize('schedule, rate', [
    (lambda steps: mx.lr_scheduler.MultiFactorScheduler([steps * 7 // 20, steps * 3 // 4], 0.1, 0.1),
     lambda t, steps: 0.1 * 0.1 ** ((t > steps * 7 // 20) + (t > steps * 3 // 4))),
    (lambda steps: mx.lr_scheduler.CosineScheduler(steps, 0.2, warmup_steps=100),
     lambda t, steps: 0.2 * t / 100 if t < 100 else 0.1 * (1 + np.cos(np.pi * (t - 100) / (steps - 100)))),
], ids=['steps', 'cosine with warm-up'])
def test_schedule_is_evaluated_every_step(schedule, rate, steps):
    arguments = dict(gamma=0.01, wd=1e-3)
    optimizer = make(lr_scheduler=schedule(steps), **arguments)
    updater = mx.optimizer.get_updater(optimizer)
    reference, arrays = Reference(start(), **arguments), [nd.array(value) for value in start()]
    for step, (gradient, copies) in enumerate(gradients(steps=steps), 1):
        for i, g in enumerate(copies):
            updater(i, g, arrays[i])
        reference.step(gradient, rate(step, steps))
        assert optimizer.learning_rate == pytest.approx(rate(step, steps), rel=1e-12, abs=1e-12)
    compare(updater, arrays, reference)


def test_a_drop_of_the_rate_acts_at_once():
    weight, state = nd.zeros((1,)), nd.zeros((1,))
    optimizer = make(momentum=0.9, learning_rate=1.0)
    for _ in range(200):        # v = g/(1 − μ) = 10: a step moves by η·10
        optimizer.update(0, weight, nd.ones((1,)), state)
    before = weight.asscalar()
    optimizer.set_learning_rate(0.1)
    optimizer.update(0, weight, nd.ones((1,)), state)
    assert weight.asscalar() - before == pytest.approx(-0.1 * 10, rel=1e-4)


def test_apg_is_apgnag_with_factors_only():
    results = []
    for cls in (APG, APGNAG):
        arrays = {i: nd.array(start()[i]) for i in FACTORS}
        updater = mx.optimizer.get_updater(make(cls, gamma=0.02, learning_rate=0.1))
        for _, copies in gradients(steps=50):
            for i, array in arrays.items():
                updater(i, copies[i], array)
        results.append([array.asnumpy() for array in arrays.values()])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
        assert (a == 0).any() or a.min() < 0.9


def _train_convolution(predictions, optimizer):
    """50 steps on the weight of a convolution that oneDNN keeps in its own layout after a prediction."""
    random = np.random.RandomState(0)
    layer = gluon.nn.Conv2D(64, 3, padding=1, in_channels=32)
    layer.initialize()
    layer.weight.set_data(nd.array(0.1 * random.standard_normal((64, 32, 3, 3))))
    layer.hybridize(static_alloc=True, static_shape=True)
    weight, updater = layer.weight.data(), mx.optimizer.get_updater(optimizer)
    image = nd.array(random.standard_normal((2, 32, 8, 8)))
    seen = 0.0
    for _ in range(50):
        if predictions:
            seen += float(layer(image).asnumpy().std())
        updater(0, nd.array(random.standard_normal(weight.shape)), weight)
    assert seen > 0 if predictions else seen == 0
    return weight.asnumpy(), updater.states[0].asnumpy()


@pytest.mark.parametrize('momentum', [0.9, 0.0])
def test_predictions_in_between_change_nothing(momentum):
    arguments = dict(factors=(), learning_rate=0.05, momentum=momentum, wd=1e-2)
    with_them, without = (_train_convolution(some, APGNAG(**arguments)) for some in (True, False))
    for found, expected in zip(with_them, without):
        np.testing.assert_array_equal(found, expected)


def _trajectory(steps, gradient=0.0, **arguments):
    """Values of one factor that starts at 1, with η = 0.1, γ = 0.01, μ = 0.9 and a constant gradient."""
    arguments = dict(dict(learning_rate=0.1, gamma=0.01, momentum=0.9), **arguments)
    optimizer, factor, v = APG(**arguments), nd.ones((1,)), nd.zeros((1,))
    values = []
    for _ in range(steps):
        optimizer.update(0, factor, nd.full((1,), gradient), v)
        values.append(factor.asscalar())
    return np.array(values)


@pytest.mark.parametrize('gradient, steps', [(0.0, 109), (-0.005, 209), (-0.009, 1009)])
def test_steps_to_zero(gradient, steps):
    values = _trajectory(steps + 50, gradient)
    assert np.flatnonzero(values == 0)[0] == steps - 1      # the first step after which it is exactly zero
    assert (values[steps - 1:] == 0).all() and (values[:steps - 1] > 0).all()


@pytest.mark.parametrize('gradient, projected, steps', [(0.0, 109, 134), (-0.005, 209, 221)])
def test_without_projection_a_factor_swings_around_zero_first(gradient, projected, steps):
    values = _trajectory(steps + 50, gradient, non_negative=False)
    assert values[projected - 1] != 0 and values.min() < -0.005
    assert (values[:steps - 1] != 0).all() and (values[steps - 1:] == 0).all()


@pytest.mark.parametrize('gradient, back', [(-0.02, True), (-0.0101, True), (-0.0099, False), (0.0, False),
                                            (0.02, False)])
def test_a_zero_factor_comes_back_where_the_gradient_exceeds_gamma(gradient, back):
    optimizer, factor, v = APG(learning_rate=0.1, gamma=0.01, momentum=0.9), nd.zeros((1,)), nd.zeros((1,))
    for _ in range(100):
        optimizer.update(0, factor, nd.full((1,), gradient), v)
    assert (factor.asscalar() > 0) == back and (factor.asscalar() == 0) != back
    if back:
        reference = Reference([np.zeros(1)] * 2)
        for _ in range(100):
            reference.step([np.zeros(1), np.full(1, gradient)], 0.1)
        assert factor.asscalar() == pytest.approx(reference.values[1][0], rel=1e-4)


def test_pickled_optimizer_goes_on_alike():
    """A parameter server gets the optimizer pickled, without MXNet's param_dict."""
    arguments = dict(gamma=0.02, gamma_mult={1: 0.5}, wd=1e-2, lr_mult={2: 0.5, 3: 2.0}, wd_mult={0: 0.0, 2: 2.0})
    optimizer = make(lr_scheduler=mx.lr_scheduler.FactorScheduler(20, 0.5, base_lr=0.1), clip_gradient=0.1, **arguments)
    copy = pickle.loads(pickle.dumps(optimizer))
    assert not getattr(copy, 'param_dict', None)
    results = []
    for one in (optimizer, copy):
        arrays, updater = [nd.array(value) for value in start()], mx.optimizer.get_updater(one)
        reference = Reference(start(), clip_gradient=0.1, **arguments)
        for step, (gradient, copies) in enumerate(gradients(steps=50), 1):
            for i, g in enumerate(copies):
                updater(i, g, arrays[i])
            reference.step(gradient, 0.1 * 0.5 ** ((step > 20) + (step > 40)))
        compare(updater, arrays, reference)
        results.append([array.asnumpy() for array in arrays])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_updater_states_survive_pickling():
    optimizer = make(gamma=0.02, learning_rate=0.1)
    updater, arrays, steps = mx.optimizer.get_updater(optimizer), [nd.array(v) for v in start()], gradients(steps=40)
    for _, (_, copies) in zip(range(20), steps):
        for i, g in enumerate(copies):
            updater(i, g, arrays[i])
    other, others = mx.optimizer.get_updater(make(gamma=0.5, learning_rate=9.0)), [a.copy() for a in arrays]
    other.set_states(updater.get_states(dump_optimizer=True))
    for _, copies in steps:
        for i, g in enumerate(copies):
            updater(i, g, arrays[i])
            other(i, g, others[i])
    for a, b in zip(arrays, others):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


@pytest.mark.parametrize('name, cls, arguments', [('apg', APG, {}), ('apgnag', APGNAG, dict(factors=[0]))])
def test_registered_with_mxnet(name, cls, arguments):
    optimizer = mx.optimizer.create(name, gamma=0.3, learning_rate=0.2, **arguments)
    assert type(optimizer) is cls and (optimizer.gamma, optimizer.learning_rate) == (0.3, 0.2)
    assert (optimizer.momentum, optimizer.non_negative) == (0.9, True)


def test_a_plain_gluon_trainer_takes_it_by_name():
    factor = gluon.Parameter('factor', shape=(2,), init='ones')
    factor.initialize()
    trainer = gluon.Trainer([factor], 'apg', dict(gamma=0.5, learning_rate=0.1, momentum=0.0))
    with mx.autograd.record():
        loss = (factor.data() * nd.array([1.0, 3.0])).sum()
    loss.backward()
    trainer.step(2)             # z = 1 − 0.1·(1, 3)/2, S = z − 0.1·0.5
    np.testing.assert_allclose(factor.data().asnumpy(), [0.9, 0.8], rtol=1e-6)


@pytest.mark.parametrize('arguments, words', [
    (dict(gamma=-0.1), 'gamma=-0.1'), (dict(gamma=float('nan')), 'gamma=nan'), (dict(gamma=float('inf')), 'gamma=inf'),
    (dict(momentum=1.0), 'momentum=1.0'), (dict(momentum=-0.1), 'momentum=-0.1'),
    (dict(momentum=float('nan')), 'momentum=nan'), (dict(clip_gradient=0.0), 'clip_gradient=0'),
])
@pytest.mark.parametrize('cls', [APG, APGNAG])
def test_wrong_settings_are_errors(cls, arguments, words):
    with pytest.raises(SSSError, match=words):
        make(cls, **arguments)


def test_factors_must_be_named():
    with pytest.raises(TypeError, match='factors'):
        mx.optimizer.create('apgnag', gamma=0.1)


def test_a_bound_of_the_gradient_must_be_positive():
    with pytest.raises(SSSError, match='clip_gradient=-1.*0'):
        mx.optimizer.create('apg', clip_gradient=-1)
