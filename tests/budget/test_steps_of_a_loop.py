"""What a loop may rely on: a search that waits for a warm-up, and a network that is cut only if it lost something."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

import sss_gluon as sss
from sss_gluon.budget import Budget
from sss_gluon.train import estimate_statistics


def test_nothing_is_pressed_or_planned_before_the_search():
    mx.random.seed(0)
    np.random.seed(0)
    net = sss.get_model('cifar_resnet20', 3, ['block'], 1, depths=(1, 1, 1), widths=(4, 4, 4))
    net.initialize()
    trainer = sss.make_trainer(net, gamma=0.02, learning_rate=0.1)
    budget = Budget(net, trainer, (1, 1, 8, 8), target=0.25, steps=30, wait=20)
    loss, images = gluon.loss.SoftmaxCrossEntropyLoss(), mx.nd.random.normal(shape=(8, 1, 8, 8))
    plan, gammas, probed = [], [], []
    for _ in range(60):
        with autograd.record():
            error = loss(net(images), mx.nd.arange(8) % 3)
        error.backward()
        trainer.step(8)
        budget.step()
        plan.append(budget.planned)
        gammas.append(trainer.gamma)
        probed.append(int(budget.probes.seen.sum()))
    assert plan[:20] == [1] * 20 and np.allclose(plan[20:50], 1 - 0.75 * np.arange(1, 31) / 30)
    assert probed[19:21] == [0, 1]
    assert set(gammas[:19]) == {0} and gammas[19] == 0.02 and max(gammas) > 0.02


def test_a_network_that_has_lost_nothing_is_not_cut():
    net = sss.get_model('cifar_resnet20', 3, ['block'], 1, depths=(1, 1, 1), widths=(4, 4, 4))
    net.initialize()
    trainer = sss.make_trainer(net)
    assert sss.shrink(net, trainer, (1, 1, 8, 8)).net is net
    trainer.hold({'stage1.0.conv2': np.array([True])})
    shrunk = sss.shrink(net, trainer, (1, 1, 8, 8))
    assert shrunk.net is not net and shrunk.restore() is net
    assert sss.shrink(net, trainer, (1, 1, 8, 8)) is shrunk


def cut():
    """A network, its trainer, and what is left of it without one block and three neurons."""
    mx.random.seed(0)
    net = sss.get_model('cifar_resnet20', 3, ['neuron', 'block'], 1, depths=(1, 1, 1), widths=(4, 4, 4))
    net.initialize()
    trainer = sss.make_trainer(net)
    sizes = {factor.name: factor.parameter.shape[0] for factor in sss.scaling_factors(net)}
    trainer.hold({'stage1.0.conv2': np.array([True]),
                  'stage2.0.norm2': np.arange(sizes['stage2.0.norm2']) < 3})
    return net, trainer, sss.shrink(net, trainer, (1, 1, 8, 8), align=1)


@pytest.mark.parametrize('of_the_smaller', [False, True])
def test_both_networks_get_statistics(of_the_smaller, batch):
    """Whichever of them they are estimated for: they predict the same, and not as before."""
    net, _, shrunk = cut()
    x = batch(8, 1, 8, 8)
    before = shrunk.net(x).asnumpy()
    estimate_statistics(shrunk.net if of_the_smaller else net, [batch(8, 1, 8, 8, seed=seed) for seed in range(3)])
    after = shrunk.net(x).asnumpy()
    np.testing.assert_allclose(net(x).asnumpy(), after, atol=1e-5 * abs(after).max())
    assert abs(after - before).max() > 0.1 * abs(after).max()
    with autograd.record():
        shrunk.net(x)       # the averages move on from the estimates
    np.testing.assert_allclose(net(x).asnumpy(), shrunk.net(x).asnumpy(), atol=1e-5 * abs(after).max())


def test_a_loss_of_the_network_before_it_was_cut_is_refused(batch):
    net, trainer, shrunk = cut()
    for trained in (shrunk.net, net):
        with autograd.record():
            loss = (trained(batch(8, 1, 8, 8)) ** 2).mean()
        loss.backward()
        if trained is net:
            with pytest.raises(sss.SSSError, match='since shrink'):
                trainer.step(8)
        else:
            trainer.step(8)
