"""The whole network while a smaller one trains in its place: whoever reads it gets what has been learnt by then."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

import sss_gluon as sss
from sss_gluon.structures.mirror import Following

SHAPE = (1, 3, 16, 16)


def steps(net, trainer, count=3, seed=0):
    random = np.random.RandomState(seed)
    for _ in range(count):
        with autograd.record():
            loss = (net(mx.nd.array(random.standard_normal((4, *SHAPE[1:])))) ** 2).mean()
        loss.backward()
        trainer.step(4)


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


@pytest.fixture
def pair(narrow, fill):
    """A whole network and the smaller one, which has trained on; and what it may be compared with: arrays of it."""
    net = fill(sss.get_model('cifar_resnet20', 3, ('block',), 3, **narrow['cifar_resnet20'][0]))
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = sss.make_trainer(net, learning_rate=0.01, gamma=0)
    steps(net, trainer)
    trainer.hold({'stage1.0.conv2': [True]})
    shrunk = sss.shrink(net, trainer, SHAPE, align=1)
    steps(shrunk.net, trainer, seed=1)
    return net, shrunk, trainer


def saved(net, folder):
    net.save_parameters(str(folder / 'net.params'))
    return {name: array.asnumpy() for name, array in mx.nd.load(str(folder / 'net.params')).items()}


def exported(net, folder):
    net(mx.nd.zeros(SHAPE))
    net.export(str(folder / 'net'))
    arrays = mx.nd.load(str(folder / 'net-0000.params'))
    return {name: arrays[f'{"aux" if "running" in name else "arg"}:{p.name}'].asnumpy()
            for name, p in net._collect_params_with_prefix().items()}


READ = {'data': lambda net, folder: values(net), 'save_parameters': saved, 'export': exported,
        'collect_params().save': lambda net, folder: (net.collect_params().save(str(folder / 'all')), values(net))[1]}


@pytest.mark.parametrize('name', READ)
def test_what_is_read_is_up_to_date(name, pair, tmp_path):
    net, shrunk, _ = pair
    found = READ[name](net, tmp_path)
    for key, parameter in shrunk.parameters.items():
        np.testing.assert_array_equal(found[key][shrunk.kept[key]], parameter.data().asnumpy(), err_msg=key)


def test_predictions_and_compact_networks_are_those_of_the_smaller_one(pair, batch):
    """While it goes on training."""
    net, shrunk, trainer = pair
    for seed in range(2):
        steps(shrunk.net, trainer, seed=seed)
        expected = shrunk.net(batch(4, *SHAPE[1:])).asnumpy()
        for found in (net, sss.compact(net, SHAPE).net):
            np.testing.assert_allclose(found(batch(4, *SHAPE[1:])).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_earlier_smaller_network_changes_nothing_any_more(pair):
    net, first, trainer = pair
    trainer.hold({'stage1.1.conv2': [True]})
    second = sss.shrink(net, trainer, SHAPE, align=1)
    steps(second.net, trainer)
    assert first.restore() is net
    for key, parameter in second.parameters.items():
        np.testing.assert_array_equal(values(net)[key][second.kept[key]], parameter.data().asnumpy(), err_msg=key)


def test_the_whole_network_may_be_given_other_values(pair, tmp_path):
    """They stay until the smaller network learns more."""
    net, shrunk, trainer = pair
    net.save_parameters(str(tmp_path / 'before'))
    before = values(net)
    steps(shrunk.net, trainer)
    assert not np.array_equal(values(net)['output.weight'], before['output.weight'])
    net.load_parameters(str(tmp_path / 'before'))
    np.testing.assert_array_equal(values(net)['output.weight'], before['output.weight'])


def test_the_whole_network_may_train_on_with_another_trainer(pair):
    net, shrunk, trainer = pair
    expected = values(net)
    steps(shrunk.net, trainer)
    learnt = values(net)
    again = sss.make_trainer(net, learning_rate=0.01, gamma=0)
    assert not any(isinstance(p, Following) for p in net.collect_params().values())
    np.testing.assert_array_equal(values(net)['output.weight'], learnt['output.weight'])
    steps(net, again)
    after = values(net)
    assert not any(np.array_equal(after['output.weight'], other['output.weight']) for other in (expected, learnt))
