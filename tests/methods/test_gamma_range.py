"""The range finder for γ: its model against a simulation of the equations, and ramps on the digits."""
import math
import os

import mxnet as mx
import numpy as np
import pytest

from sss_gluon import SSSError, apg
from sss_gluon.cli.tables import describe_gamma
from sss_gluon.csv_files import read_csv
from sss_gluon.methods import find_gamma, gamma_range
from sss_gluon.methods.resistance import LEVELS, least_gammas, resistances
from sss_gluon.report.gamma import write_gamma
from sss_gluon.train import Config


def quiet(line):
    pass


def simulate(pull, gammas, rates, momentum):
    """Equations 10-12 in float64 with the gradient −pull(λ): factors before every step, and after the last."""
    value, v, values = 1.0, 0.0, []
    for gamma, rate in zip(gammas, rates):
        values.append(value)
        z = value + rate * pull(value)
        s = math.copysign(max(0.0, abs(z) - rate * gamma), z)
        v = s - value + momentum * v
        value = max(0.0, s + momentum * v)
    return np.array(values + [value])


def true_gamma(pull, rates, momentum):
    """The least constant γ that reaches zero within the rates, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        reached = simulate(pull, [middle] * len(rates), rates, momentum).min() == 0
        low, high = (low, middle) if reached else (middle, high)
    return high


PULLS = {
    'none': lambda value: 0.0,
    'constant': lambda value: 0.02,
    'grows as the factor shrinks': lambda value: 0.05 * (1 - value),
    'most in the middle': lambda value: 0.2 * value * (1 - value),
    'strong': lambda value: 0.3,
}
RUNS = {'long': np.full(6000, 0.1), 'short': np.full(250, 0.1),
        'two rates': np.repeat([0.1, 0.01], 1500), 'cosine': 0.05 * (1 + np.cos(np.linspace(0, np.pi, 1000)))}


@pytest.mark.parametrize('run', RUNS)
@pytest.mark.parametrize('momentum', [0.9, 0.5])
def test_a_short_ramp_tells_the_gamma_of_a_run(run, momentum):
    """The ramp has 300 steps whatever the length of the run, and removes at a γ that is up to 50 times as large."""
    gammas, ramp = np.geomspace(3e-4, 3, 300), np.full(300, 0.1)
    values = np.array([simulate(pull, gammas, ramp, momentum)[:-1] for pull in PULLS.values()]).T
    gradients = np.array([[-pull(value) for value in column] for pull, column in zip(PULLS.values(), values.T)]).T
    found = least_gammas(resistances(values, gradients, momentum), np.ones(len(PULLS)), RUNS[run].sum(), momentum)
    for name, gamma, pull in zip(PULLS, found, PULLS.values()):
        assert gamma == pytest.approx(true_gamma(pull, RUNS[run], momentum), rel=0.3, abs=1e-4), name


def test_a_gradient_that_helps_is_not_counted_on():
    """γ = (1 − μ)/Σ η moves a factor from 1 to 0 by itself."""
    values, gradients = np.linspace(1, 0, 50)[:, None], np.full((50, 1), 0.3)
    found = least_gammas(resistances(values, gradients, 0.9), np.ones(1), 20.0, 0.9)
    assert found == pytest.approx(0.1 / 20)


def test_the_run_is_told_in_closed_form():
    """Half of the way resists by 0.01, half by 0.03; γ acts twice as strongly on the second, not at all on the last."""
    resistance = np.repeat([[0.01], [0.03]], 3, axis=1)
    found = least_gammas(resistance, np.array([1, 2, 0]), 100.0, 0.9)
    # 0.05/(γ − 0.01) + 0.05/(γ − 0.03) = 100
    assert found[0] == pytest.approx(0.0205 + math.sqrt(0.0205 ** 2 - 0.00032), rel=1e-9)
    assert found[1] == pytest.approx(found[0] / 2) and found[2] == math.inf


def test_resistances_are_means_over_the_parts_of_the_way():
    values = np.array([[1, 1], [0.9, 0.9], [0.7, 1.1], [0.5, 1.0], [0.3, 0.9], [0.1, 0.9], [0, 0.9]])
    gradients = -np.arange(14.0).reshape(7, 2)      # resistances 0, 2, 4, … and 1, 3, 5, …
    found = resistances(values, gradients, 0.0)
    assert LEVELS == 5 and found[:, 0].tolist() == [2.0, 5.0, 7.0, 9.0, 11.0]       # the last steps of each, both ends
    assert found[:, 1].tolist() == [7.0] * 5        # it never leaves the first part


# --- ramps ---

@pytest.fixture(scope='module')
def found():
    """A ramp of a small ResNet with neurons and blocks, and what was said."""
    said = []
    return find_gamma(Config(**SETTINGS), 60, said.append), said


SETTINGS = dict(model='cifar_resnet20', model_options=dict(depths=[1, 1, 1], widths=[8, 8, 16]), image_size=8,
                factors=['neuron', 'block'], augment_pad=1, augment_flip=False, batch_size=64, epochs=20,
                learning_rate=0.05)


def test_gamma_rises_until_almost_everything_is_gone(found):
    result, said = found
    gammas = [size.gamma for size in result.ramp]
    assert 20 < len(gammas) == len(result.losses) <= 60 and len(said) == 1
    assert gammas[0] == pytest.approx(0.1 * 0.1 / (0.05 * 60))
    assert np.allclose(np.diff(np.log10(gammas)), 4 / 59)
    assert result.ramp[0].macs == result.ramp[0].params == 1
    assert all(size.macs > 0.1 for size in result.ramp[:-1]) and result.ramp[-1].macs < 0.5
    assert result.ramp[0].alive == {'neuron': (32, 32), 'block': (3, 3)}


def test_predictions_fall_and_the_sweep_spans_the_useful_range(found):
    result, _ = found
    gammas, shares = ([getattr(size, key) for size in result.predicted] for key in ('gamma', 'macs'))
    assert gammas == sorted(set(gammas)) and all(a >= b for a, b in zip(shares, shares[1:]))
    assert shares[0] >= 0.8 and shares[-1] < 0.35
    half = result.at(0.5)
    assert half.macs <= 0.5 and all(size.macs > 0.5 for size in result.predicted if size.gamma < half.gamma)
    assert result.at(0.0) is None or result.at(0.0).macs == 0
    assert 3 <= len(result.sweep) <= 5 and result.sweep == sorted(set(result.sweep))
    assert result.sweep[0] < result.at(0.8).gamma < half.gamma < result.at(0.35).gamma < result.sweep[-1]


def test_a_longer_run_needs_a_smaller_gamma(found):
    """The same ramp, bit for bit: only the run that is predicted differs."""
    longer = find_gamma(Config(**dict(SETTINGS, epochs=200)), 60, quiet)
    assert longer.ramp == found[0].ramp and longer.losses == found[0].losses
    assert longer.at(0.5).gamma < found[0].at(0.5).gamma


def test_gamma_and_run_of_the_configuration_do_not_matter(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_gamma(Config(**SETTINGS, gamma=7.0, run='mine'), 60, quiet) == found[0]
    assert os.listdir(tmp_path) == []


def test_multipliers_count(found):
    """γ acts twice as strongly on all factors, so half of it does the same."""
    twice = find_gamma(Config(**SETTINGS, gamma_mult={'.': 2.0}), 60, quiet)
    assert [size.gamma for size in twice.ramp] == pytest.approx([size.gamma / 2 for size in found[0].ramp], rel=1e-6)
    assert twice.at(0.5).gamma == pytest.approx(found[0].at(0.5).gamma / 2, rel=0.05)
    spared = find_gamma(Config(**SETTINGS, gamma_mult={'norm': 0.0}), 60, quiet)
    assert {size.alive['neuron'] for size in [*spared.ramp, *spared.predicted]} == {(32, 32)}
    assert spared.predicted[-1].alive['block'] == (0, 3)


@pytest.mark.parametrize('settings', [dict(grad_accumulation=2), dict(devices=['cpu0', 'cpu1'])])
def test_gradients_of_all_parts_of_a_batch_count(found, settings):
    """Statistics of half batches differ, and little else."""
    other = find_gamma(Config(**SETTINGS, **settings), 60, quiet)
    assert other.at(0.5).gamma == pytest.approx(found[0].at(0.5).gamma, rel=0.5)


@pytest.mark.parametrize('warmup, steps', [(0.2, 4), (3, 10)])      # epochs of 18 steps; a sixth of 60 steps
def test_a_warm_up_comes_before_the_ramp(found, monkeypatch, warmup, steps):
    """Without γ, at rates that rise to that of the run; a network that does not learn yet would resist nothing."""
    step, seen = gamma_range.Training.step, []

    def watched(self, *arguments):
        result = step(self, *arguments)
        seen.append((self.trainer.optimizer.gamma, self.trainer.learning_rate))
        return result

    monkeypatch.setattr(gamma_range.Training, 'step', watched)
    warmed = find_gamma(Config(**SETTINGS, warmup_epochs=warmup), 60, quiet)
    gammas, rates = zip(*seen)
    assert not any(gammas[:steps]) and list(gammas[steps:]) == [size.gamma for size in warmed.ramp]
    assert gammas[steps] == found[0].ramp[0].gamma and warmed.ramp != found[0].ramp
    expected = [0.05 * min(1, (number + 1) / steps) for number in range(len(rates))]
    assert rates == pytest.approx(expected)


def test_a_loss_that_is_not_finite_ends_the_ramp(monkeypatch):
    step, taken = gamma_range.Training.step, []

    def broken(self, *arguments):
        taken.append(1)
        results = step(self, *arguments)
        return [result * math.nan for result in results] if len(taken) > limit else results

    monkeypatch.setattr(gamma_range.Training, 'step', broken)
    limit, said = 50, []
    result = find_gamma(Config(**SETTINGS), 60, said.append)
    assert len(result.ramp) == 50 and 'the loss is nan' in said[-1] and result.sweep
    taken.clear()
    limit = 5
    with pytest.raises(SSSError, match='the loss is nan after 5 steps.*lower learning_rate'):
        find_gamma(Config(**SETTINGS), 60, said.append)


def test_what_is_written_and_said(found, tmp_path):
    result, _ = found
    paths = write_gamma(result, tmp_path / 'a', 'title')
    assert sorted(os.listdir(tmp_path / 'a')) == sorted(path.name for path in paths)
    ramp, predicted = ([row for _, row in read_csv(path)] for path in paths[:2])
    assert [int(row['step']) for row in ramp] == list(range(1, len(result.ramp) + 1))
    for rows, sizes in ((ramp, result.ramp), (predicted, result.predicted)):
        for row, size in zip(rows, sizes):
            assert [float(row[key]) for key in ('gamma', 'macs_share', 'params_share')] \
                == pytest.approx([size.gamma, size.macs, size.params], rel=1e-5, abs=1e-6)
            assert (int(row['neurons_alive']), int(row['blocks'])) == (size.alive['neuron'][0], 3)
    again = write_gamma(result, tmp_path / 'b', 'title')
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert paths[2].read_bytes()[:4] == b'\x89PNG' and paths[2].stat().st_size > 10_000
    text = describe_gamma(result)
    assert f'gamma: [{", ".join(f"{gamma:g}" for gamma in result.sweep)}]' in text and '20 epochs' in text
    assert f'{result.at(0.5).macs:.1%}' in text


def test_the_optimizer_reads_gamma_at_every_step():
    """The ramp sets it; a threshold that was cached would not rise."""
    optimizer = apg.APG(gamma=0.1, momentum=0.0, learning_rate=0.5)
    weight, grad, state = mx.nd.ones(1), mx.nd.zeros(1), mx.nd.zeros(1)
    for gamma, expected in ((0.1, 0.95), (0.2, 0.85), (0.4, 0.65)):
        optimizer.gamma = gamma
        optimizer.update(0, weight, grad, state)
        assert weight.asscalar() == pytest.approx(expected)
