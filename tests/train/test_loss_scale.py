"""The loss scale by hand, in updates that overflow and change nothing, and in runs."""
import mxnet as mx
import numpy as np
import pytest
from comparison import assert_equal
from mxnet import autograd, gluon, nd

from sss_gluon import get_model, make_trainer
from sss_gluon.errors import SSSError
from sss_gluon.factors import factor_values
from sss_gluon.methods import METHODS
from sss_gluon.methods.diagnosis import mean_gradients
from sss_gluon.methods.method_run import MethodRun
from sss_gluon.train import precision
from sss_gluon.train.checkpoint import read_checkpoint
from sss_gluon.train.loop import Interrupted, Training, run_training
from sss_gluon.train.method import Method, Regularizer
from sss_gluon.train.parameters import named_parameters
from sss_gluon.train.precision import LOSS_SCALE, LossScaler, overflow

SIZE, BATCH = 16, 4
SETTINGS = dict(gamma=2.0, learning_rate=0.1, wd=1e-2, clip_gradient=0.02)


# The scale

def test_the_scale_by_hand():
    scaler, seen = LossScaler(scale=16.0, period=3), []
    for overflowed in (0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0):
        scaler.update(bool(overflowed))
        seen.append((scaler.scale, scaler.good, scaler.skipped))
    assert seen == [(16, 1, 0), (16, 2, 0), (32, 0, 0), (32, 1, 0), (32, 2, 0), (16, 0, 1), (8, 0, 2), (8, 1, 2),
                    (8, 2, 2), (16, 0, 2), (16, 1, 2)]


def test_the_scale_of_float16_doubles_after_2000_updates_up_to_a_bound():
    scaler = precision.loss_scaler('float16')
    assert scaler.scale == 65536
    for _ in range(1999):
        scaler.update(False)
    assert (scaler.scale, scaler.good) == (65536, 1999)
    scaler.update(False)
    assert (scaler.scale, scaler.good) == (131072, 0)
    for _ in range(20000):
        scaler.update(False)
    assert scaler.scale == 2 ** 24
    assert precision.loss_scaler('bfloat16') is None and precision.loss_scaler('float32') is None


def test_gradients_that_are_never_finite_end_the_run():
    scaler = LossScaler()
    for _ in range(30):
        scaler.update(True)
    assert scaler.scale == 2.0 ** -14
    with pytest.raises(SSSError, match='loss scale of 6.10352e-05'):
        scaler.update(True)


def test_the_state_of_a_scale():
    scaler, other = LossScaler(64.0, 5), LossScaler()
    for overflowed in (False, True, False, False):
        scaler.update(overflowed)
    other.set_state(scaler.state())
    assert (other.scale, other.good, other.skipped) == (32.0, 2, 1)
    for wrong in ([32.0, 2.0], [0.0, 2.0, 1.0], [np.inf, 2.0, 1.0], [np.nan, 0.0, 0.0], [3.0, 0.0, 0.0],
                  [32.0, -1.0, 0.0]):
        with pytest.raises(SSSError, match='some file is damaged: .* loss scale'):
            other.set_state(np.array(wrong), 'some file')


@pytest.mark.parametrize('value', [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize('place', range(4))
def test_overflow_is_seen_wherever_it_is(place, value):
    """Among many arrays, of both types, on both devices."""
    arrays = [nd.ones((3, 2)) for _ in range(450)] + [nd.ones((5,), dtype='float16'), nd.zeros((2,), ctx=mx.cpu(1)),
                                                      nd.full((1,), 3e38)]
    assert not overflow(arrays) and not overflow([])
    arrays[(0, 449, 450, 451)[place]][-1:] = value
    assert overflow(iter(arrays))


# Updates

def build(fill, devices=1):
    net = fill(get_model('cifar_resnet20', 4, factors=('neuron', 'block'), depths=(2, 1, 1), widths=(4, 6, 8)))
    net.collect_params().reset_ctx([mx.cpu(i) for i in range(devices)])
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def step(net, trainer, number, break_it=None):
    """One step on images that depend on its number; ``break_it(net)`` comes between gradients and update."""
    random, loss = np.random.RandomState(number), gluon.loss.SoftmaxCrossEntropyLoss()
    images = random.standard_normal((BATCH, 3, SIZE, SIZE)).astype('float32')
    labels = random.randint(0, 4, BATCH)
    for i, context in enumerate(trainer._contexts):
        share = slice(i, None, len(trainer._contexts))
        with autograd.record():
            error = loss(net(nd.array(images[share], ctx=context)), nd.array(labels[share], ctx=context))
            error = trainer.scaled(error)
        error.backward()
    if break_it:
        break_it(net)
    trainer.step(BATCH)
    nd.waitall()


def outcome(net, trainer):
    """What is trained, on every device, and the optimizer's state; without the loss scale."""
    arrays = {f'{name} {i}': array.asnumpy() for name, p in named_parameters(net) if p.grad_req != 'null'
              for i, array in enumerate(p.list_data())}
    return dict(arrays, **{name: array for name, array in trainer.states().items() if name != LOSS_SCALE})


@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('aggregate', [True, False])
def test_a_scaled_loss_gives_the_same_network_bit_for_bit(aggregate, devices, fill):
    """A power of two rounds nothing, and the bound is one of unscaled gradients."""
    ends = []
    for scaler in (None, LossScaler(2.0 ** 20, period=2)):
        net = build(fill, devices)
        trainer = make_trainer(net, aggregate=aggregate, loss_scaler=scaler, **SETTINGS)
        for number in range(5):
            step(net, trainer, number)
        ends.append(outcome(net, trainer))
    assert_equal(ends[1], ends[0])
    assert scaler.scale == 2.0 ** 22 and trainer.states()[LOSS_SCALE].tolist() == [2.0 ** 22, 1, 0]


BROKEN = {      # parameter, device, value
    'a factor': ('stage1.1.conv2.factor', 0, np.inf),
    'a BatchNorm, on the second device': ('norm.gamma', 1, -np.inf),
    'a weight with an update of its own': ('stage3.0.conv2.weight', 1, np.nan),
}


@pytest.mark.parametrize('aggregate', [True, False])
@pytest.mark.parametrize('case', BROKEN)
def test_an_overflow_skips_weights_and_factors_together(case, aggregate, fill, monkeypatch):
    name, device, value = BROKEN[case]
    monkeypatch.setattr('sss_gluon.train.buckets.SMALL', 400)

    def break_it(net):
        gradient = dict(named_parameters(net))[name].list_grad()[device]
        gradient.reshape(-1)[-1:] = value

    ends = []
    for broken in (True, False):
        net, scaler = build(fill, 2), LossScaler(1024.0)
        trainer = make_trainer(net, aggregate=aggregate, loss_scaler=scaler, **SETTINGS)
        for number in range(4):
            if number != 2:
                step(net, trainer, number)
                assert not trainer.overflowed
            elif broken:
                before = outcome(net, trainer)
                step(net, trainer, number, break_it)
                assert_equal(outcome(net, trainer), before)
                assert trainer.overflowed and (scaler.scale, scaler.skipped) == (512.0, 1)
        ends.append(outcome(net, trainer))
        assert trainer.optimizer.num_update == 3
    assert_equal(ends[0], ends[1])      # as if that step had never been


def test_a_skipped_update_uses_its_gradients_up(fill):
    net = build(fill)
    trainer = make_trainer(net, loss_scaler=LossScaler(), **SETTINGS)
    step(net, trainer, 0, lambda net: net.stem.weight.list_grad()[0].__setitem__(slice(0, 1), np.nan))
    assert trainer.overflowed
    with pytest.raises(UserWarning, match='has not been updated by backward'):
        trainer.step(BATCH)


def test_states_with_a_loss_scale(fill):
    net, scaler = build(fill), LossScaler(8.0, period=2)
    trainer = make_trainer(net, loss_scaler=scaler, **SETTINGS)
    for number in range(3):
        step(net, trainer, number)
    states = trainer.states()
    again = make_trainer(net, loss_scaler=LossScaler(), **SETTINGS)
    again.set_states(states)
    assert_equal(again.states(), states)
    assert (again.loss_scaler.scale, again.loss_scaler.good) == (16.0, 1)
    plain = make_trainer(net, **SETTINGS)
    plain.set_states(states)        # without a scale of its own it needs none
    assert LOSS_SCALE not in plain.states() and plain.optimizer.num_update == 3
    again.set_states(plain.states())
    assert again.loss_scaler.scale == 16.0
    with pytest.raises(SSSError, match='states is damaged: .* loss scale'):
        again.set_states(dict(states, **{LOSS_SCALE: np.array([5.0, 0, 0])}))


def test_no_loss_scale_with_updates_on_the_store(fill):
    with pytest.raises(SSSError, match='update_on_kvstore=True .* loss_scaler'):
        make_trainer(build(fill, 2), update_on_kvstore=True, loss_scaler=LossScaler())


# A run

def run_with_scale(config, monkeypatch, broken=(), stop=None, method=None):
    """A run with a loss scale in float32; the loss is infinite in some steps, and a signal is sent in another one."""
    monkeypatch.setattr(precision, 'loss_scaler', lambda _: LossScaler(256.0, period=12))
    plain, said = Training.step, []

    def broken_step(self, epoch, number, *batch):
        scaled = self.trainer.scaled
        if (epoch, number) in broken:
            self.trainer.scaled = lambda loss: scaled(loss) * np.inf
        results = plain(self, epoch, number, *batch)
        self.trainer.scaled = scaled
        if (epoch, number) == stop:
            self.stop.append(15)
        return results

    monkeypatch.setattr(Training, 'step', broken_step)
    try:
        run = run_training(config, method or MethodRun(METHODS['sss']), said.append)
    finally:
        monkeypatch.undo()
    return run, said


def arrays(run):
    return read_checkpoint(max(run.checkpoints.iterdir(), key=lambda path: path.stem))[0]


def test_a_run_continues_with_its_loss_scale_bit_for_bit(configure, monkeypatch):
    """Epochs of 18 steps: 3 are good, one is not: 128; 12 are good: 256; 10 are good, one is not: 128; 9 are good."""
    broken = {(0, 3), (1, 8)}
    whole, said = run_with_scale(configure('whole', factors=['neuron', 'block']), monkeypatch, broken)
    found = arrays(whole)
    assert found[f'state:{LOSS_SCALE}'].tolist() == [128.0, 9, 2] and found['state:num_update'] == 34
    assert [(row['loss_scale'], row['skipped']) for row in whole.metrics.rows()] == [('256', '1'), ('128', '2')]
    assert any(line.startswith('epoch   2/2') and 'loss scale 128, 2 skipped' in line for line in said)

    config = configure('stopped', factors=['neuron', 'block'])
    with pytest.raises(Interrupted):
        run_with_scale(config, monkeypatch, broken, stop=(1, 10))
    again, _ = run_with_scale(config, monkeypatch, broken)
    assert_equal(arrays(again), found)
    assert again.metrics.rows() == whole.metrics.rows()


class Watched(Method, Regularizer):
    """A method that only notes what it is told."""

    def __init__(self):
        self.before, self.after = [], 0

    def regularizer(self, config, net, input_shape):
        self.net = net
        return self

    def before_update(self, batch_size):
        self.before.append(batch_size)

    def after_update(self, learning_rate):
        self.after += 1

    def values(self):
        return factor_values(self.net)


def test_methods_add_to_scaled_gradients_and_know_of_skipped_updates(configure, monkeypatch):
    method = Watched()
    run_with_scale(configure(epochs=1), monkeypatch, {(0, 3), (0, 17)}, method=method)
    assert method.before == [64 * 256.0] * 4 + [64 * 128.0] * 12 + [64 * 256.0] * 2 and method.after == 16


def test_the_diagnosis_knows_no_scale(fill):
    net = build(fill)
    random, loss = np.random.RandomState(0), gluon.loss.SoftmaxCrossEntropyLoss()
    batches = [(random.standard_normal((BATCH, 3, SIZE, SIZE)).astype('float32'), random.randint(0, 4, BATCH))]
    plain, scaled = (mean_gradients(net, loss, batches, mx.cpu(), scale) for scale in (1.0, 1024.0))
    assert_equal(scaled, plain)
