"""A budget and ``shrink`` in a loop of one's own."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

import sss_gluon as sss

BATCH, EPOCH = 16, 10
LOSS = gluon.loss.SoftmaxCrossEntropyLoss()


class Loop:
    """A network that learns to tell three patterns apart."""

    def __init__(self, build, size, target=0.6, steps=40, **settings):
        self.shape, self.random = (1, 3, size, size), np.random.RandomState(0)
        self.patterns = self.random.standard_normal((3, *self.shape[1:]))
        self.net = self.running = build()
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.trainer = sss.make_trainer(self.net, **{**dict(learning_rate=0.05, momentum=0.9, wd=1e-4), **settings})
        self.budget = sss.Budget(self.net, self.trainer, self.shape, target, steps)

    def step(self, random):
        labels = random.randint(0, 3, BATCH)
        images = mx.nd.array(self.patterns[labels] + random.standard_normal((BATCH, *self.shape[1:])))
        with autograd.record():
            error = LOSS(self.running(images), mx.nd.array(labels))
        error.backward()
        self.trainer.step(BATCH)
        self.budget.step()
        return float(error.mean().asscalar())

    def epoch(self, number):
        """Returns the losses."""
        random = np.random.RandomState(number)
        return [self.step(random) for _ in range(EPOCH)]

    def shrink(self):
        shrunk = sss.shrink(self.net, self.trainer, self.shape, align=1)
        self.running = shrunk.net
        return shrunk


@pytest.fixture
def loop(narrow, fill):
    def make(name='cifar_resnet20', kinds=('block',), **settings):
        options, size = narrow[name]
        return Loop(lambda: fill(sss.get_model(name, 3, kinds, 3, **options)), size, **settings)
    return make


@pytest.mark.parametrize('name, kinds, target', [
    ('cifar_resnet20', ('block',), 0.6), ('cifar_resnet20', ('neuron', 'block'), 0.6),
    ('cifar_resnext20', ('group', 'block'), 0.85), ('cifar_vgg16', ('neuron',), 0.6)])
def test_a_loop_ends_in_a_network_of_the_size_asked_for(name, kinds, target, loop):
    mine = loop(name, kinds, target=target)
    losses = []
    for number in range(8):
        losses += mine.epoch(number)
        shrunk = mine.shrink()
    assert mine.budget.met and np.mean(losses[-EPOCH:]) < 0.7 < losses[0]
    images = mx.nd.random.normal(shape=(4, *mine.shape[1:]))
    cut = shrunk.net(images).asnumpy()
    small = sss.compact(shrunk.restore(), mine.shape)
    assert target / 2 < small.after.macs / small.before.macs <= target
    for net in (mine.net, small.net):
        np.testing.assert_allclose(net(images).asnumpy(), cut, atol=1e-4 * np.abs(cut).max())
    values = sum(parameter.data().size for parameter in shrunk.net.collect_params().values())
    assert values < sum(parameter.data().size for parameter in mine.net.collect_params().values())


def test_nothing_happens_while_there_is_nothing_new_to_cut(loop):
    mine = loop()
    assert mine.shrink().net is mine.net
    mine.trainer.hold({'stage1.0.conv2': [True]})
    shrunk = mine.shrink()
    assert shrunk.net is not mine.net and mine.shrink() is shrunk
    assert dict(shrunk.net._flags) == dict(mine.net._flags) and shrunk.net._active
    mine.trainer.hold({'stage1.1.conv2': [True]})
    assert mine.shrink() is not shrunk
    assert set(mine.trainer.removed) == {'stage1.0.conv2', 'stage1.1.conv2'}


def test_what_the_smaller_network_learns_comes_back(loop, tmp_path, narrow):
    mine = loop(gamma=0)
    mine.trainer.hold({'stage1.0.conv2': [True]})
    shrunk = mine.shrink()
    before = {name: p.data().asnumpy() for name, p in mine.net._collect_params_with_prefix().items()}
    mine.epoch(0)
    learnt = {name: p.data().asnumpy() for name, p in shrunk.restore()._collect_params_with_prefix().items()}
    same = {name for name, value in before.items() if np.array_equal(value, learnt[name])}
    gone = {name for name in before if name.startswith('stage1.0.conv')}
    assert gone <= same and not any(name.endswith('weight') for name in same - gone)
    shrunk.restore().save_parameters(str(tmp_path / 'whole.params'))
    fresh = sss.get_model('cifar_resnet20', 3, ('block',), 3, **narrow['cifar_resnet20'][0])
    fresh.load_parameters(str(tmp_path / 'whole.params'))
    images = mx.nd.random.normal(shape=(4, *mine.shape[1:]))
    np.testing.assert_allclose(fresh(images).asnumpy(), shrunk.net(images).asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_loop_continues_in_another_process_bit_for_bit(loop, tmp_path):
    first, files = loop(target=0.5), [str(tmp_path / name) for name in ('net.params', 'trainer.npz', 'budget.npz')]
    for number in range(3):
        first.epoch(number)
        shrunk = first.shrink()
    assert 0 < sum(mask.sum() for mask in first.trainer.removed.values()) and not first.budget.met
    shrunk.restore().save_parameters(files[0])
    first.trainer.save_states(files[1])
    np.savez(files[2], **first.budget.states())
    again = loop(target=0.5)
    again.net.load_parameters(files[0])
    again.trainer.load_states(files[1])
    again.budget.set_states(np.load(files[2]))
    again.shrink()
    assert [again.epoch(number) for number in (3, 4)] == [first.epoch(number) for number in (3, 4)]
    assert again.budget.met and again.budget.share == first.budget.share


def test_only_what_is_zero_can_be_cut_out(loop):
    mine = loop()
    with pytest.raises(sss.SSSError, match='stage1.0.conv2 is not 0'):
        sss.shrink(mine.net, mine.trainer, mine.shape, {'stage1.0.conv2': np.array([True])})
    assert mine.trainer.shrunk.net is mine.net and len(mine.epoch(0)) == EPOCH


def test_other_widths_may_be_asked_for_between_two_calls(loop):
    """Multiples of 4, all that can go, multiples of 4 again: each time it trains as the whole network would."""
    held = {'stage3.0.norm2': np.arange(8) > 0}
    pair = [loop(kinds=('neuron',), gamma=0) for _ in range(2)]
    for mine in pair:
        mine.trainer.hold(held)
    for seed, (align, width) in enumerate([(4, 4), (1, 1), (1, 1), (4, 4)]):
        shrunk = sss.shrink(pair[0].net, pair[0].trainer, pair[0].shape, align=align)
        pair[0].running = shrunk.net
        assert shrunk.parameters['stage3.0.norm2.gamma'].shape == (width,)
        found, expected = ([mine.step(random) for random in [np.random.RandomState(seed)] for _ in range(2)]
                           for mine in pair)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        same = pair[1].net._collect_params_with_prefix()        # rounding grows from step to step
        for name, parameter in shrunk.parameters.items():
            parameter.set_data(mx.nd.array(same[name].data().asnumpy()[shrunk.kept[name]]))
