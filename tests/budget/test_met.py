"""Runs that are asked for a size: how much is left, what went, and what is written down about it."""
import re

import numpy as np
import pytest
from asked import BLOCKS, GROUPS, MIXED, NEURONS, Asked

from sss_gluon import SSSError
from sss_gluon.deploy import prune
from sss_gluon.deploy.sizes import sizes
from sss_gluon.methods import train
from sss_gluon.train import Config, RunFolder

slow = pytest.mark.slow
CASES = {       # settings, what is counted
    'blocks': (BLOCKS, 'macs'),
    'neurons and blocks': (MIXED, 'macs'),
    'groups and blocks': (GROUPS, 'macs'),
    'neurons': (NEURONS, 'macs'),
    'neurons of 2 channels': (dict(NEURONS, neuron_block=2), 'macs'),
    'parameters': (dict(MIXED, target_macs=None, target_params=0.5), 'params'),
    'weighted': (dict(MIXED, gamma_weighting='macs'), 'macs'),
    'a stage that stays': (dict(MIXED, target_macs=0.75, gamma_mult={'stage2': 0}), 'macs'),
    'factors of either sign': (dict(BLOCKS, non_negative=False), 'macs'),
}

FAST = ('blocks', 'neurons and blocks')


@pytest.fixture(params=[pytest.param(name, marks=[slow] * (name not in FAST)) for name in CASES])
def case(request, configure):
    settings, which = CASES[request.param]
    lines = []
    asked = Asked(train(configure(**settings), lines.append))
    return asked, which, settings.get('target_macs') or settings['target_params'], lines


def test_a_budget_is_met(case):
    asked, which, target, lines = case
    left = asked.share(which)
    assert 0 < left <= target
    back = {name: asked.share(which, name) for name, mask in asked.held.items() if mask.any()}
    assert max(back.values()) > target or min(back.values()) == left       # not one too many, if any counts
    line, = (' '.join(line.split()) for line in lines if line.startswith('budget met after'))
    fits = {name: share for name, share in back.items() if share <= target and asked.counts(name)}
    named = re.search("one (?:neuron|group|block) of layer '(.*)' would still fit", line)
    assert (named and back[named.group(1)]) == (max(fits.values()) if fits else None)
    assert any(f'  {left:.1%} {which.replace("macs", "MACs")}' in line for line in lines)
    assert f'{left:.1%} of the' in line and f'{target:.1%} asked for' in line
    check_exact_zeros(asked)
    check_table(asked, left, target, int(re.search(r'after (\d+) steps', line).group(1)))
    check_pruned(asked, which, left)


def check_exact_zeros(asked):
    """What is held is zero; blocks are folded into the weights; of each layer of neurons or groups one is left."""
    for name, mask in asked.held.items():
        there = asked.factors[name][~mask]
        assert (asked.factors[name][mask] == 0).all()
        assert not mask.all() or mask.size == 1
        assert set(there) <= {1} if asked.kinds[name] == 'block' else (there != 1).any()
    for pattern, multiplier in asked.config.gamma_mult.items():
        assert multiplier == 0 and not any(mask.any() for name, mask in asked.held.items() if re.search(pattern, name))


def check_table(asked, left, target, met):
    steps = 18 * asked.config.epochs
    search = max(1, round(asked.config.search * steps))
    for row in asked.rows:
        done = min(18 * int(row['epoch']), met)
        assert float(row['planned_left']) == pytest.approx(max(target, 1 - (1 - target) * done / search), abs=1e-6)
        assert float(row['gamma']) >= 0
    values = [float(row['gamma']) for row in asked.rows]
    last = -(-met // 18)                # the epoch in which it was met
    weighted = asked.config.gamma_weighting != Config().gamma_weighting     # γ counts more for some than they resist
    assert values[0] >= asked.config.gamma and max(values[last:], default=0) == 0
    assert min(values[:last]) >= asked.config.gamma or weighted and min(values[:last]) > 0
    held, shares = ([float(row[key]) for row in asked.rows] for key in ('held', 'held_left'))
    assert held == sorted(held) and shares == sorted(shares, reverse=True)
    assert held[-1] == sum(mask.sum() for mask in asked.held.values()) and shares[-1] == pytest.approx(left, abs=1e-6)
    assert set(held[last - 1:]) == {held[-1]} and (last < 2 or held[last - 2] < held[-1])


def check_pruned(asked, which, left):
    """The compact network has the share that was reported, and lacks what was held."""
    structure = prune(asked.run.path, lambda line: None).structure
    before, after = sizes(str(asked.run.path))
    assert getattr(after, which) / getattr(before, which) == pytest.approx(left, abs=2e-6)
    for name, mask in asked.held.items():
        assert not set(np.flatnonzero(mask)) & set(structure.factors[name]['kept'])
    assert int(asked.rows[-1]['macs_left']) == after.macs and int(asked.rows[-1]['params_left']) == after.params


def test_the_share_of_another_run(configure, tmp_path):
    """match= reads it from the other run's evaluation."""
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'config.yaml').write_text('')
    (other / 'evaluation.csv').write_text('network,macs\nunpruned,1000\ncompact,613\n')
    lines = []
    asked = Asked(train(configure(**dict(BLOCKS, target_macs=None, match=str(other))), lines.append))
    assert asked.share() <= 0.613
    assert any('61.3% asked for' in line for line in lines)


def test_a_floor_that_cannot_be_met_is_refused_before_the_first_step(configure):
    """All but one neuron of each layer: counted independently, by masks."""
    config = configure(**dict(MIXED, factors=['neuron'], target_macs=0.05))
    with pytest.raises(SSSError) as error:
        train(config, lambda line: None)
    asked = configure(**dict(MIXED, factors=['neuron'], target_macs=None, search=0.15, epochs=1))
    asked.run += '-counted'
    found = Asked(train(asked, lambda line: None))
    least = found.counter.share({name: np.arange(mask.size) == 0 for name, mask in found.held.items()}).macs
    assert f'{least:.3f}' in str(error.value) and '\n' not in str(error.value)
    run = RunFolder(config.run)
    assert not run.metrics.path.exists() and not list(run.checkpoints.glob('*.npz'))


def test_all_of_the_network(configure):
    """target=1 trains without cutting."""
    asked = Asked(train(configure(**dict(BLOCKS, target_macs=1, epochs=2)), lambda line: None))
    assert all((value == 1).all() for value in asked.factors.values())
    assert [(row['held'], float(row['held_left']), float(row['gamma'])) for row in asked.rows] == [('0', 1, 0)] * 2


def test_a_budget_that_is_not_met_is_said(configure):
    """With what to do, in the log and in diagnosis.txt."""
    lines, settings = [], dict(BLOCKS, epochs=1, search=1.0, target_macs=0.3, learning_rate=0.001)
    run = train(configure(**settings), lines.append)
    text = (run.path / 'diagnosis.txt').read_text('utf-8').strip()
    assert text == lines[-1] and '\n' not in text
    assert 'not met' in text and '30.0%' in text and 'epochs' in text and 'learning_rate' in text
    assert float(run.metrics.rows()[-1]['held_left']) > 0.3
