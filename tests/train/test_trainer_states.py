"""States of a trainer by name: saved, loaded, of other settings, damaged, and of several devices."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import nd
from trained_net import assert_equal, make_net, train, values

from sss_gluon import make_trainer, scaling_factors
from sss_gluon.errors import SSSError
from sss_gluon.train.parameters import named_parameters

SETTINGS = dict(gamma=0.05, learning_rate=0.1, momentum=0.9, wd=1e-2)


def schedule():
    return mx.lr_scheduler.MultiFactorScheduler([5, 12, 25], 0.5, 0.1)


def test_states_round_trip_trains_on_bit_for_bit(tmp_path):
    net = make_net()
    trainer = make_trainer(net, lr_scheduler=schedule(), **SETTINGS)
    train(net, trainer, 10)
    trainer.save_states(str(tmp_path / 'states.npz'))
    between = values(net)
    train(net, trainer, 20, start=10)

    other = make_net(seed=1)
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(between[name]))
    again = make_trainer(other, lr_scheduler=schedule(), **SETTINGS)
    again.load_states(str(tmp_path / 'states.npz'))
    assert again.optimizer.num_update == 10 and again.learning_rate == 0.05
    train(other, again, 20, start=10)
    assert_equal(values(other), values(net))
    assert_equal(again.states(), trainer.states())
    assert any((factor.values() == 0).any() for factor in scaling_factors(net))
    with np.load(tmp_path / 'states.npz', allow_pickle=False) as file:
        assert set(file.files) == {'num_update', *(n for n in trainer.names if 'running' not in n)}


def test_states_load_into_a_trainer_that_has_trained():
    net, other = make_net(), make_net()
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(other, **SETTINGS)
    train(net, trainer, 4)
    train(other, again, 9, start=50)
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    again.set_states(trainer.states())
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 4, start=4)
    assert_equal(values(other), values(net))


def test_configuration_wins_over_the_file(tmp_path):
    """γ, rate, schedule, decay and multipliers are those of the new trainer; momenta and count are the file's."""
    net = make_net()
    trainer = make_trainer(net, lr_scheduler=schedule(), **SETTINGS)
    train(net, trainer, 10)
    trainer.save_states(str(tmp_path / 'states.npz'))
    other = make_net()
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    new = dict(gamma=0.2, momentum=0.5, wd=0.0, learning_rate=0.3)
    again = make_trainer(other, lr_scheduler=mx.lr_scheduler.MultiFactorScheduler([8, 15], 0.1, 0.3),
                         gamma_mult={'last': 0.0}, **new)
    again.load_states(str(tmp_path / 'states.npz'))
    optimizer = again.optimizer
    assert (optimizer.gamma, optimizer.momentum, optimizer.wd) == (0.2, 0.5, 0.0)
    assert again.learning_rate == pytest.approx(0.03) and trainer.learning_rate == 0.05

    optimizer = trainer.optimizer       # the old trainer, turned to the same settings in place
    optimizer.gamma, optimizer.momentum, optimizer.wd, optimizer.gamma_mult = 0.2, 0.5, 0.0, again.optimizer.gamma_mult
    optimizer.lr_scheduler = mx.lr_scheduler.MultiFactorScheduler([8, 15], 0.1, 0.3)
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 10, start=10)
    assert_equal(values(other), values(net))


def test_states_before_the_first_step():
    net = make_net()
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(net, **SETTINGS)
    assert not any(array.any() for array in trainer.states().values())
    again.set_states(trainer.states())
    assert again.optimizer.num_update == 0


@pytest.mark.parametrize('change, words', [
    (lambda a: a.pop('num_update'), 'num_update is missing'),
    (lambda a: a.pop('last.factor'), r'the state of last.factor is missing \(1 in all\)'),
    (lambda a: a.update(strange=np.zeros(2)), 'there is no parameter strange'),
    (lambda a: a.update({'first.factor': np.zeros(9)}), r'first.factor has shape \(9,\), the parameter \(8,\)'),
    (lambda a: a.update({'first.weight@float32': np.zeros(1)}), r'first.weight@float32 has shape'),
])
def test_states_that_do_not_fit_are_errors(tmp_path, change, words):
    net = make_net()
    trainer = make_trainer(net, **SETTINGS)
    train(net, trainer, 2)
    arrays = trainer.states()
    change(arrays)
    np.savez(tmp_path / 'states.npz', **arrays)
    before = trainer.states()
    with pytest.raises(SSSError, match=words) as error:
        trainer.load_states(str(tmp_path / 'states.npz'))
    assert 'states.npz' in str(error.value)
    assert_equal(trainer.states(), before)


def test_states_of_another_network_and_damaged_files(tmp_path):
    wide = make_net(channels=12)
    trainer = make_trainer(wide, **SETTINGS)
    train(wide, trainer, 1)
    trainer.save_states(str(tmp_path / 'wide.npz'))
    narrow = make_trainer(make_net(), **SETTINGS)
    with pytest.raises(SSSError, match='has shape'):
        narrow.load_states(str(tmp_path / 'wide.npz'))
    content = (tmp_path / 'wide.npz').read_bytes()
    (tmp_path / 'cut.npz').write_bytes(content[:len(content) // 2])
    for name in ('cut.npz', 'nothing.npz'):
        with pytest.raises(SSSError, match=name):
            narrow.load_states(str(tmp_path / name))


def test_states_of_two_devices(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    net, other = make_net(ctx=devices), make_net(ctx=devices)
    trainer, again = make_trainer(net, **SETTINGS), make_trainer(other, **SETTINGS)
    train(net, trainer, 5, devices=devices)
    trainer.save_states(str(tmp_path / 'states.npz'))
    for name, parameter in named_parameters(other):
        parameter.set_data(nd.array(values(net)[name]))
    again.load_states(str(tmp_path / 'states.npz'))
    for one, its in ((net, trainer), (other, again)):
        train(one, its, 10, start=5, devices=devices)
    assert_equal(values(other), values(net))


def test_states_on_the_store_are_refused_in_one_sentence(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    net = make_net(ctx=devices)
    trainer = make_trainer(net, update_on_kvstore=True, **SETTINGS)
    train(net, trainer, 1, devices=devices)
    np.savez(tmp_path / 'states.npz', num_update=0)
    before = (tmp_path / 'states.npz').read_bytes()
    for call in (trainer.save_states, trainer.load_states):
        with pytest.raises(SSSError, match='update_on_kvstore=True.*saved') as error:
            call(str(tmp_path / 'states.npz'))
        assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / 'states.npz').read_bytes() == before
