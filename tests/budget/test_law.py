"""The law of Budget on simulated factors: when γ rises and falls, which structure goes, and what never goes."""
import numpy as np
import pytest
from mxnet.lr_scheduler import CosineScheduler, MultiFactorScheduler
from simulated import SimulatedTrainer, equal_costs, named

import sss_gluon as sss
from sss_gluon import SSSError
from sss_gluon.budget import Budget

SHAPE = (1, 2, 4, 4)
BLOCKS = [('block', 1)] * 6
RESISTANCE = np.array([0.05, 0.03, 0.09, 0.01, 0.11, 0.07])     # of the blocks; the order in which they go: 3, 1, 0


def run(budget, trainer, most):
    """Step until the budget is met: [(step, γ, held) after each step]."""
    trace = []
    for step in range(1, most + 1):
        trainer.step()
        budget.step()
        trace.append((step, trainer.gamma, budget.held.copy()))
        if budget.met:
            break
    return trace


def search(kinds=BLOCKS, values=0.6, resistance=RESISTANCE, target=0.5, steps=300, **options):
    net = named(*kinds)
    count = sum(size for _, size in kinds)
    trainer = SimulatedTrainer(net, np.broadcast_to(values, count), resistance, **options)
    return trainer, Budget(net, trainer, SHAPE, target, steps, equal_costs)


@pytest.mark.parametrize('steps', [300, 1000])
@pytest.mark.parametrize('rate', [0.003, 0.01, 0.03])
def test_structures_go_one_after_the_other_as_planned(steps, rate):
    """At a third, two thirds and the end of the search, the one that the loss needs least first."""
    trainer, budget = search(steps=steps, rate=rate)
    trace = run(budget, trainer, 2 * steps)
    counts = [held.sum() for _, _, held in trace]
    times = [counts.index(n) + 1 for n in (1, 2, 3)]
    late = np.array(times) - steps / 3 * np.arange(1, 4)
    assert budget.met and (np.abs(late) <= 0.05 * steps + 10).all(), times
    order = [int(np.flatnonzero(trace[t - 1][2] & ~trace[t - 2][2])[0]) for t in times]
    assert order == [3, 1, 0]
    assert budget.share == 0.5 and budget.planned == max(0.5, 1 - times[-1] / steps * 0.5)


@pytest.mark.parametrize('rate', [0.003, 0.01, 0.03])
def test_a_gamma_that_is_too_large_ends_no_search_early(rate):
    """0.15 is more than any of them resists: all would be zero at once, long before their turn."""
    trainer, budget = search(steps=1000, rate=rate, gamma=0.15)
    trace = run(budget, trainer, 2000)
    counts = [held.sum() for _, _, held in trace]
    assert counts[-1] == 3 and trace[-1][2].nonzero()[0].tolist() == [0, 1, 3]
    assert abs(len(trace) - 1000) <= 10 and all(counts.count(n) for n in (1, 2))
    assert max(gamma for _, gamma, _ in trace[50:900]) < 0.15


def test_the_strength_rests_between_two_structures():
    trainer, budget = search()
    trace = run(budget, trainer, 600)
    counts = np.array([held.sum() for _, _, held in trace])
    strengths = np.array([gamma for _, gamma, _ in trace])
    for number in (1, 2):
        begin = int(np.argmax(counts == number))
        assert strengths[begin - 1] > 0.011 and (strengths[begin:begin + 50] == 0.01).all()
    assert (strengths >= 0.01)[:-1].all() and strengths[-1] == 0 and trainer.folded == set(trainer.names)
    assert trainer.pressure.tolist() == [1.0] * 6


def test_only_what_is_chosen_feels_more_than_the_base():
    trainer, budget = search()
    felt = []
    for _ in range(100):
        trainer.step()
        budget.step()
        felt.append(trainer.gamma * trainer.pressure)
    felt = np.array(felt)
    others = np.arange(6) != 3
    assert felt[:, 3].max() > 0.02
    np.testing.assert_allclose(felt[:, others], 0.01)


def test_multipliers_count():
    """A structure whose γ counts four times needs a quarter of the strength; one without γ never goes."""
    names = [f'{i}' for i in range(6)]
    trainer, budget = search(resistance=0.05, multipliers={names[4]: 4.0, names[2]: 0.0}, gamma=0.05)
    trace = run(budget, trainer, 600)
    assert next(held for _, _, held in trace if held.any()).tolist() == [i == 4 for i in range(6)]
    assert budget.met and not budget.held[2] and trainer.values[2] > 0


@pytest.mark.parametrize('least', [[0, 1, 2], [0, 1, 2, 3], [0]])
def test_the_last_neuron_of_a_layer_stays(least):
    """Three go although those of one layer are much easier to remove than the others."""
    resistance = np.where(np.isin(np.arange(6), least), 0.01, 0.02)
    trainer, budget = search([('neuron', 3)] * 2, resistance=resistance, target=1 / 3 + 1e-9)
    trace = run(budget, trainer, 900)
    assert budget.met and budget.held.sum() == 4
    assert all(0 < held[:3].sum() + held[3:].sum() <= 4 and held[:3].sum() < 3 and held[3:].sum() < 3
               for _, _, held in trace if held.any())


def test_a_layer_that_becomes_zero_as_a_whole_keeps_its_largest():
    trainer, budget = search([('neuron', 3)] * 2, values=[0.2, 0.4, 0.3, 0.5, 0.6, 0.7], resistance=0.01, target=0.4)
    for _ in range(budget.interval):
        trainer.values[:3] = 0
        budget.step()
    assert budget.held.tolist() == [True, False, True, False, False, False]
    np.testing.assert_allclose(trainer.values, [0, 0.4, 0, 0.5, 0.6, 0.7])
    for _ in range(budget.interval):            # then the other layer
        trainer.values[[3, 4, 5]] = 0
        budget.step()
    assert budget.met and budget.held.sum() == 4 and not budget.held[5] and trainer.values[5] == 0.7


@pytest.mark.parametrize('zeros, target, held', [
    ([0, 1, 2, 3, 4], 0.5, [0, 1, 3]), ([0, 1, 2, 3, 4], 0.6, [0, 1, 3]), ([2, 4], 0.5, [2, 4]),
    ([0, 1, 2, 3, 4, 5], 1 / 6, [0, 1, 2, 3, 4]), ([5], 0.9, [5]), ([4, 5], 0.9, [5])])
def test_of_several_zeros_no_more_are_held_than_the_budget_asks(zeros, target, held):
    """Those with the least resistance, but not the last and largest block; the others get the values that they had."""
    trainer, budget = search(values=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], target=target, steps=200)
    for _ in range(30):                         # until the resistance has shown
        trainer.step()
        budget.step()
    assert not budget.held.any()
    budget.values[zeros] = small = 1e-6 * np.arange(1, 7)[zeros]        # they were close to zero already
    trainer.values[zeros] = 0
    budget.step()
    assert np.flatnonzero(budget.held).tolist() == held
    assert budget.met == (len(held) / 6 >= 1 - target - 1e-9)
    np.testing.assert_array_equal(trainer.values[zeros], np.where(np.isin(zeros, held), 0, small))


def test_a_budget_leaves_one_block():
    """Six blocks of the same size: a sixth can be met, less cannot."""
    search(values=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], target=1 / 6)
    with pytest.raises(SSSError, match='0.167 remain'):
        search(values=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], target=0.16)


def test_a_factor_below_zero_gets_its_sign_back():
    trainer, budget = search(values=[-0.1, 0.2, -0.3, 0.4, 0.5, 0.6], resistance=0.0, target=0.9)
    trainer.values[[1, 2]] = 0
    for _ in range(budget.interval):
        budget.step()
    assert budget.met and budget.held.sum() == 1
    np.testing.assert_allclose(np.abs(trainer.values), np.where(budget.held, 0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert trainer.values[0] == -0.1


@pytest.mark.parametrize('growth', [0.2, 2.0])
def test_it_arrives_although_the_resistance_grows(growth):
    """The smaller a factor, the more the loss resists: γ rises until the factor is zero."""
    trainer, budget = search(steps=300)
    for _ in range(450):
        trainer.resistance = RESISTANCE + growth * np.maximum(0, 0.6 - trainer.values)
        trainer.step()
        budget.step()
    assert budget.met


@pytest.mark.parametrize('rate', [0.003, 0.01, 0.03])
def test_gamma_alone_chooses_among_neurons(rate):
    """800 of them in 200 steps: those go that need the least force from the start, by equations 10 to 12, and in time;
    only in the last steps are some pressed."""
    random = np.random.RandomState(0)
    values, resistance, steps = random.uniform(0.3, 1, 800), random.uniform(0, 0.02, 800), 200
    trainer, budget = search([('neuron', 100)] * 8, values=values, steps=steps, resistance=resistance, rate=rate)
    trace = []
    while not budget.met and len(trace) < 2 * steps:
        trainer.step()
        budget.step()
        trace.append(np.ptp(trainer.gamma * trainer.pressure))
    assert budget.met and len(trace) <= steps + 5 and budget.held.sum() == 400
    assert not any(trace[:int(0.9 * steps)])                # all feel the same
    least = np.argsort(resistance + values * (1 - 0.9) / (rate * steps))[:400]
    assert budget.held[least].sum() >= 0.98 * 400


@pytest.mark.parametrize('kinds, target', [([('neuron', 100)] * 8, 0.5), ([('neuron', 20)] * 5 + BLOCKS, 0.8)])
def test_neurons_that_the_largest_gamma_cannot_move_are_pressed_evenly(kinds, target):
    """The first γ, and twice what brings 1 to zero in the search (0.1), is less than any resists."""
    count = sum(size for _, size in kinds)
    resistance = np.random.RandomState(0).uniform(0.12, 0.14, count)
    trainer, budget = search(kinds, values=0.5, steps=200, resistance=resistance, target=target)
    trace = run(budget, trainer, 400)
    assert budget.met and trace[-1][0] <= 230 and budget.share >= target - 0.01
    half = next(held for step, _, held in trace if step == 100)
    assert 0.2 < half.sum() / budget.held.sum() < 0.8


def test_a_large_block_does_not_go_for_a_small_rest():
    """Three blocks of a tenth leave 70 % of the 65 % asked for: neurons, although they resist more, do the rest."""
    def measure(masks):
        alive = np.concatenate(list(masks.values()))
        return 0.4 * alive[:100].mean() + 0.6 * alive[100:].mean()

    net = named(*[('neuron', 20)] * 5, *BLOCKS)
    trainer = SimulatedTrainer(net, np.full(106, 0.6), np.append(np.full(100, 0.15), RESISTANCE))
    budget = Budget(net, trainer, SHAPE, 0.65, 300, measure)
    run(budget, trainer, 600)
    assert budget.met and 0.64 <= budget.share <= 0.65 and budget.held[100:].sum() == 3


def test_states_continue_bit_for_bit():
    """A search that is saved at any step goes on as if nothing had happened."""
    for stop in (7, 100, 123, 299):
        whole, continued = search(steps=200), search(steps=200)
        run(whole[1], whole[0], stop)
        continued[0].__dict__.update({key: np.copy(value) for key, value in whole[0].__dict__.items()
                                      if isinstance(value, np.ndarray)})
        continued[1].set_states(whole[1].states())
        first, second = (run(budget, trainer, 300) for trainer, budget in (whole, continued))
        assert [row[:2] for row in first] == [row[:2] for row in second]
        assert whole[0].values.tolist() == continued[0].values.tolist()


def test_a_longer_run_continues_the_search_that_it_began():
    """Its pace stays, bit for bit, although the new run would have searched for longer."""
    whole, longer = search(steps=300), search(steps=2000)
    run(whole[1], whole[0], 100)
    longer[0].__dict__.update({key: np.copy(value) for key, value in whole[0].__dict__.items()
                               if isinstance(value, np.ndarray)})
    longer[1].set_states(whole[1].states())
    first, second = (run(budget, trainer, 400) for trainer, budget in (whole, longer))
    assert [row[:2] for row in first] == [row[:2] for row in second] and whole[1].met
    assert longer[1].planned == whole[1].planned


@pytest.mark.parametrize('name', ['held', 'values', 'share', 'deadline'])
def test_states_of_another_budget_are_refused(name):
    _, budget = search()
    states = budget.states()
    for wrong in ({key: value for key, value in states.items() if key != name}, {**states, name: np.zeros(7)}):
        with pytest.raises(SSSError, match=f'has no {name} that fits'):
            budget.set_states(wrong)


def test_a_budget_below_the_floor_is_refused():
    with pytest.raises(SSSError, match=r'0\.3 .*0\.334 remain'):
        search([('neuron', 3)] * 2, resistance=0.0, target=0.3)
    with pytest.raises(SSSError, match=r'0\.667 remain'):
        search([('neuron', 3)] * 2, resistance=0.0, target=0.3, multipliers={'1': 0.0})
    net = named(*BLOCKS)
    for settings, words in (({'target': 0}, 'a budget of 0 is'), ({'target': 1.01}, '1.01'),
                            ({'target': '0.5'}, "'0.5'"), ({'steps': 0}, 'search of 0 steps'),
                            ({'steps': 2.5}, 'search of 2.5 steps'), ({'wait': -1}, 'wait of -1 steps'),
                            ({'wait': 0.5}, 'wait of 0.5 steps'), ({'what': 'parameters'}, "'parameters' would be")):
        with pytest.raises(SSSError, match=words):
            Budget(net, SimulatedTrainer(net, [0.6] * 6), SHAPE, **{'target': 0.5, 'steps': 10, **settings})
    with pytest.raises(SSSError, match='both the same network'):
        Budget(net, SimulatedTrainer(named(*BLOCKS), [0.6] * 6), SHAPE, 0.5, 10)


def test_a_trainer_whose_factors_have_stopped_serves_no_second_budget():
    trainer, second = search()
    trainer.optimizer.train_factors = False
    with pytest.raises(SSSError, match='have stopped'):
        second.step()


def test_a_search_that_ends_at_a_rate_of_almost_zero_is_refused():
    """Cosine: at 0.9 of its length 2.4 % of the rate are left, at 0.98 0.1 %. The schedule itself does not run."""
    for wait, steps in ((0, 98), (48, 50), (0, 150)):
        after = f' after a wait of {wait}' if wait else ''
        with pytest.raises(SSSError, match=f'search of {steps} steps{after} ends at a learning rate of'):
            net = named(*BLOCKS)
            Budget(net, SimulatedTrainer(net, [0.6] * 6, schedule=CosineScheduler(100, base_lr=0.1)), SHAPE, 0.5, steps,
                   equal_costs, wait=wait)
    falls = MultiFactorScheduler([50, 80], factor=0.1, base_lr=0.1)
    trainer, budget = search(steps=90, schedule=falls)
    assert falls(1) == 0.1
    search(steps=90, schedule=CosineScheduler(100, base_lr=0.1))


def test_all_of_it_is_met_at_once():
    trainer, budget = search(target=1)
    assert budget.met and budget.done and trainer.gamma == 0 and not budget.held.any()


def test_what_would_fit_is_not_inside_of_a_block_that_is_gone():
    net = sss.get_model('cifar_resnet20', classes=10, in_channels=1, factors=['neuron', 'block'], depths=[1, 1, 1],
                        widths=[8, 8, 16])
    net.initialize()
    trainer = sss.make_trainer(net, gamma=0.1, learning_rate=0.1)
    budget = sss.Budget(net, trainer, (1, 1, 16, 16), target=0.5, steps=100)
    first = {name: int(np.flatnonzero(budget.layer == i)[0]) for i, name in enumerate(budget.names)}
    budget.hold(np.array([first['stage1.0.norm2'], first['stage3.0.norm2'], first['stage1.0.conv2']]))
    budget.target = budget.share        # the neuron inside costs nothing, so it is within the budget
    assert budget.would_fit() is None
    budget.target = budget.share + 0.05
    assert budget.would_fit() == 'stage3.0.norm2'
    budget.target = 1.0
    assert budget.would_fit() == 'stage1.0.conv2'
