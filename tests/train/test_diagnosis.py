"""What a run says in which nothing became zero, held against a simulation of the equations."""
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from sss_gluon import scaling_factors
from sss_gluon.deploy import prune
from sss_gluon.errors import SSSError
from sss_gluon.methods import diagnosis as diagnosis_module
from sss_gluon.methods import train
from sss_gluon.methods.diagnosis import Pressure, explain, explain_collapse, mean_gradients, smallest
from sss_gluon.train import RunFolder
from sss_gluon.train.loop import Training
from sss_gluon.train.method import Method


def quiet(line):
    pass


def simulate(value, gradient, gamma, rate, momentum, steps, v=0.0):
    """Equations 10-12 with the projection; the value after each step, and the last velocity."""
    values = []
    for _ in range(steps):
        z = value - rate * gradient
        s = np.sign(z) * max(0.0, abs(z) - rate * gamma)
        v = s - value + momentum * v
        value = max(0.0, s + momentum * v)
        values.append(value)
    return np.array(values), v


def steps_to_zero(*arguments, **keywords):
    return int(np.flatnonzero(simulate(*arguments, **keywords)[0] == 0)[0]) + 1


def numbers(text):
    """Suggested γ, and the number of steps or None."""
    text = ' '.join(text.split())
    gamma = float(re.search(r'try gamma=([\d.e-]+) or more', text).group(1))
    steps = re.search(r'about ([\d,]+) more steps at learning rate ([\d.]*\d)', text)
    return gamma, steps and (int(steps.group(1).replace(',', '')), float(steps.group(2)))


def least_gamma(gradient, rate, momentum, steps):
    """The smallest γ that brings a factor from 1 to 0 in so many steps, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if simulate(1.0, gradient, middle, rate, momentum, steps)[0].min() == 0:
            high = middle
        else:
            low = middle
    return high


@pytest.mark.parametrize('gamma, gradient, rate, momentum, steps', [
    (0.001, 0.0, 0.05, 0.9, 1000), (0.002, -0.001, 0.1, 0.9, 500), (0.001, 0.0005, 0.02, 0.9, 2000),
    (0.01, -0.008, 0.1, 0.0, 2000), (0.00003, 0.0, 0.1, 0.99, 2000), (0.05, -0.0495, 0.1, 0.9, 1000),
])
def test_its_numbers_reach_zero_in_a_simulation(gamma, gradient, rate, momentum, steps):
    """A constant gradient: the γ it names gets to zero in the run's steps, the steps it names do with the same γ."""
    values, v = simulate(1.0, gradient, gamma, rate, momentum, steps)
    left = values[-1]
    assert 0.2 < left < 1
    text = explain([Pressure('a[0]', left, gradient, gamma)], rate, rate * steps, momentum)
    suggested, (more, at) = numbers(text)
    assert at == rate
    assert suggested == pytest.approx(least_gamma(gradient, rate, momentum, steps), rel=0.1)
    assert steps_to_zero(1.0, gradient, suggested, rate, momentum, 2 * steps) <= 1.1 * steps
    assert more == pytest.approx(steps_to_zero(left, gradient, gamma, rate, momentum, 20 * steps, v=v), rel=0.1)


def test_a_gradient_that_resists_is_never():
    left = simulate(1.0, -0.02, 0.01, 0.1, 0.9, 500)[0][-1]
    assert left > 1         # it grows
    text = explain([Pressure('a[0]', left, -0.02, 0.01)], 0.1, 50.0, 0.9)
    suggested, steps = numbers(text)
    assert steps is None and 'never' in text
    assert suggested == pytest.approx(least_gamma(-0.02, 0.1, 0.9, 500), rel=0.1)


def test_rates_of_a_schedule_are_added_up():
    """Half of the steps at a tenth of the rate: the least γ is that of the sum."""
    def run(gamma):
        first, v = simulate(1.0, 0.0, gamma, 0.1, 0.9, 500)
        return simulate(first[-1], 0.0, gamma, 0.01, 0.9, 500, v)[0] if first[-1] else first
    left = run(0.001)[-1]
    suggested, (steps, _) = numbers(explain([Pressure('a[0]', left, 0.0, 0.001)], 0.1, 55.0, 0.9))
    assert suggested == pytest.approx(0.1 / 55.0, rel=0.06)
    assert run(1.05 * suggested)[-1] == 0 and run(0.8 * suggested)[-1] > 0
    assert steps == pytest.approx(left * 0.1 / (0.1 * 0.001), rel=0.01)


def test_multipliers_of_gamma_are_taken_out_of_the_advice():
    """γ = 0.01 acts as 0.02 on the one and as 0.005 on the other: both lack 0.001 of pressure."""
    entries = [Pressure('a[0]', 0.5, 0.0, 0.02, 2.0), Pressure('b[0]', 0.5, 0.0, 0.005, 0.5),
               Pressure('c[0]', 0.1, 0.0, 0.0, 0.0)]
    text = explain(entries, 0.1, 50.0, 0.9)
    assert numbers(text)[0] == pytest.approx(0.011)         # (0.02 + 0.001)/2 = 0.0105 and (0.005 + 0.001)/0.5
    row = {line.split()[0]: line.split() for line in text.splitlines() if line[:2] in ('a[', 'b[', 'c[')}
    assert [row[name][-1] for name in ('a[0]', 'b[0]', 'c[0]')] == ['0.011', '0.012', 'inf']
    assert row['c[0]'][-2] == 'never'


def test_negative_factors_shrink_upwards():
    up, down = (explain([Pressure('a[0]', value, gradient, 0.01)], 0.1, 50.0, 0.9) for value, gradient in
                ((-0.5, 0.004), (0.5, -0.004)))
    assert numbers(up) == numbers(down) and numbers(up)[1][0] == pytest.approx(0.5 * 0.1 / (0.1 * 0.006), abs=1)


def test_gamma_is_rounded_upwards():
    assert numbers(explain([Pressure('a[0]', 0.04, 0.0, 0.1)], 0.1, 50.0, 0.9))[0] == 0.11      # 0.10008


def test_the_smallest_come_first_and_those_without_penalty_last(configure):
    training = Training(configure(factors=['neuron', 'block']), Method(), RunFolder(configure().run), [mx.cpu()],
                        quiet)
    factors = scaling_factors(training.net)
    for i, factor in enumerate(factors):
        factor.parameter.set_data(nd.full(factor.parameter.shape, 0.9 - 0.1 * i))
    values = nd.array([0.3, 0.2] + [1] * 14)
    factors[4].parameter.set_data(values)
    gradients = {factor.name: np.full(factor.parameter.shape, float(i)) for i, factor in enumerate(factors)}
    multipliers = dict(dict.fromkeys(gradients, 1.0), **{factors[5].name: 0.0})
    found = smallest(training.net, gradients, 0.5, multipliers, count=5)
    assert [entry.name for entry in found] == ['stage3.0.norm2[1]', 'stage3.0.norm2[0]', 'stage2.0.conv2[0]'] \
        + [f'stage2.0.norm2[{i}]' for i in range(2)]
    assert found[0] == Pressure('stage3.0.norm2[1]', pytest.approx(0.2), 4.0, 0.5, 1.0)


@pytest.mark.parametrize('accumulation', [1, 2])
def test_mean_gradients_leave_the_network_as_it_was(configure, accumulation):
    config = configure(grad_accumulation=accumulation, factors=['neuron', 'block'])
    training = Training(config, Method(), RunFolder(config.run), [mx.cpu()], quiet)
    batches = training.batches.epoch(0)
    few = [next(batches) for _ in range(3)]
    batches.close()
    for k, (x, y) in enumerate(few):
        training.step(0, k, x, y)
    mx.nd.waitall()
    before = {name: p.data().asnumpy() for name, p in training.net._collect_params_with_prefix().items()}
    found = mean_gradients(training.net, training.loss, few, mx.cpu())
    after = {name: p.data().asnumpy() for name, p in training.net._collect_params_with_prefix().items()}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)

    loss, sums = gluon.loss.SoftmaxCrossEntropyLoss(), {}       # one batch after the other, by hand
    for x, y in few:
        training.net.collect_params().zero_grad()
        with autograd.record():
            total = loss(training.net(nd.array(x)), nd.array(y)).sum()
        total.backward()
        for factor in scaling_factors(training.net):
            sums[factor.name] = sums.get(factor.name, 0) + factor.parameter.grad().asnumpy() / (3 * 64)
    assert list(found) == list(sums)
    for name, value in sums.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-8, err_msg=name)


def arrays(run):
    with np.load(sorted(run.checkpoints.iterdir())[-1]) as file:
        return {key: file[key] for key in file.files}


def test_a_run_with_gamma_far_too_small_says_why(configure, monkeypatch):
    networks, means = [], diagnosis_module.mean_gradients

    def seen(net, *arguments):
        before = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
        result = means(net, *arguments)
        networks.append((before, {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}))
        return result

    monkeypatch.setattr(diagnosis_module, 'mean_gradients', seen)
    said = []
    run = train(configure(gamma=1e-4, lr_mode='step', lr_decay_epochs=[1]), said.append)
    (before, after), = networks
    saved = arrays(run)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
        np.testing.assert_array_equal(saved[f'param:{name}'], value, err_msg=name)
    text = said[-1]
    assert text.startswith('No factor reached zero') and (run.path / 'diagnosis.txt').read_text('utf-8') == text + '\n'
    suggested, _ = numbers(text)
    # 18 steps at 0.05 and 18 at 0.005
    rows = {line.split()[0]: [float(cell.replace(',', '')) if cell != 'never' else None for cell in line.split()[1:]]
            for line in text.splitlines() if line.startswith('stage')}
    last = {key: float(value) for key, value in run.factors.rows()[-1].items() if key != 'epoch'}
    assert set(rows) == set(last) and len(rows) == 3
    for name, (value, gradient, gamma, steps, enough) in rows.items():
        assert value == pytest.approx(last[name], abs=1e-4) and gamma == 1e-4
        assert enough == pytest.approx(1e-4 + last[name] * 0.1 / (18 * 0.055), rel=0.06)
        force = 1e-4 + gradient
        assert steps is None if force < 0 else steps == pytest.approx(last[name] * 0.1 / (0.05 * force), rel=0.02)
    assert suggested == min(row[-1] for row in rows.values())


def test_a_run_in_which_everything_goes_says_so(configure):
    """Once, after the epoch at which it happened, and at the end and in prune with a γ that is half as large."""
    said = []
    run = train(configure(epochs=3, gamma=20.0, factors=['block']), said.append)
    lines = '\n'.join(said).splitlines()
    alive = [int(row['blocks_alive']) for row in run.metrics.rows()]
    assert alive[0] == 0 and [line for line in lines if 'warning' in line] == [lines[2], lines[-1]]
    assert lines[2] == 'warning: after epoch 1 all 3 blocks are gone'
    assert re.search('all 3 blocks are gone.*try gamma=10; .*find-gamma.*target_macs=', lines[-1])
    assert (run.path / 'diagnosis.txt').read_text('utf-8') == lines[-1] + '\n'
    logged = []
    assert prune(run.path, logged.append).collapsed == 'all 3 blocks are gone' and logged == lines[-1:]
    again = []
    train(configure(epochs=4, gamma=20.0, factors=['block']), again.append)        # it was known before
    assert [line.startswith('warning') for line in again if 'warning' in line] == [True] and again[-1] == lines[-1]


def test_a_budget_that_would_take_every_block_names_the_smallest_that_is_met(configure):
    settings = dict(epochs=3, factors=['block'], search=0.7)
    with pytest.raises(SSSError, match=r'0\.13 .*: .* 0\.\d+ remain') as refused:
        train(configure(target_macs=0.13, **settings), quiet)
    least = float(re.search(r'(0\.\d+) remain', str(refused.value)).group(1))
    said = []
    train(configure(target_macs=least, **settings), said.append)
    assert 'gone' not in said[-1] and f'{100 * least:.1f}' in ' '.join(said)


@pytest.mark.parametrize('setting, value, advice', [
    ('gamma', 0.3, 'gamma=0.15; or'), ('target_macs', 0.1, 'target_macs=0.2'), ('target_latency', 0.8, 'latency=0.9')])
def test_what_is_tried_next(setting, value, advice):
    assert advice in explain_collapse('all 3 blocks are gone', setting, value)


def test_a_penalty_that_removes_everything_says_so(configure):
    said = []
    run = train(configure(method='ssl', factors=['block'], method_options=dict(strength=50.0)), said.append)
    assert 'all 3 blocks are gone' in said[-1] and 'try method_options.strength=25' in said[-1]
    assert (run.path / 'diagnosis.txt').read_text('utf-8') == said[-1] + '\n'


@pytest.mark.parametrize('settings', [dict(gamma=0.14, learning_rate=0.1), dict(factors=[], gamma=0.0)])
def test_no_diagnosis_without_need(configure, settings):
    said = []
    run = train(configure(epochs=1, **settings), said.append)
    assert len(said) == 2 and not (run.path / 'diagnosis.txt').exists()


def test_without_gamma_nothing_is_advised(configure):
    said = []
    run = train(configure(epochs=1, gamma=0.0), said.append)
    assert 'gamma=0' in said[-1] and (run.path / 'diagnosis.txt').read_text('utf-8') == said[-1] + '\n'
