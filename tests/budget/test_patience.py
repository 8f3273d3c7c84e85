"""Patience against a plain reference: what was zero for long enough is held, what came back before is not."""
import numpy as np
import pytest
from simulated import SimulatedTrainer, named

from sss_gluon import SSSError
from sss_gluon.budget import Patience

SHAPE = (1, 2, 4, 4)
KINDS = [('neuron', 4), ('block', 1), ('neuron', 3), ('block', 1)]
SIZES = [size for _, size in KINDS]


def reference(trajectory, patience, interval):
    """Which structures are held after each step, structure by structure, without vectors."""
    count, held, since, found = sum(SIZES), set(), {}, []
    layer = [i for i, size in enumerate(SIZES) for _ in range(size)]
    for step, values in enumerate(trajectory, 1):
        if step % interval == 0:
            for i in range(count):
                if i in held or values[i] == 0:
                    since.setdefault(i, step)
                else:
                    since.pop(i, None)
            ready = {i for i in since if i not in held and step - since[i] >= patience}
            for which, (kind, _) in enumerate(KINDS):
                members = [i for i in range(count) if layer[i] == which]
                if kind == 'neuron' and all(i in held or i in ready for i in members):
                    stays = max((i for i in members if i not in held), key=lambda i: (since[i], -i))
                    ready.discard(stays)
            held |= ready
        found.append(sorted(held))
    return found


def follow(trajectory, patience):
    """What Patience holds after each step, with factors that follow a trajectory until they are held."""
    net = named(*KINDS)
    trainer = SimulatedTrainer(net, trajectory[0])
    patient = Patience(net, trainer, SHAPE, patience)
    found = []
    for values in trajectory:
        trainer.values = np.where(trainer.held, 0.0, values)
        patient.step()
        assert (trainer.held == patient.held).all()
        found.append(np.flatnonzero(patient.held).tolist())
    return patient, found


@pytest.mark.parametrize('patience', [1, 4, 10, 35])
@pytest.mark.parametrize('seed', range(4))
def test_random_trajectories(seed, patience):
    """Factors that are zero for spells of random length."""
    random, count = np.random.RandomState(seed), sum(SIZES)
    trajectory = np.ones((200, count))
    for i in range(count):
        step = 0
        while step < len(trajectory):
            alive, zero = random.randint(1, 20), random.randint(1, 60)
            trajectory[step + alive:step + alive + zero, i] = 0
            step += alive + zero
    patient, found = follow(trajectory, patience)
    assert found == reference(trajectory, patience, patient.interval)
    assert found[-1] and patient.interval == max(1, patience // 10)


@pytest.mark.parametrize('spell, held', [(9, []), (10, []), (11, [4]), (30, [4])])
def test_a_structure_that_comes_back_in_time_is_not_held(spell, held):
    """Seen at zero at step 6 first, it has lasted 10 steps at step 16."""
    trajectory = np.ones((60, 9))
    trajectory[5:5 + spell, 4] = 0
    assert follow(trajectory, 10)[1][-1] == held


def test_the_last_of_a_layer_that_becomes_zero_stays():
    """Neuron 2 was the last to become zero; blocks may all go."""
    trajectory = np.ones((60, 9))
    for i, begin in {0: 5, 1: 7, 2: 11, 3: 3, 4: 4, 8: 4}.items():
        trajectory[begin:, i] = 0
    patient, found = follow(trajectory, 10)
    assert found[-1] == [0, 1, 3, 4, 8]
    trajectory = np.ones((60, 9))
    trajectory[5:, :4] = 0          # all in the same step
    assert follow(trajectory, 10)[1][-1] == [1, 2, 3]


@pytest.mark.parametrize('stop', [1, 14, 20, 90])
def test_states_continue(stop):
    random = np.random.RandomState(0)
    trajectory = np.repeat(random.rand(20, 9) > 0.6, 10, axis=0).astype(float)
    whole, found = follow(trajectory, 7)
    first, _ = follow(trajectory[:stop], 7)
    net = named(*KINDS)
    trainer = SimulatedTrainer(net, trajectory[0])
    second = Patience(net, trainer, SHAPE, 7)
    second.set_states(first.states())
    trainer.hold(second.split(second.held))
    for values, expected in zip(trajectory[stop:], found[stop:]):
        trainer.values = np.where(trainer.held, 0.0, values)
        second.step()
        assert np.flatnonzero(second.held).tolist() == expected
    assert second.share == whole.share and second.columns() == whole.columns()


def test_refusals():
    net = named(*KINDS)
    with pytest.raises(SSSError, match='patience=0'):
        Patience(net, SimulatedTrainer(net, np.ones(9)), SHAPE, 0)
