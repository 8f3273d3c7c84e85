"""Structures that are zero in single steps: what they show, and that nothing else changes."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import sss_gluon as sss
from sss_gluon.budget.probes import EVERY

RATE, FRICTION = 0.1, 0.9


@pytest.fixture(autouse=True)
def seed():
    mx.random.seed(0)
    np.random.seed(0)


DEVICES = {'one device': (mx.cpu(0),), 'two devices': (mx.cpu(0), mx.cpu(1))}
W = np.array([2.0, -1.0, 0.5, 0.25])


class Sum(nn.HybridBlock):
    """y = Σ_j λ_j w_j x: one channel for each structure."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv = sss.ScaledConv2D(4, 1, in_channels=1, use_bias=False, kind='neuron')

    def hybrid_forward(self, F, x):
        return F.sum(self.conv(x), axis=(1, 2, 3))


def network(devices=DEVICES['one device'], gamma=0.5):
    net = Sum()
    net.initialize(ctx=list(devices))
    net.conv.weight.set_data(mx.nd.array(W.reshape(4, 1, 1, 1)))
    net.conv.weight.lr_mult = 0.0
    return net, sss.make_trainer(net, gamma=gamma, learning_rate=RATE, momentum=FRICTION)


def step(net, trainer, devices, x=3.0, target=1.0):
    """½(y − target)², the same image on each device."""
    with autograd.record():
        losses = [(net(mx.nd.full((1, 1, 1, 1), x, ctx=device)) - target) ** 2 / 2 for device in devices]
    autograd.backward(losses)
    trainer.step(len(devices))
    mx.nd.waitall()


@pytest.mark.parametrize('devices', DEVICES)
@pytest.mark.parametrize('gamma', [0.0, 0.5])
def test_a_probe_shows_the_gradient_at_zero(devices, gamma):
    """−∂L/∂λ_j = (target − Σ_{i≠j} λ_i w_i x)·w_j·x; less than γ is 0."""
    devices = DEVICES[devices]
    net, trainer = network(devices, gamma)
    step(net, trainer, devices)
    for j in range(4):
        before = trainer.factor_values()['conv'].astype('float64')
        rest = 1 - 3 * sum(before[i] * W[i] for i in range(4) if i != j)
        trainer.probe({'conv': np.arange(4) == j})
        assert trainer.probing and trainer.factor_values()['conv'][j] == 0
        step(net, trainer, devices)
        found = trainer.probed()['conv']
        expected = rest * W[j] * 3
        assert not trainer.probing and np.isnan(np.delete(found, j)).all()
        assert found[j] == pytest.approx(expected if abs(expected) > gamma else 0, rel=1e-4)


@pytest.mark.parametrize('devices', DEVICES)
def test_the_structure_comes_back_with_its_momentum(devices):
    """The others move as if it were zero; its own value and momentum are as before, on all devices."""
    devices = DEVICES[devices]
    net, trainer = network(devices)
    step(net, trainer, devices)
    value, momentum = trainer.factor_values()['conv'], trainer.states()['conv.factor']
    assert momentum[1]
    trainer.probe({'conv': np.arange(4) == 1})
    step(net, trainer, devices)
    moved = trainer.factor_values()['conv']
    trainer.probed()
    for array in net.conv.factor.list_data():
        assert array.asnumpy()[1] == value[1] and (array.asnumpy() == np.where(np.arange(4) == 1, value, moved)).all()
    assert trainer.states()['conv.factor'][1] == momentum[1]


def test_a_budget_that_is_not_stepped_probes_nothing():
    net = blocks(1)
    trainer = sss.make_trainer(net, learning_rate=RATE)
    budgets = [sss.Budget(net, trainer, (1, 3, 16, 16), 0.8, 1000) for _ in range(2)]
    for step in range(4):
        with autograd.record():
            error = net(mx.nd.ones((1, 3, 16, 16))).sum()
        assert (budgets[0].read() == 0).sum() == min(step, 1)
        error.backward()
        trainer.step(1000)              # small steps: nothing becomes zero by itself
        assert budgets[0].read().all() and trainer.states()['stage1.0.conv2.factor'].all()
        budgets[0].step()


def blocks(count):
    """A network of which each block is a structure."""
    net = sss.get_model('cifar_resnet20', 10, ['block'], depths=[count, 1, 1], widths=[4, 4, 4])
    net.initialize()
    return net


def test_only_steps_of_training_are_probed():
    """Each block has its turn; whoever predicts, or estimates statistics, sees the whole network."""
    net = blocks(2)
    trainer = sss.make_trainer(net, gamma=0.01, learning_rate=RATE)
    budget = sss.Budget(net, trainer, (1, 3, 16, 16), 0.5, 1000)
    x, loss = mx.nd.random.uniform(shape=(2, 3, 16, 16)), mx.gluon.loss.SoftmaxCrossEntropyLoss()
    zeros = []
    for _ in range(4 + 3 * EVERY):
        with autograd.record():
            error = loss(net(x), mx.nd.array([0, 1]))
        zeros.append(int((budget.read() == 0).sum()))
        error.backward()
        trainer.step(2)
        budget.step()
        assert budget.read().all()
        net(x)
        with autograd.train_mode():
            net(x)
        assert budget.read().all() and not trainer.probing
    assert zeros == [0] + [1] * 4 + [int(i % EVERY == 0) for i in range(5, len(zeros))]
    assert sorted(budget.probes.seen) == [1] * (8 - sum(zeros)) + [2] * (sum(zeros) - 4)


def test_a_search_that_has_ended_probes_nothing_in_another_process_either():
    net = blocks(1)
    trainer = sss.make_trainer(net, learning_rate=RATE)
    budget = sss.Budget(net, trainer, (1, 3, 16, 16), 0.8, 1000)
    budget.set_states({**budget.states(), 'steps_done': np.array(4.0), 'met': np.array(1.0)})
    with autograd.record():
        net(mx.nd.ones((1, 3, 16, 16)))
    assert budget.met and budget.read().all() and not trainer.probing


def test_only_blocks_are_probed():
    net = sss.get_model('cifar_resnet20', 10, ['neuron', 'block'], depths=[1, 1, 1], widths=[4, 6, 8])
    net.initialize()
    trainer = sss.make_trainer(net, gamma=0.01, learning_rate=RATE)
    budget = sss.Budget(net, trainer, (1, 3, 16, 16), 0.5, 1000)
    x, loss, zeros = mx.nd.random.uniform(shape=(2, 3, 16, 16)), mx.gluon.loss.SoftmaxCrossEntropyLoss(), []
    for _ in range(9):
        with autograd.record():
            error = loss(net(x), mx.nd.array([0, 1]))
        zeros.append(budget.read() == 0)
        error.backward()
        trainer.step(2)
        budget.step()
    assert np.sum(zeros, axis=0).tolist() == budget.probes.seen.tolist()
    assert budget.probes.seen[budget.may_vanish].sum() == 6 and not budget.probes.seen[~budget.may_vanish].any()


def test_the_loss_of_a_removal():
    """λ·r/2; what helps costs nothing, and nothing is known of what was not probed."""
    net = blocks(2)
    budget = sss.Budget(net, sss.make_trainer(net, learning_rate=RATE), (1, 3, 16, 16), 0.9, 1000)
    budget.probes.resistance[:], budget.probes.seen[:] = [3, -1, 2, 5], [1, 1, 1, 0]
    assert budget.probes.loss(np.array([0.5, 1, -2, 1])).tolist() == [0.75, 0, 2, np.inf]


def test_what_costs_least_goes_first():
    """Of four equal blocks, the search removes the one that the loss wants back least, though its factor is largest."""
    net = blocks(2)
    trainer = sss.make_trainer(net, gamma=0.01, learning_rate=RATE)
    budget = sss.Budget(net, trainer, (1, 3, 16, 16), 0.7, 100)
    budget.probes.seen[:] = 1
    budget.probes.resistance[:] = [0.5, 0.01, 0.5, 0.5]
    budget.values = np.array([0.5, 0.9, 0.5, 0.5])
    order = budget._order(np.array([True, True, False, True]), np.array([0.1, 0.9, 0.05, 0.3]))
    assert order.tolist()[0] == 1 and sorted(order) == [0, 1, 3]
